"""A connection without a network: the test passes bytes to the protocol, and its writes are recorded."""

import asyncio
from typing import Any

import uvicorn
from starlette.types import Message, Receive, Scope, Send
from uvicorn.server import ServerState

from handlers.connection_table import ConnectionTable
from handlers.http_protocol import BoundedHttpProtocol
from mailroom.metrics import Metrics


class Recording(asyncio.Transport):
    """What a protocol writes, write by write."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)})
        self.writes: list[bytes] = []
        self.closed = False
        self.half_closed = False
        self.aborted = False
        self.paused = False

    def write(self, data: Any) -> None:
        assert not self.closed
        assert not self.half_closed
        if data:
            self.writes.append(bytes(data))

    def write_eof(self) -> None:
        assert not self.closed
        self.half_closed = True

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


class Application:
    """Records each request, and responds with its path when `may_respond` is set."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, list[tuple[bytes, bytes]], bytes]] = []
        self.disconnects = 0
        self.may_respond = asyncio.Event()
        self.may_respond.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body: bytes = b""
        message: Message = {}
        path = scope["path"]
        while not path.startswith("/early") and message.get("more_body", True):
            message = await receive()
            if message["type"] == "http.disconnect":
                self.disconnects += 1
                return
            body += message["body"]
        self.requests.append((scope["method"], path, scope["headers"], body))
        await self.may_respond.wait()
        words = path.encode()
        headers = [(b"content-length", b"%d" % len(words))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": words})


class Connected:
    """A connection to a server of its own, or to that of another connection."""

    def __init__(self, other: "Connected | None" = None) -> None:
        self.app: Application = other.app if other else Application()
        self.metrics: Metrics = other.metrics if other else Metrics()
        self.table: ConnectionTable = other.table if other else ConnectionTable(0.0, most=2000, metrics=self.metrics)
        self.state: ServerState = other.state if other else ServerState()
        config = uvicorn.Config(self.app, ws="none", lifespan="off", log_config=None, proxy_headers=False)
        config.load()
        self.transport = Recording()
        self.protocol = BoundedHttpProtocol(self.table, config=config, server_state=self.state, app_state={})
        self.protocol.connection_made(self.transport)

    async def send(self, *pieces: bytes) -> None:
        """Send bytes, and let the application work after each piece."""
        for piece in pieces:
            self.protocol.data_received(piece)
            await self.settle()

    async def settle(self) -> None:
        """Return when nothing goes on without another event."""
        for _ in range(12):
            await asyncio.sleep(0)

    def pass_seconds(self, seconds: int) -> None:
        """Let time go by for all connections of the server."""
        for _ in range(seconds):
            self.table.sweep(self.table.now + 1)

    def lose(self) -> None:
        """Let the client close the connection."""
        self.transport.closed = True
        self.protocol.connection_lost(None)

    def end(self) -> str:
        """How the server has ended the connection so far: not, `half-closed`, `closed` or `aborted`."""
        if self.transport.aborted:
            return "aborted"
        return "closed" if self.transport.closed else "half-closed" if self.transport.half_closed else ""

    @property
    def written(self) -> bytes:
        """Everything that was written."""
        return b"".join(self.transport.writes)

    @property
    def statuses(self) -> list[int]:
        """The status of each response."""
        return [int(part[1:4]) for part in self.written.split(b"HTTP/1.1")[1:]]
