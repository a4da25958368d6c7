"""Through a proxy: SOCKS5 and CONNECT, in clear and under TLS, on either event loop."""

import asyncio
import ssl
from collections.abc import Callable
from typing import Any

import pytest
import uvloop

from mailroom.smtpclient import ConnectionFailed, Login, ProxyRefused
from tests.proxy_server import HOST, ProxyServer, proxy_server
from tests.smtp_server import Server, smtp_server
from tests.smtpclient.pools import CONTENT, mail, pool_of

LOGIN = ("mailröom", "p@ss/w:rd")
ASCII_LOGIN = ("mailroom", "p@ss/w:rd")
SCHEMES = pytest.mark.parametrize("scheme", ["socks5", "http", "https"])


async def send(server: Server, proxy: ProxyServer, **options: Any) -> None:
    """Send one mail through the proxy, whose certificate is of the server's authority."""
    trusted = ssl.create_default_context(cafile=server.ca_file)
    async with pool_of(server, **{"proxy_url": proxy.url, "proxy_context": trusted, **options}) as pool:
        await pool.send(mail())


@SCHEMES
@pytest.mark.parametrize("tls", ["none", "starttls", "implicit"])
@pytest.mark.parametrize("runner", [asyncio.run, uvloop.run])
@pytest.mark.parametrize("has_login", [True, False], ids=["login", "open"])
def test_mails_go_through_the_proxy(runner: Callable[..., None], scheme: str, tls: Any, *, has_login: bool) -> None:
    """Uvloop's transports stack differently: TLS to the server is inside TLS to the proxy."""

    async def main() -> None:
        login = (ASCII_LOGIN if scheme == "socks5" else LOGIN) if has_login else None
        async with smtp_server(tls=tls) as server, proxy_server(scheme, login=login) as proxy:
            await send(server, proxy, tls=tls)
            assert proxy.targets == [f"127.0.0.1:{server.port}"]
            assert server.mails[0].content == CONTENT
            assert server.mails[0].encrypted == (tls != "none")

    runner(main())


@SCHEMES
async def test_a_greeting_in_the_same_packet_as_the_proxys_response_is_not_lost(scheme: str) -> None:
    async with smtp_server() as server, proxy_server(scheme) as proxy:
        proxy.join_greeting()
        await send(server, proxy)
        assert len(server.mails) == 1


@SCHEMES
async def test_names_are_resolved_by_the_proxy_in_ascii(scheme: str) -> None:
    """Behind a proxy there may be no DNS for us."""
    async with smtp_server() as server, proxy_server(scheme) as proxy:
        await send(server, proxy, host="bücher.example")
        assert proxy.targets == [f"xn--bcher-kva.example:{server.port}"]


@SCHEMES
async def test_a_response_that_arrives_octet_by_octet_is_parsed(scheme: str) -> None:
    async with smtp_server() as server, proxy_server(scheme, login=ASCII_LOGIN) as proxy:
        proxy.piecemeal = True
        await send(server, proxy)


@pytest.mark.parametrize(
    ("scheme", "response", "code"),
    [
        ("http", b"HTTP/1.1 403 Forbidden\r\n\r\n", 403),
        ("http", b"220 mail.acme.example ESMTP\r\n", None),
        ("http", b"", None),
        ("http", b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 200_000, None),
        ("socks5", b"\x05\x02\x00\x01\0\0\0\0\0\0", 2),
        ("socks5", b"\x05", None),
    ],
)
async def test_a_proxy_that_opens_no_tunnel(scheme: str, response: bytes, code: int | None) -> None:
    async with smtp_server() as server, proxy_server(scheme) as proxy:
        proxy.refusal = response
        with pytest.raises(ProxyRefused) as caught:
            await send(server, proxy)
        assert (caught.value.scheme, caught.value.code, caught.value.handed_over) == (scheme, code, False)


@pytest.mark.parametrize("trusts", [None, "nobody"], ids=["the system's authorities", "a context"])
async def test_the_certificate_of_the_proxy_is_verified(trusts: str | None) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if trusts else None
    async with smtp_server() as server, proxy_server("https", login=LOGIN) as proxy:
        with pytest.raises(ConnectionFailed) as caught:
            await send(server, proxy, proxy_context=context)
        assert caught.value.where == f"the proxy {HOST}:{proxy.port}"
        assert isinstance(caught.value.cause, ssl.SSLCertVerificationError)
        assert not proxy.targets


def test_the_certificate_of_the_server_is_verified_within_the_tunnel() -> None:
    """On uvloop: asyncio of Python 3.11 raises a TypeError of its own where TLS within TLS fails."""

    async def main() -> None:
        async with smtp_server(tls="implicit") as server, proxy_server("https") as proxy:
            with pytest.raises(ConnectionFailed) as caught:
                await send(server, proxy, tls="implicit", context=ssl.create_default_context())
            assert caught.value.where == f"127.0.0.1:{server.port}"
            assert isinstance(caught.value.cause, ssl.SSLCertVerificationError)

    uvloop.run(main())


async def test_a_password_is_not_sent_in_clear_behind_an_encrypted_proxy() -> None:
    async with smtp_server(users={"ada": "hunter22"}) as server, proxy_server("https") as proxy:
        trusted = ssl.create_default_context(cafile=server.ca_file)
        options = {"tls": "opportunistic", "proxy_url": proxy.url, "proxy_context": trusted}
        async with pool_of(server, Login("ada", "hunter22"), **options) as pool:
            with pytest.raises(Exception, match="STARTTLS"):
                await pool.send(mail())
        assert server.commands["AUTH"] == 0
