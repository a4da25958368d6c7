"""Attacks through a reverse proxy, on connections that Logto's requests use as well."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.e2e.front import PROXIES, front, haproxy, missing
from tests.e2e.harness import AUTHORIZATION, Server, configuration, unless

MAIL = {"to": "ada@example.com", "type": "SignIn", "payload": {"code": "329452"}}
BODY = json.dumps(MAIL).encode()
ROUNDS = 12
each_proxy = pytest.mark.parametrize(
    "proxy", ["none", *(pytest.param(name, marks=unless(missing(name))) for name in (*PROXIES, "haproxy"))]
)
OFFER = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n"
SWALLOWED = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500\r\n\r\n"
"""If it is parsed as a request, the next request, Logto's, is taken for its body."""


class Proxied:
    """A path to the server, through a proxy or not: Logto's HTTP client, and raw connections of an attacker."""

    def __init__(self, url: str, trust: ssl.SSLContext | None) -> None:
        self._url = urlsplit(url)
        self._trust = trust
        self.logto = httpx.AsyncClient(base_url=url, verify=trust or True, trust_env=False, timeout=30)
        self.logto.headers["authorization"] = AUTHORIZATION

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a raw connection."""
        return await asyncio.open_connection(self._url.hostname, self._url.port, ssl=self._trust)

    async def send(self, *pieces: bytes) -> bytes:
        """Send pieces, each in a packet of its own; return the response's head."""
        reader, writer = await self.connect()
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
        writer.close()
        return head


@asynccontextmanager
async def proxied(proxy: str, directory: Path, upstream_port: int) -> AsyncIterator[Proxied]:
    """Run a proxy, or none."""
    (directory / proxy).mkdir()
    async with AsyncExitStack() as stack:
        if proxy in PROXIES:
            running = await stack.enter_async_context(front(proxy, directory / proxy, upstream_port))
            client = Proxied(running.url, running.trust)
        elif proxy == "haproxy":
            client = Proxied(await stack.enter_async_context(haproxy(directory / proxy, upstream_port)), None)
        else:
            client = Proxied(f"http://localhost:{upstream_port}", None)
        async with client.logto:
            yield client


async def accepted(server: Server) -> int:
    """Return how many mails the server has accepted."""
    async with httpx.AsyncClient(base_url=server.url, trust_env=False) as prometheus:
        lines = (await prometheus.get("/metrics")).text.splitlines()
    return sum(
        int(float(line.split()[1])) for line in lines if line.startswith('mailroom_accepted_total{endpoint="email"')
    )


@each_proxy
async def test_a_body_after_an_upgrade_header_is_not_parsed_as_a_request(proxy: str, tmp_path: Path) -> None:
    """Through Caddy it was, and Logto got the attacker's 200 for a mail that was not stored."""
    head = b"POST /webhook HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n" % (len(SWALLOWED) + 4)
    async with (
        Server(tmp_path, configuration('type = "capture"')) as server,
        proxied(proxy, tmp_path, server.port) as client,
    ):
        for number in range(ROUNDS):
            response = await client.send(head + OFFER + b"\r\n", b"\r\n\r\n", SWALLOWED)
            assert response.startswith(b"HTTP/1.1 401 ")
            mails = [MAIL | {"to": f"u{number}.{other}@example.com"} for other in range(3)]
            answers = await asyncio.gather(*(client.logto.post("/email", json=mail) for mail in mails))
            assert all(answer.json()["id"] for answer in answers)
        # Java's HTTP client sends the header with a first request in plain text: it is ignored.
        honest = b"POST /email HTTP/1.1\r\nHost: localhost\r\nAuthorization: %b\r\n" % AUTHORIZATION.encode()
        response = await client.send(honest + OFFER + b"Content-Length: %d\r\n\r\n" % len(BODY), BODY)
        assert response.startswith(b"HTTP/1.1 200 ")
        assert await accepted(server) == 3 * ROUNDS + 1


@each_proxy
async def test_trailers_are_not_read_as_headers(proxy: str, tmp_path: Path) -> None:
    """Behind HAProxy an `X-Forwarded-For` in them passed the allow-list."""
    head = b"POST /email HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
    authorization = b"Authorization: %b\r\n" % AUTHORIZATION.encode()
    trailers = b"%x\r\n%b\r\n0\r\nX-Forwarded-For: 203.0.113.7\r\n%b\r\n" % (len(BODY), BODY, authorization)
    allowed = {"MAILROOM_CONNECTOR__ALLOWED_IPS": "203.0.113.0/24", "MAILROOM_CONNECTOR__TRUSTED_HOPS": "1"}
    async with (
        Server(tmp_path, configuration('type = "capture"'), environment=allowed) as server,
        proxied(proxy, tmp_path, server.port) as client,
    ):
        for lines in (b"", authorization):
            assert (await client.send(head + lines + b"\r\n", trailers)).startswith(b"HTTP/1.1 401 ")
        assert await accepted(server) == 0


@pytest.mark.parametrize("proxy", [pytest.param(name, marks=unless(missing(name))) for name in PROXIES])
async def test_the_proxies_of_deploy_limit_heads(proxy: str, tmp_path: Path) -> None:
    """In size, and in time: 10 s. Mailroom receives none of these requests."""
    connections = 0

    async def count(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        writer.close()

    async with (
        await asyncio.start_server(count, "127.0.0.1", 0) as upstream,
        proxied(proxy, tmp_path, upstream.sockets[0].getsockname()[1]) as client,
    ):
        head = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n"
        for large in (b"X: " + b"y" * 40_000, b"X: yyyyyy\r\n" * 4_000):
            status = int((await client.send(head + large + b"\r\n\r\n")).split()[1])
            assert status in (400, 431)

        async def wait_until_closed(after: bytes) -> None:
            reader, writer = await client.connect()
            writer.write(after)
            await asyncio.wait_for(reader.read(), 15)
            writer.close()

        await asyncio.gather(wait_until_closed(b""), wait_until_closed(head))
        assert connections == 0
