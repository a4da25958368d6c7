"""How HTTP providers leave: from a local address, through proxies, on either event loop."""

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
from tests.providers.http_far_end import HttpFarEnd, far_end_of
from tests.providers.test_resend import VENDOR
from tests.proxies import Proxy

LOGIN = "mail room:s3cr%t:/@pass"
WRITTEN = "mail%20room:s3cr%25t%3A%2F%40pass"
"""The same in a URL."""


async def sent(far_end: HttpFarEnd, number: int = 1, **changes: object) -> Receipt:
    """Send so many mails with these settings and return the last receipt."""
    settings = type(far_end.settings).model_validate(
        {
            **far_end.vendor.options,
            "endpoint": far_end.recorder.url,
            "ca_file": far_end.settings.ca_file,
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


async def test_it_leaves_from_the_local_address() -> None:
    async with far_end_of(VENDOR) as far_end:
        await sent(far_end, local_address="127.0.0.7")
        assert far_end.recorder.requests[0].peer[0] == "127.0.0.7"


async def test_an_address_that_is_not_ours_is_ours_to_mend() -> None:
    async with far_end_of(VENDOR) as far_end:
        with pytest.raises(Misconfigured, match=r"local_address 192\.0\.2\.1"):
            await sent(far_end, local_address="192.0.2.1")


@pytest.mark.parametrize("scheme", ["http", "https", "socks5", "socks5h"])
@pytest.mark.parametrize("login", ["", LOGIN], ids=["open", "with a login"])
async def test_it_leaves_through_a_proxy(scheme: str, login: str) -> None:
    """The request is encrypted within the tunnel, which is kept like any connection."""
    async with (
        far_end_of(VENDOR) as far_end,
        Proxy(login=login, tls=tls_context() if scheme == "https" else None) as proxy,
    ):
        given = f"{WRITTEN}@" if login else ""
        await sent(far_end, 3, proxy=f"{scheme}://{given}localhost:{proxy.port}")
        assert proxy.asked == [f"localhost:{far_end.recorder.port}"]
        assert len(far_end.recorder.requests) == 3
        assert far_end.connections == 1


@pytest.mark.parametrize("own_authority", [True, False], ids=["with ca_file", "without"])
async def test_a_proxy_with_a_certificate_of_an_unknown_authority_is_refused(
    own_authority: bool,  # noqa: FBT001  # a parameter of the test
) -> None:
    """Else somebody on the way could take the login, and see which hosts are asked for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(context)
    async with far_end_of(VENDOR) as far_end, Proxy(tls=context, login=LOGIN) as proxy:
        changes: dict[str, Any] = {} if own_authority else {"ca_file": None}
        with pytest.raises(Misconfigured, match=f"the certificate of the proxy localhost:{proxy.port} is not valid"):
            await sent(far_end, proxy=f"https://{WRITTEN}@localhost:{proxy.port}", **changes)
        assert not proxy.asked


async def test_it_leaves_for_the_proxy_from_the_local_address() -> None:
    async with far_end_of(VENDOR) as far_end, Proxy() as proxy:
        with pytest.raises(Misconfigured, match="local_address"):
            await sent(far_end, proxy=f"http://127.0.0.1:{proxy.port}", local_address="192.0.2.1")
        await sent(far_end, proxy=f"http://127.0.0.1:{proxy.port}", local_address="127.0.0.7")


@pytest.mark.parametrize("scheme", ["http", "socks5"])
@pytest.mark.parametrize("given", ["", "mail%20room:wrong@"], ids=["none", "a wrong one"])
async def test_a_login_that_the_proxy_refuses_is_ours_to_mend(scheme: str, given: str) -> None:
    async with far_end_of(VENDOR) as far_end, Proxy(login=LOGIN) as proxy:
        with pytest.raises(Misconfigured, match="proxy"):
            await sent(far_end, proxy=f"{scheme}://{given}127.0.0.1:{proxy.port}")
        assert not far_end.recorder.requests


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
    async with far_end_of(VENDOR) as far_end, Proxy() as proxy:
        proxy.answer = answer
        with pytest.raises(kind):
            await sent(far_end, proxy=f"http://127.0.0.1:{proxy.port}")


@pytest.mark.parametrize(("reply", "kind"), [(1, Unavailable), (2, Misconfigured), (5, Unavailable), (99, Unavailable)])
async def test_a_socks_proxy_that_opens_no_tunnel(reply: int, kind: type[SendingError]) -> None:
    async with far_end_of(VENDOR) as far_end, Proxy() as proxy:
        proxy.reply = reply
        with pytest.raises(kind, match="tunnel") as refused:
            await sent(far_end, proxy=f"socks5://127.0.0.1:{proxy.port}")
        assert refused.value.code == ("SOCKS5" if reply == 99 else f"SOCKS5 {reply}")  # no code of RFC 1928's


async def test_a_server_that_is_no_socks_proxy_is_unavailable() -> None:
    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await reader.read()
        writer.close()

    server = await asyncio.start_server(client, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with far_end_of(VENDOR) as far_end, server:
        with pytest.raises(Unavailable, match="SOCKS5"):
            await sent(far_end, proxy=f"socks5://127.0.0.1:{port}")


async def test_the_far_ends_certificate_is_checked_within_the_tunnel() -> None:
    async with far_end_of(VENDOR) as far_end, Proxy() as proxy:
        endpoint = f"https://api.acme.example:{far_end.recorder.port}"  # the proxy goes to loopback for any name
        with pytest.raises(Misconfigured, match="certificate"):
            await sent(far_end, proxy=f"http://127.0.0.1:{proxy.port}", endpoint=endpoint)
        assert proxy.asked == [f"api.acme.example:{far_end.recorder.port}"]


async def test_no_login_of_the_proxys_is_shown() -> None:
    async with far_end_of(VENDOR) as far_end, Proxy(login="someone:else") as proxy:
        url = f"http://{WRITTEN}@127.0.0.1:{proxy.port}"
        with pytest.raises(Misconfigured) as refused:
            await sent(far_end, proxy=url)
        settings = type(far_end.settings).model_validate({**far_end.vendor.options, "proxy": url})
        assert "s3cr" not in f"{settings!r} {settings} {refused.value} {refused.value.code}"


async def _direct(far_end: HttpFarEnd) -> None:
    await sent(far_end, 3)
    assert far_end.connections == 1


async def _tunnelled(far_end: HttpFarEnd) -> None:
    for scheme, tls in (("http", None), ("https", tls_context()), ("socks5", None)):
        async with Proxy(tls=tls) as proxy:
            await sent(far_end, 2, proxy=f"{scheme}://localhost:{proxy.port}")
            assert len(proxy.asked) == 1


async def _died(far_end: HttpFarEnd) -> None:
    provider = connect(far_end.settings, context())
    await provider.send(email())
    far_end.reset_idle()
    await provider.send(email())
    await provider.aclose()
    await far_end.left_alone()


async def _in_the_middle(far_end: HttpFarEnd) -> None:
    provider = connect(far_end.settings, context())
    far_end.recorder.lazy = True
    sending = asyncio.create_task(provider.send(email(html="x" * 16_000_000)))
    await far_end.recorder.waiting.wait()
    far_end.reset_idle()
    with pytest.raises(Unavailable):
        await sending
    far_end.recorder.lazy = False
    far_end.reset(handed_over=True)
    with pytest.raises(Uncertain):
        await provider.send(email())
    await provider.aclose()


async def _from_here(far_end: HttpFarEnd) -> None:
    await sent(far_end, local_address="127.0.0.7")
    with pytest.raises(Misconfigured, match="local_address"):
        await sent(far_end, local_address="192.0.2.1")


@pytest.mark.parametrize(
    "way", [_direct, _tunnelled, _died, _in_the_middle, _from_here], ids=lambda way: way.__name__.strip("_")
)
def test_the_servers_own_event_loop_does_the_same(way: Callable[[HttpFarEnd], Awaitable[None]]) -> None:
    """`server.py` runs on uvloop, whose transports are not asyncio's."""

    async def main() -> None:
        async with far_end_of(VENDOR) as far_end:
            await way(far_end)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
