"""The race between a host's addresses, as HTTP providers run it; SMTP runs the same one (`test_smtp_connect`)."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
import uvloop

from mailroom.errors import Misconfigured, Unavailable
from tests.black_hole import black_hole
from tests.providers.http.test_egress import sent
from tests.providers.http_far_end import HttpFarEnd, far_end_of
from tests.providers.test_resend import VENDOR
from tests.proxies import Proxy

LOOPS = pytest.mark.parametrize("loop", [asyncio.SelectorEventLoop, uvloop.Loop], ids=["asyncio", "uvloop"])
NOBODY = ("127.0.0.1", 1)


class Names:
    """What all names resolve to: addresses of IPv4 only."""

    def __init__(self) -> None:
        self.addresses: Sequence[tuple[str, int]] = ()
        self.families: list[int] = []
        """What was asked for, each time."""

    def look_up(self, host: str, port: int, family: int) -> list[Any]:
        """Return what `getaddrinfo` does; addresses are themselves, for uvloop looks them up once more."""
        stream = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
        if host[0].isdigit():
            return [(*stream, (host, port))]
        self.families.append(family)
        if family == socket.AF_INET6:
            raise socket.gaierror(socket.EAI_NODATA, "No address associated with hostname")
        return [(*stream, address) for address in self.addresses]


def run(loop: type[asyncio.AbstractEventLoop], main: Callable[[HttpFarEnd, Names], Awaitable[None]]) -> None:
    """Run it on a loop whose resolver is the test's."""
    names = Names()

    async def look_up(_loop: Any, host: str, port: int, *, family: int, **_kind: Any) -> list[Any]:
        return names.look_up(host, port, family)

    async def everything() -> None:
        async with far_end_of(VENDOR) as far_end:
            await main(far_end, names)

    resolving: Any = type("Resolving", (loop,), {"getaddrinfo": look_up})
    with asyncio.Runner(loop_factory=resolving) as runner:
        runner.run(everything())


@LOOPS
def test_an_address_that_swallows_packets_does_not_eat_the_time_out(loop: type[asyncio.AbstractEventLoop]) -> None:
    async def main(far_end: HttpFarEnd, names: Names) -> None:
        with black_hole() as first, black_hole("127.0.0.3") as second:
            names.addresses = (first, second, ("127.0.0.1", far_end.recorder.port))
            await sent(far_end, connect_timeout=20)
        assert len(far_end.recorder.requests) == 1

    run(loop, main)


@LOOPS
def test_an_address_that_refuses_is_passed_over_at_once(loop: type[asyncio.AbstractEventLoop]) -> None:
    async def main(far_end: HttpFarEnd, names: Names) -> None:
        names.addresses = (*[NOBODY] * 200, ("127.0.0.1", far_end.recorder.port))  # a quarter of a second each is 50 s
        await sent(far_end, connect_timeout=20)

    run(loop, main)


@LOOPS
def test_an_address_that_answers_has_no_rival(loop: type[asyncio.AbstractEventLoop]) -> None:
    async def main(far_end: HttpFarEnd, names: Names) -> None:
        async with far_end_of(VENDOR) as other:
            names.addresses = tuple(("127.0.0.1", end.recorder.port) for end in (far_end, other))
            await sent(far_end, 3)
            assert (far_end.connections, other.connections) == (1, 0)

    run(loop, main)


@LOOPS
@pytest.mark.parametrize("scheme", ["http", "socks5"])
def test_a_proxys_addresses_race_too(loop: type[asyncio.AbstractEventLoop], scheme: str) -> None:
    async def main(far_end: HttpFarEnd, names: Names) -> None:
        async with Proxy() as proxy:
            with black_hole() as hole:
                names.addresses = (hole, ("127.0.0.1", proxy.port))
                await sent(far_end, proxy=f"{scheme}://proxy.acme.example", connect_timeout=20)
            assert proxy.asked == [f"localhost:{far_end.recorder.port}"]

    run(loop, main)


@LOOPS
def test_all_leave_from_the_local_address_and_only_its_family_runs(loop: type[asyncio.AbstractEventLoop]) -> None:
    async def main(far_end: HttpFarEnd, names: Names) -> None:
        with black_hole() as hole:
            names.addresses = (hole, ("127.0.0.1", far_end.recorder.port))
            await sent(far_end, local_address="127.0.0.7", connect_timeout=20)
            assert far_end.recorder.requests[0].peer[0] == "127.0.0.7"
            with pytest.raises(Misconfigured, match=r"local_address 192\.0\.2\.1"):
                await sent(far_end, local_address="192.0.2.1")
            with pytest.raises(Unavailable, match="resolved to an IPv6 address"):
                await sent(far_end, local_address="::1")
            await sent(far_end, connect_timeout=20)
        assert names.families == [socket.AF_INET, socket.AF_INET, socket.AF_INET6, 0]

    run(loop, main)


@LOOPS
def test_a_race_that_nobody_wins_is_unavailable(loop: type[asyncio.AbstractEventLoop]) -> None:
    async def main(far_end: HttpFarEnd, names: Names) -> None:
        names.addresses = (NOBODY, ("127.0.0.2", 1))
        with pytest.raises(Unavailable, match="cannot connect to localhost"):
            await sent(far_end)
        with black_hole() as first, black_hole("127.0.0.3") as second:
            names.addresses = (first, second)
            with pytest.raises(Unavailable, match="not ready for a request"):
                await sent(far_end, connect_timeout=0.05)

    run(loop, main)
