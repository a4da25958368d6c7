"""An HTTP server on loopback that keeps every request and answers, hangs, resets or babbles as a test says."""

import asyncio
import json
import socket
import ssl
import struct
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl

import h11
import trustme


@dataclass(frozen=True)
class Request:
    """A request as it came."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    """Names in lower case, in the order of the wire."""
    body: bytes
    peer: tuple[str, int]
    """Who connected."""

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def form(self) -> list[tuple[str, str]]:
        return parse_qsl(self.body.decode(), keep_blank_values=True, strict_parsing=True)

    def header(self, name: str) -> str:
        """Return the header's only value."""
        [value] = [value for key, value in self.headers if key == name.lower()]
        return value


@dataclass(frozen=True)
class Answer:
    """What the server says."""

    status: int = 200
    body: bytes = b"{}"
    headers: Mapping[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    """Sent instead of all that, and the connection is closed."""


def json_answer(status: int, fields: Any, headers: Mapping[str, str] | None = None) -> Answer:
    return Answer(status, json.dumps(fields).encode(), {"Content-Type": "application/json", **(headers or {})})


class Recorder:
    """The server. With TLS its authority is in `ca_file`; use it as a context on the test's loop."""

    def __init__(self, answer: Answer, *, tls: bool = True) -> None:
        self.answer = answer
        self.answers: list[Answer] = []
        """Given first, one each."""
        self.requests: list[Request] = []
        self.connections = 0
        self.open: set[_Connection] = set()
        self.mute = False
        """Accepts connections, and says nothing, not even what TLS begins with."""
        self.deaf = False
        """Reads requests, and never answers."""
        self.lazy = False
        """Encrypts, and then reads nothing."""
        self.hasty: Answer | None = None
        """Said to a request of which only the head was read."""
        self.reset_before = False
        """Resets a connection before anything was said."""
        self.reset_after = False
        """Resets it once a request was read."""
        self.waiting = asyncio.Event()
        """Set when a client waits because the server is mute or deaf."""
        self.changed = asyncio.Condition()
        self._tls = tls
        self._server: socket.socket | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"http{'s' if self._tls else ''}://localhost:{self.port}"

    @property
    def port(self) -> int:
        assert self._server is not None
        port: int = self._server.getsockname()[1]
        return port

    async def __aenter__(self) -> Self:
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.setblocking(False)
        self._task(self._accept(self._server))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.vanish()

    async def vanish(self) -> None:
        """Stop listening and hang up."""
        assert self._server is not None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._server.close()
        for connection in list(self.open):
            connection.end()

    def reset_idle(self) -> None:
        """Reset all connections, at once: the client's system knows when this returns."""
        for connection in list(self.open):
            connection.reset()

    def end_all(self) -> None:
        """Hang up everywhere, politely."""
        for connection in list(self.open):
            connection.end()

    async def until(self, condition: Any) -> None:
        """Return once the condition, a function, is true."""
        async with self.changed:
            await self.changed.wait_for(condition)

    def _task(self, coroutine: Any) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self, server: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            client, peer = await loop.sock_accept(server)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.connections += 1
            connection = _Connection(self, client, peer)
            self.open.add(connection)
            await self.tell()
            if self.reset_before:
                connection.reset()
            elif self.mute:
                self.waiting.set()
                self._task(connection.until_hung_up())
            else:
                self._task(connection.serve(tls_context() if self._tls else None))

    async def tell(self) -> None:
        async with self.changed:
            self.changed.notify_all()


class _Connection:
    """One client. TLS is spoken through memory, so that the socket stays ours to reset."""

    def __init__(self, recorder: Recorder, client: socket.socket, peer: tuple[str, int]) -> None:
        self._recorder = recorder
        self._socket = client
        self._peer = peer
        self._tls: ssl.SSLObject | None = None
        self._coming, self._going = ssl.MemoryBIO(), ssl.MemoryBIO()

    def reset(self) -> None:
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.end()

    def end(self) -> None:
        if self._socket.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
        self._socket.close()
        self._recorder.open.discard(self)

    async def until_hung_up(self) -> None:
        """Say nothing until the client is gone."""
        try:
            while await asyncio.get_running_loop().sock_recv(self._socket, 65536):
                pass
        except OSError:
            pass
        finally:
            self.end()
            await asyncio.shield(asyncio.ensure_future(self._recorder.tell()))

    async def serve(self, context: ssl.SSLContext | None) -> None:
        try:
            if context is not None:
                self._tls = context.wrap_bio(self._coming, self._going, server_side=True)
                await self._tls_step(self._tls.do_handshake)
            await self._speak()
        except (OSError, h11.RemoteProtocolError):
            pass
        finally:
            self.end()
            await asyncio.shield(asyncio.ensure_future(self._recorder.tell()))

    async def _speak(self) -> None:
        recorder = self._recorder
        talk = h11.Connection(h11.SERVER)
        if recorder.lazy:
            recorder.waiting.set()
            await asyncio.Event().wait()
        if recorder.hasty is not None:
            await self._read()
            body = recorder.hasty.body
            await self._write(
                b"HTTP/1.1 %d Refused\r\nContent-Length: %d\r\n\r\n%b" % (recorder.hasty.status, len(body), body)
            )
            await asyncio.Event().wait()
        while (request := await self._request(talk)) is not None:
            recorder.requests.append(request)
            await recorder.tell()
            if recorder.reset_after:
                self.reset()
                return
            if recorder.deaf:
                recorder.waiting.set()
                while await self._read():
                    pass
                return
            answer = recorder.answers.pop(0) if recorder.answers else recorder.answer
            if answer.raw is not None:
                await self._write(answer.raw)
                return
            headers = [
                (b"Content-Length", b"%d" % len(answer.body)),
                *((name.encode(), value.encode()) for name, value in answer.headers.items()),
            ]
            for event in (
                h11.Response(status_code=answer.status, headers=headers),
                h11.Data(answer.body),
                h11.EndOfMessage(),
            ):
                await self._write(talk.send(event) or b"")
            if talk.our_state is h11.MUST_CLOSE:
                return
            talk.start_next_cycle()

    async def _request(self, talk: h11.Connection) -> Request | None:
        head: h11.Request | None = None
        body = b""
        while True:
            event = talk.next_event()
            if event is h11.NEED_DATA:
                data = await self._read()
                if not data and head is None:
                    return None
                talk.receive_data(data)
            elif isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                assert head is not None
                headers = tuple((name.decode(), value.decode("latin-1")) for name, value in head.headers)
                return Request(head.method.decode(), head.target.decode(), headers, body, self._peer)
            else:
                return None

    async def _read(self) -> bytes:
        if self._tls is None:
            return await asyncio.get_running_loop().sock_recv(self._socket, 65536)
        try:
            data: bytes = await self._tls_step(lambda: self._tls.read(65536))
        except ssl.SSLError:
            return b""
        return data

    async def _write(self, data: bytes) -> None:
        if not data:
            return
        if self._tls is None:
            await asyncio.get_running_loop().sock_sendall(self._socket, data)
        else:
            await self._tls_step(lambda: self._tls.write(data))

    async def _tls_step(self, step: Any) -> Any:
        loop = asyncio.get_running_loop()
        while True:
            wants_more = False
            result = None
            try:
                result = step()
            except ssl.SSLWantReadError:
                wants_more = True
            if self._going.pending:
                await loop.sock_sendall(self._socket, self._going.read())
            if not wants_more:
                return result
            data = await loop.sock_recv(self._socket, 65536)
            if data:
                self._coming.write(data)
            else:
                self._coming.write_eof()


class Threaded:
    """A `Recorder` on a loop and thread of its own, for clients that block: SDKs and the bench."""

    def __init__(self, answer: Answer, *, tls: bool = False) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._answer, self._tls = answer, tls

    def __enter__(self) -> Recorder:
        self._thread.start()

        async def begin() -> Recorder:
            return await Recorder(self._answer, tls=self._tls).__aenter__()

        self._recorder = asyncio.run_coroutine_threadsafe(begin(), self._loop).result()
        return self._recorder

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._recorder.vanish(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@cache
def _authority() -> trustme.CA:
    return trustme.CA()


@cache
def tls_context() -> ssl.SSLContext:
    """Return the server's side of TLS, for `localhost` and 127.0.0.1."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _authority().issue_cert("localhost", "127.0.0.1").configure_cert(context)
    return context


@cache
def _folder() -> "TemporaryDirectory[str]":
    return TemporaryDirectory(prefix="mailroom-tests-")


@cache
def ca_file() -> Path:
    """Return the PEM file of the authority that signed the server's certificate."""
    path = Path(_folder().name) / "ca.pem"
    path.write_bytes(_authority().cert_pem.bytes())
    return path
