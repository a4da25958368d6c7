"""Happy eyeballs over a host's addresses, by HTTP providers; SMTP uses the same code (`smtp/test_connect.py`)."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
import uvloop

from mailroom.errors import Misconfigured, Unavailable
from tests.black_hole import black_hole
from tests.providers.http.test_egress import sent
from tests.providers.http_service import HttpService, service_of
from tests.providers.test_resend import VENDOR
from tests.proxies import Proxy

LOOPS = pytest.mark.parametrize("loop", [asyncio.SelectorEventLoop, uvloop.Loop], ids=["asyncio", "uvloop"])
NOBODY = ("127.0.0.1", 1)


class Names:
    """What all names resolve to: addresses of IPv4 only."""

    def __init__(self) -> None:
        self.addresses: Sequence[tuple[str, int]] = ()
        self.families: list[int] = []
        """The requested family of each look-up."""

    def look_up(self, host: str, port: int, family: int) -> list[Any]:
        """Return what `getaddrinfo` does; addresses are themselves, for uvloop looks them up once more."""
        stream = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
        if host[0].isdigit():
            return [(*stream, (host, port))]
        self.families.append(family)
        if family == socket.AF_INET6:
            raise socket.gaierror(socket.EAI_NODATA, "No address associated with hostname")
        return [(*stream, address) for address in self.addresses]


def run(loop: type[asyncio.AbstractEventLoop], main: Callable[[HttpService, Names], Awaitable[None]]) -> None:
    """Run it on a loop whose resolver is the test's."""
    names = Names()

    async def look_up(_loop: Any, host: str, port: int, *, family: int, **_kind: Any) -> list[Any]:
        return names.look_up(host, port, family)

    async def everything() -> None:
        async with service_of(VENDOR) as service:
            await main(service, names)

    resolving: Any = type("Resolving", (loop,), {"getaddrinfo": look_up})
    with asyncio.Runner(loop_factory=resolving) as runner:
        runner.run(everything())


@LOOPS
def test_an_address_that_drops_packets_does_not_use_up_the_time_out(loop: type[asyncio.AbstractEventLoop]) -> None:
    async def main(service: HttpService, names: Names) -> None:
        with black_hole() as first, black_hole("127.0.0.3") as second:
            names.addresses = (first, second, ("127.0.0.1", service.recorder.port))
            await sent(service, connect_timeout=20)
        assert len(service.recorder.requests) == 1

    run(loop, main)


@LOOPS
def test_after_an_address_that_refuses_the_next_is_tried_at_once(loop: type[asyncio.AbstractEventLoop]) -> None:
    async def main(service: HttpService, names: Names) -> None:
        names.addresses = (*[NOBODY] * 200, ("127.0.0.1", service.recorder.port))  # a quarter of a second each is 50 s
        await sent(service, connect_timeout=20)

    run(loop, main)


@LOOPS
def test_no_other_address_is_tried_beside_one_that_answers(loop: type[asyncio.AbstractEventLoop]) -> None:
    async def main(service: HttpService, names: Names) -> None:
        async with service_of(VENDOR) as other:
            names.addresses = tuple(("127.0.0.1", end.recorder.port) for end in (service, other))
            await sent(service, 3)
            assert (service.connections, other.connections) == (1, 0)

    run(loop, main)


@LOOPS
@pytest.mark.parametrize("scheme", ["http", "socks5"])
def test_happy_eyeballs_apply_to_a_proxys_addresses(loop: type[asyncio.AbstractEventLoop], scheme: str) -> None:
    async def main(service: HttpService, names: Names) -> None:
        async with Proxy() as proxy:
            with black_hole() as hole:
                names.addresses = (hole, ("127.0.0.1", proxy.port))
                await sent(service, proxy=f"{scheme}://proxy.acme.example", connect_timeout=20)
            assert proxy.asked == [f"localhost:{service.recorder.port}"]

    run(loop, main)


@LOOPS
def test_only_addresses_of_local_addresss_family_are_tried(loop: type[asyncio.AbstractEventLoop]) -> None:
    async def main(service: HttpService, names: Names) -> None:
        with black_hole() as hole:
            names.addresses = (hole, ("127.0.0.1", service.recorder.port))
            await sent(service, local_address="127.0.0.7", connect_timeout=20)
            assert service.recorder.requests[0].peer[0] == "127.0.0.7"
            with pytest.raises(Misconfigured, match=r"local_address 192\.0\.2\.1"):
                await sent(service, local_address="192.0.2.1")
            with pytest.raises(Unavailable, match="resolved to an IPv6 address"):
                await sent(service, local_address="::1")
            await sent(service, connect_timeout=20)
        assert names.families == [socket.AF_INET, socket.AF_INET, socket.AF_INET6, 0]

    run(loop, main)


@LOOPS
def test_a_host_of_which_no_address_answers_is_unavailable(loop: type[asyncio.AbstractEventLoop]) -> None:
    async def main(service: HttpService, names: Names) -> None:
        names.addresses = (NOBODY, ("127.0.0.2", 1))
        with pytest.raises(Unavailable, match="cannot connect to localhost"):
            await sent(service)
        with black_hole() as first, black_hole("127.0.0.3") as second:
            names.addresses = (first, second)
            with pytest.raises(Unavailable, match="not ready for a request"):
                await sent(service, connect_timeout=0.05)

    run(loop, main)
