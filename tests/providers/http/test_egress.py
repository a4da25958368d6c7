"""How HTTP providers connect: from a local address, through proxies, on either event loop."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trustme
import uvloop

from mailroom.errors import Misconfigured, SendingError, Unavailable, Uncertain
from mailroom.message import Receipt
from mailroom.providers import connect
from tests.http_recorder import tls_context
from tests.mails import email
from tests.providers.contract import context
from tests.providers.http_service import HttpService, service_of
from tests.providers.test_resend import VENDOR
from tests.proxies import Proxy

LOGIN = "mail room:s3cr%t:/@pass"
WRITTEN = "mail%20room:s3cr%25t%3A%2F%40pass"
"""The same in a URL."""


async def sent(service: HttpService, number: int = 1, **changes: object) -> Receipt:
    """Send so many mails with these settings and return the last receipt."""
    settings = type(service.settings).model_validate(
        {
            **service.vendor.options,
            "endpoint": service.recorder.url,
            "ca_file": service.settings.ca_file,
            **changes,
        }
    )
    provider = connect(settings, context())
    try:
        for _ in range(number):
            receipt = await provider.send(email())
    finally:
        await provider.aclose()
    return receipt


async def test_connections_use_local_address() -> None:
    async with service_of(VENDOR) as service:
        await sent(service, local_address="127.0.0.7")
        assert service.recorder.requests[0].peer[0] == "127.0.0.7"


async def test_an_address_of_another_machine_is_misconfigured() -> None:
    async with service_of(VENDOR) as service:
        with pytest.raises(Misconfigured, match=r"local_address 192\.0\.2\.1"):
            await sent(service, local_address="192.0.2.1")


@pytest.mark.parametrize("scheme", ["http", "https", "socks5", "socks5h"])
@pytest.mark.parametrize("login", ["", LOGIN], ids=["open", "with a login"])
async def test_requests_go_through_a_proxy(scheme: str, login: str) -> None:
    """The request is encrypted within the tunnel, which is kept like any connection."""
    async with (
        service_of(VENDOR) as service,
        Proxy(login=login, tls=tls_context() if scheme == "https" else None) as proxy,
    ):
        given = f"{WRITTEN}@" if login else ""
        await sent(service, 3, proxy=f"{scheme}://{given}localhost:{proxy.port}")
        assert proxy.asked == [f"localhost:{service.recorder.port}"]
        assert len(service.recorder.requests) == 3
        assert service.connections == 1


@pytest.mark.parametrize("own_authority", [True, False], ids=["with ca_file", "without"])
async def test_a_proxy_with_a_certificate_of_an_unknown_authority_is_refused(
    own_authority: bool,  # noqa: FBT001  # a parameter of the test
) -> None:
    """Otherwise an attacker on the network could read the login and the requested hosts."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(context)
    async with service_of(VENDOR) as service, Proxy(tls=context, login=LOGIN) as proxy:
        changes: dict[str, Any] = {} if own_authority else {"ca_file": None}
        with pytest.raises(Misconfigured, match=f"the certificate of the proxy localhost:{proxy.port} is not valid"):
            await sent(service, proxy=f"https://{WRITTEN}@localhost:{proxy.port}", **changes)
        assert not proxy.asked


async def test_connections_to_the_proxy_use_local_address() -> None:
    async with service_of(VENDOR) as service, Proxy() as proxy:
        with pytest.raises(Misconfigured, match="local_address"):
            await sent(service, proxy=f"http://127.0.0.1:{proxy.port}", local_address="192.0.2.1")
        await sent(service, proxy=f"http://127.0.0.1:{proxy.port}", local_address="127.0.0.7")


@pytest.mark.parametrize("scheme", ["http", "socks5"])
@pytest.mark.parametrize("given", ["", "mail%20room:wrong@"], ids=["none", "a wrong one"])
async def test_a_login_that_the_proxy_refuses_is_misconfigured(scheme: str, given: str) -> None:
    async with service_of(VENDOR) as service, Proxy(login=LOGIN) as proxy:
        with pytest.raises(Misconfigured, match="proxy"):
            await sent(service, proxy=f"{scheme}://{given}127.0.0.1:{proxy.port}")
        assert not service.recorder.requests


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", Unavailable),
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", Misconfigured),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", Unavailable),
        (b"", Unavailable),
        (b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 200_000, Unavailable),
    ],
    ids=["cannot", "may not", "not HTTP", "hangs up", "endless"],
)
async def test_a_proxy_that_opens_no_tunnel(answer: bytes, kind: type[SendingError]) -> None:
    """Nothing was handed over."""
    async with service_of(VENDOR) as service, Proxy() as proxy:
        proxy.answer = answer
        with pytest.raises(kind):
            await sent(service, proxy=f"http://127.0.0.1:{proxy.port}")


@pytest.mark.parametrize(("reply", "kind"), [(1, Unavailable), (2, Misconfigured), (5, Unavailable), (99, Unavailable)])
async def test_a_socks_proxy_that_opens_no_tunnel(reply: int, kind: type[SendingError]) -> None:
    async with service_of(VENDOR) as service, Proxy() as proxy:
        proxy.reply = reply
        with pytest.raises(kind, match="tunnel") as refused:
            await sent(service, proxy=f"socks5://127.0.0.1:{proxy.port}")
        assert refused.value.code == ("SOCKS5" if reply == 99 else f"SOCKS5 {reply}")  # no code of RFC 1928's


async def test_a_server_that_does_not_speak_socks_is_unavailable() -> None:
    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await reader.read()
        writer.close()

    server = await asyncio.start_server(client, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with service_of(VENDOR) as service, server:
        with pytest.raises(Unavailable, match="SOCKS5"):
            await sent(service, proxy=f"socks5://127.0.0.1:{port}")


async def test_the_servers_certificate_is_verified_within_the_tunnel() -> None:
    async with service_of(VENDOR) as service, Proxy() as proxy:
        endpoint = f"https://api.acme.example:{service.recorder.port}"  # the proxy goes to loopback for any name
        with pytest.raises(Misconfigured, match="certificate"):
            await sent(service, proxy=f"http://127.0.0.1:{proxy.port}", endpoint=endpoint)
        assert proxy.asked == [f"api.acme.example:{service.recorder.port}"]


async def test_the_proxys_login_is_not_shown() -> None:
    async with service_of(VENDOR) as service, Proxy(login="someone:else") as proxy:
        url = f"http://{WRITTEN}@127.0.0.1:{proxy.port}"
        with pytest.raises(Misconfigured) as refused:
            await sent(service, proxy=url)
        settings = type(service.settings).model_validate({**service.vendor.options, "proxy": url})
        assert "s3cr" not in f"{settings!r} {settings} {refused.value} {refused.value.code}"


async def _direct(service: HttpService) -> None:
    await sent(service, 3)
    assert service.connections == 1


async def _tunnelled(service: HttpService) -> None:
    for scheme, tls in (("http", None), ("https", tls_context()), ("socks5", None)):
        async with Proxy(tls=tls) as proxy:
            await sent(service, 2, proxy=f"{scheme}://localhost:{proxy.port}")
            assert len(proxy.asked) == 1


async def _died(service: HttpService) -> None:
    provider = connect(service.settings, context())
    await provider.send(email())
    service.reset_idle()
    await provider.send(email())
    await provider.aclose()
    await service.left_alone()


async def _in_the_middle(service: HttpService) -> None:
    provider = connect(service.settings, context())
    service.recorder.lazy = True
    sending = asyncio.create_task(provider.send(email(html="x" * 16_000_000)))
    await service.recorder.waiting.wait()
    service.reset_idle()
    with pytest.raises(Unavailable):
        await sending
    service.recorder.lazy = False
    service.reset(handed_over=True)
    with pytest.raises(Uncertain):
        await provider.send(email())
    await provider.aclose()


async def _from_here(service: HttpService) -> None:
    await sent(service, local_address="127.0.0.7")
    with pytest.raises(Misconfigured, match="local_address"):
        await sent(service, local_address="192.0.2.1")


@pytest.mark.parametrize(
    "way", [_direct, _tunnelled, _died, _in_the_middle, _from_here], ids=lambda way: way.__name__.strip("_")
)
def test_the_servers_own_event_loop_does_the_same(way: Callable[[HttpService], Awaitable[None]]) -> None:
    """`server.py` runs on uvloop, whose transports are not asyncio's."""

    async def main() -> None:
        async with service_of(VENDOR) as service:
            await way(service)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
