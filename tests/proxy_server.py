"""Proxies for tests: SOCKS5 (RFC 1928, 1929) and CONNECT, with a login, encrypted if asked; they count what they open.

async with proxy_server("socks5", login=("u", "p")) as proxy:
    proxy.url        # socks5://u:p@127.0.0.1:…
    proxy.targets    # what it connected to
"""

import asyncio
import base64
import contextlib
import ssl
from collections.abc import AsyncIterator
from urllib.parse import quote

from tests.smtp_server import server_context

HOST = "127.0.0.1"


class ProxyServer:
    """What it was asked for."""

    def __init__(self, scheme: str, login: tuple[str, str] | None) -> None:
        self.port = 0
        self.targets: list[str] = []
        """Host and port of each tunnel."""
        self.refusal: bytes | None = None
        """Answered instead of opening a tunnel."""
        self.leave_from: str | None = None
        self.piecemeal = False
        """Whether it sends its yes octet by octet."""
        self._scheme = scheme
        self._login = login
        self.live: set[asyncio.Task[None] | None] = set()

    @property
    def url(self) -> str:
        """What goes into `proxy`."""
        login = f"{quote(self._login[0], safe='')}:{quote(self._login[1], safe='')}@" if self._login else ""
        return f"{self._scheme}://{login}{HOST}:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client."""
        self.live.add(asyncio.current_task())
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await (self._socks5 if self._scheme == "socks5" else self._connect)(reader, writer)
        writer.close()
        self.live.discard(asyncio.current_task())

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        if self._login is not None:
            wanted = base64.b64encode(":".join(self._login).encode()).decode()
            if f"Proxy-Authorization: Basic {wanted}".lower() not in (line.lower() for line in head):
                writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
                return
        if self.refusal is not None:
            writer.write(self.refusal)
            return
        host, _, port = head[0].split(" ")[1].rpartition(":")
        await self._tunnel(b"HTTP/1.1 200 Connection established\r\n\r\n", host, int(port), reader, writer)

    async def _socks5(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, number = await reader.readexactly(2)
        ways = await reader.readexactly(number)
        if self._login is not None:
            if 2 not in ways:
                writer.write(b"\x05\xff")
                return
            writer.write(b"\x05\x02")
            _, length = await reader.readexactly(2)
            user = await reader.readexactly(length)
            password = await reader.readexactly((await reader.readexactly(1))[0])
            good = (user.decode(), password.decode()) == self._login
            writer.write(b"\x01" + (b"\x00" if good else b"\x01"))
            if not good:
                return
        else:
            writer.write(b"\x05\x00")
        *_, kind = await reader.readexactly(4)
        if kind == 3:
            host = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
        else:
            host = ".".join(str(octet) for octet in await reader.readexactly(4))
        port = int.from_bytes(await reader.readexactly(2), "big")
        if self.refusal is not None:
            writer.write(self.refusal)
            return
        await self._tunnel(b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x00", host, port, reader, writer)

    async def _tunnel(
        self, yes: bytes, host: str, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.targets.append(f"{host}:{port}")
        local = (self.leave_from, 0) if self.leave_from else None
        # A name of the test's own is resolved here, as a proxy does.
        there = HOST if host.endswith(".example") else host
        far_reader, far_writer = await asyncio.open_connection(there, port, local_addr=local)
        if port != 443 and self._says_more:
            yes += await far_reader.read(4096)  # the greeting comes in the same packet
        for piece in (yes[at : at + 1] for at in range(len(yes))) if self.piecemeal else (yes,):
            writer.write(piece)
            await asyncio.sleep(0)  # a packet of its own
        try:
            await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
        finally:
            far_writer.close()

    _says_more = False

    def join_greeting(self) -> None:
        """Send the server's first words in the same packet as the proxy's yes."""
        self._says_more = True


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


@contextlib.asynccontextmanager
async def proxy_server(scheme: str, *, login: tuple[str, str] | None = None) -> AsyncIterator[ProxyServer]:
    """Run a proxy: `socks5`, `http`, or `https`, which is encrypted."""
    proxy = ProxyServer(scheme, login)
    context: ssl.SSLContext | None = server_context(HOST) if scheme == "https" else None
    server = await asyncio.start_server(proxy.serve, HOST, 0, ssl=context)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        for task in tuple(proxy.live):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
        await server.wait_closed()
