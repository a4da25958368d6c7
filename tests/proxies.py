"""A proxy on loopback, CONNECT and SOCKS5, that keeps what it was asked for."""

import asyncio
import base64
import contextlib
import ssl
from types import TracebackType
from typing import Self


class Proxy:
    """Opens tunnels to loopback whatever host is asked for; with `login` only for `user:password`."""

    def __init__(self, *, login: str = "", tls: ssl.SSLContext | None = None) -> None:
        self.login = login
        self.asked: list[str] = []
        """The targets, `host:port`."""
        self.answer = b"HTTP/1.1 200 Connection established\r\n\r\n"
        """What a CONNECT is answered; anything but a 200 opens no tunnel."""
        self.reply = 0
        """What a SOCKS5 request is answered, RFC 1928 §6."""
        self._tls = tls
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @property
    def port(self) -> int:
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._client, "127.0.0.1", 0, ssl=self._tls)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            first = await reader.readexactly(1)
            port = await (self._socks5(reader, writer) if first == b"\x05" else self._connect(reader, writer))
            if port:
                await _tunnel(reader, writer, port)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        target = head.split(" ")[1]
        self.asked.append(target)
        wanted = f"Proxy-Authorization: Basic {base64.b64encode(self.login.encode()).decode()}\r\n"
        if self.login and wanted.lower() not in head.lower():
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            return 0
        writer.write(self.answer)
        return int(target.rpartition(":")[2]) if b" 200 " in self.answer else 0

    async def _socks5(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
        ways = await reader.readexactly((await reader.readexactly(1))[0])
        if self.login and 2 not in ways:
            writer.write(b"\x05\xff")
            return 0
        writer.write(b"\x05\x02" if self.login else b"\x05\x00")
        if self.login:
            assert await reader.readexactly(1) == b"\x01"
            user = await reader.readexactly((await reader.readexactly(1))[0])
            password = await reader.readexactly((await reader.readexactly(1))[0])
            refused = f"{user.decode()}:{password.decode()}" != self.login
            writer.write(bytes((1, refused)))
            if refused:
                return 0
        assert (await reader.readexactly(3)) == b"\x05\x01\x00"
        kind = (await reader.readexactly(1))[0]
        length = {1: 4, 4: 16}.get(kind) or (await reader.readexactly(1))[0]
        host = await reader.readexactly(length)
        port = int.from_bytes(await reader.readexactly(2), "big")
        self.asked.append(f"{host.decode() if kind == 3 else host.hex()}:{port}")
        writer.write(bytes((5, self.reply, 0, 1, 127, 0, 0, 1, 0, 0)))
        return 0 if self.reply else port


async def _tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
    far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
        sink.close()

    try:
        await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer), return_exceptions=True)
    finally:
        far_writer.close()
