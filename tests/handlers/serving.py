"""A real server on a real socket, and a client that sends the bytes it is given."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Self

from handlers import application
from handlers.code_limits import CodeLimits
from handlers.health import Readiness
from handlers.lifecycle import Server, Shutdown, bind_socket
from mailroom.clock import SystemClock
from mailroom.metrics import Metrics
from tests.clock import FakeClock
from tests.handlers.parts import AUTHORIZATION, MemoryParts, settings
from tests.rendering.samples import make_renderer

WIRE = Path(__file__).parents[1] / "logto-wire"


@dataclass(frozen=True, slots=True)
class Answer:
    """A response."""

    status: int
    headers: dict[str, str]
    body: bytes


class Client:
    """One connection that is kept alive."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self._file = self._socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._socket.close()

    def send(self, request: bytes) -> None:
        """Send some bytes."""
        self._socket.sendall(request)

    def answer(self) -> Answer:
        """Read one answer."""
        _, status, _ = self._file.readline().split(b" ", 2)
        headers: dict[str, str] = {}
        while line := self._file.readline().rstrip(b"\r\n"):
            name, _, value = line.decode("latin-1").partition(": ")
            above = headers.get(name.lower())
            headers[name.lower()] = value if above is None else f"{above}\n{value}"
        return Answer(int(status), headers, self._file.read(int(headers.get("content-length", "0"))))

    def is_closed(self) -> bool:
        """Tell whether the server closed the connection in an orderly way."""
        return self._file.read(1) == b""


@dataclass(frozen=True, slots=True)
class Running:
    """A running server with its parts, and methods that send it requests."""

    port: int
    parts: MemoryParts
    clock: FakeClock
    metrics: Metrics
    readiness: Readiness

    def raw(self, request: bytes) -> Answer:
        """Send these bytes over a connection of their own."""
        with Client(self.port) as client:
            client.send(request)
            return client.answer()

    def ask(self, method: str, path: str, *, body: bytes | None = None, **headers: str) -> Answer:
        """Send a request; an underscore in a header's name stands for a hyphen."""
        return self.raw(request(method, path, body=body, **headers))

    def email(self, body: bytes, **headers: str) -> Answer:
        """Post to `/email` with the right authorization."""
        return self.ask("POST", "/email", body=body, **{"authorization": AUTHORIZATION, **headers})


def request(method: str, path: str, *, body: bytes | None = None, **headers: str) -> bytes:
    """Write a request."""
    named = {"host": "localhost", **{name.replace("_", "-"): value for name, value in headers.items()}}
    if body is not None:
        named.setdefault("content-length", str(len(body)))
    head = "".join(f"{name}: {value}\r\n" for name, value in named.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + (body or b"")


@contextmanager
def served(**changes: Any) -> Iterator[Running]:
    """Run a server in a thread of its own; `changes` are those of the settings."""
    chosen = settings(**changes)
    clock = FakeClock()
    parts = MemoryParts(clock)
    metrics = Metrics()
    readiness = Readiness(started=True)
    app = application(
        settings=chosen,
        acceptor=parts,
        outbox=parts.outbox,
        renderer=make_renderer(),
        clock=clock,
        entropy=Random(1).randbytes,
        metrics=metrics,
        readiness=readiness,
        limits=CodeLimits(chosen.limits, clock, metrics),
    )
    listening = bind_socket("127.0.0.1", 0)
    port: int = listening.getsockname()[1]
    up = threading.Event()
    loop = asyncio.new_event_loop()
    shutdown: list[Shutdown] = []

    async def run() -> None:
        shutdown.append(Shutdown())
        listener = Server(app, readiness=readiness, metrics=metrics, clock=SystemClock())
        up.set()
        await listener.serve_until(shutdown[0], [listening], shutdown_seconds=3)

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),))
    thread.start()
    try:
        assert up.wait(10)
        yield Running(port, parts, clock, metrics, readiness)
    finally:
        loop.call_soon_threadsafe(shutdown[0].request_immediate)
        thread.join()
        loop.close()


def captured(path: Path, endpoint: str) -> bytes:
    """Return a captured request with another path in its first line."""
    request_line, rest = path.read_bytes().split(b"\r\n", 1)
    method, _, version = request_line.split(b" ")
    return b"%b /%b %b\r\n%b" % (method, endpoint.encode(), version, rest)
