"""Connecting to the server: proxies and their refusals, addresses that drop packets."""

import asyncio
import base64
import socket
from typing import Any

import pytest
import trustme

from mailroom.errors import Misconfigured, SendingError, Unavailable
from mailroom.message import Receipt
from mailroom.providers.smtp.smtp_provider import Settings, connect
from tests.black_hole import black_hole
from tests.mails import email
from tests.providers.contract import context
from tests.proxy_server import HOST, proxy_server
from tests.smtp_server import DROP, Server, smtp_server
from tests.token_endpoint import token_endpoint
from tests.wire_server import wire_server

LOGIN = ("mailroom", "p@ss/w:rd")
SCHEMES = ["socks5", "http", "https"]


async def send(server: Server, **changes: Any) -> Receipt:
    """Send a mail through a provider of its own."""
    given = {"host": server.host, "port": server.port, "ca_file": server.ca_file, "tls": "none"} | changes
    provider = connect(Settings(**given), context())
    try:
        return await provider.send(email())
    finally:
        await provider.aclose()


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("tls", ["none", "starttls", "implicit"])
@pytest.mark.parametrize("login", [None, LOGIN], ids=["open", "login"])
async def test_mails_go_through_the_proxy(scheme: str, tls: Any, login: tuple[str, str] | None) -> None:
    async with smtp_server(tls=tls) as server, proxy_server(scheme, login=login) as proxy:
        await send(server, tls=tls, proxy=proxy.url)
        assert proxy.targets == [f"127.0.0.1:{server.port}"]
        assert server.mails[0].content == email().raw
        assert server.mails[0].encrypted == (tls != "none")


async def test_tokens_are_requested_through_the_proxy() -> None:
    answers = {"EHLO": "250-wire.test\r\n250 AUTH XOAUTH2", "AUTH": "235 2.7.0 hello"}
    async with (
        wire_server(answers) as server,
        token_endpoint() as endpoint,
        proxy_server("socks5", login=LOGIN) as proxy,
    ):
        proxy.leave_from = "127.0.0.3"
        oauth2 = {"client_id": "app", "client_secret": "s", "access_url": endpoint.url}
        settings = Settings(
            host=server.host, port=server.port, tls="none", proxy=proxy.url, username="ada@acme.example", oauth2=oauth2
        )
        provider = connect(settings, context())
        await provider.send(email())
        await provider.aclose()
        assert proxy.targets == [f"127.0.0.1:{endpoint.port}", f"127.0.0.1:{server.port}"]
        assert endpoint.peers == ["127.0.0.3"]
        said = base64.b64encode(b"user=ada@acme.example\1auth=Bearer token-1\1\1")
        assert server.lines[1] == b"AUTH XOAUTH2 " + said


async def test_connections_to_the_proxy_use_local_address() -> None:
    async with smtp_server() as server, proxy_server("http") as proxy:
        with pytest.raises(Misconfigured, match=r"local_address 203\.0\.113\.9"):
            await send(server, proxy=proxy.url, local_address="203.0.113.9")
        await send(server, proxy=proxy.url, local_address="127.0.0.2")


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("login", [("mailroom", "wrong one"), None])
async def test_a_login_that_the_proxy_refuses_is_misconfigured(scheme: str, login: tuple[str, str] | None) -> None:
    async with smtp_server() as server, proxy_server(scheme, login=LOGIN) as proxy:
        said = f"{login[0]}:{login[1].replace(' ', '%20')}@" if login else ""
        with pytest.raises(Misconfigured) as refused:
            await send(server, proxy=f"{scheme}://{said}{HOST}:{proxy.port}")
        assert "proxy" in str(refused.value)
        assert server.connections == 0


@pytest.mark.parametrize(
    ("scheme", "answer", "kind"),
    [
        ("http", b"HTTP/1.1 403 Forbidden\r\n\r\n", Misconfigured),
        ("http", b"HTTP/1.1 502 Bad Gateway\r\n\r\n", Unavailable),
        ("http", b"220 mail.acme.example ESMTP\r\n", Unavailable),
        ("http", b"", Unavailable),
        ("socks5", b"\x05\x02\x00\x01\0\0\0\0\0\0", Misconfigured),
        ("socks5", b"\x05\x05\x00\x01\0\0\0\0\0\0", Unavailable),
        ("socks5", b"\x05", Unavailable),
    ],
)
async def test_a_proxy_that_opens_no_tunnel(scheme: str, answer: bytes, kind: type[SendingError]) -> None:
    async with smtp_server() as server, proxy_server(scheme) as proxy:
        proxy.refusal = answer
        with pytest.raises(kind):
            await send(server, proxy=proxy.url)


async def test_an_unreachable_proxy_is_unavailable() -> None:
    async with smtp_server() as server:
        with pytest.raises(Unavailable, match=r"cannot connect to the proxy 127\.0\.0\.1:1"):
            await send(server, proxy="http://127.0.0.1:1")


async def test_a_server_that_closes_the_tunnel_is_unavailable() -> None:
    async with smtp_server() as server, proxy_server("socks5") as proxy:
        server.fault("GREETING", DROP)
        with pytest.raises(Unavailable):
            await send(server, proxy=proxy.url)


async def test_tls_to_the_proxy_does_not_count_as_tls_to_the_server() -> None:
    """A password would be in clear between proxy and server."""
    async with smtp_server(tls="none", users={"ada": "hunter22"}) as server, proxy_server("https") as proxy:
        for tls in ("starttls", "opportunistic"):
            with pytest.raises(Misconfigured, match="STARTTLS"):
                await send(server, tls=tls, proxy=proxy.url, username="ada", password="hunter22")
        assert server.commands["AUTH"] == 0


@pytest.mark.parametrize("own_authority", [True, False], ids=["with ca_file", "without"])
async def test_a_proxy_with_a_certificate_of_an_unknown_authority_is_refused(*, own_authority: bool) -> None:
    """Otherwise an attacker on the network could read the proxy's login and the requested hosts."""
    with trustme.CA().cert_pem.tempfile() as other:
        async with smtp_server() as server, proxy_server("https", login=LOGIN) as proxy:
            with pytest.raises(Misconfigured, match=f"the certificate of the proxy {HOST}:{proxy.port} is not valid"):
                await send(server, proxy=proxy.url, ca_file=other if own_authority else None)
            assert not proxy.targets
            assert server.connections == 0


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_the_proxys_credentials_are_not_shown(scheme: str) -> None:
    async with smtp_server() as server, proxy_server(scheme, login=("other", "other")) as proxy:
        url = f"{scheme}://mailroom:hunter22@{HOST}:{proxy.port}"
        settings = Settings(host=server.host, port=server.port, tls="none", proxy=url, ca_file=server.ca_file)
        provider = connect(settings, context())
        with pytest.raises(Misconfigured) as refused:
            await provider.send(email())
        await provider.aclose()
        shown = f"{settings!r} {settings.model_dump_json()} {refused.value!r} {refused.value}"
        assert "hunter22" not in shown
        assert base64.b64encode(b"mailroom:hunter22").decode() not in shown


@pytest.mark.parametrize(
    "url",
    [
        "ftp://proxy.example",
        "proxy.example:1080",
        "socks5://",
        "socks5://proxy.example/path",
        "socks5://:hunter22@proxy.example",
        f"socks5://{'u' * 256}:p@proxy.example",
        "socks5://ådå:p@proxy.example",
        "http://a%3Ab:p@proxy.example",
        "http://proxy.example:0",
    ],
)
def test_an_invalid_proxy_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="proxy") as fault:
        Settings(host="smtp.acme.example", proxy=url)
    assert "hunter22" not in str(fault.value)


async def test_an_address_that_drops_packets_does_not_use_up_the_time_out(monkeypatch: pytest.MonkeyPatch) -> None:
    async with smtp_server() as server:
        with black_hole() as hole:

            def resolve(*_args: Any, **_kwargs: Any) -> Any:
                return [
                    (socket.AF_INET, socket.SOCK_STREAM, 6, "", hole),
                    (socket.AF_INET, socket.SOCK_STREAM, 6, "", (server.host, server.port)),
                ]

            monkeypatch.setattr(socket, "getaddrinfo", resolve)
            started = asyncio.get_running_loop().time()
            await send(server, host="mail.acme.example", connect_timeout=15)
            assert asyncio.get_running_loop().time() - started < 10
            monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_kwargs: resolve()[:1])
            with pytest.raises(Unavailable, match="not ready"):
                await send(server, host="mail.acme.example", connect_timeout=0.05)
