"""Listens: the sockets, the signals, and an end that drops nobody.

Logto keeps idle connections for 5 s and shows its end users our authorization header and the code when one of them
breaks. So the end is slow: every answer says `Connection: close` while the door stays open for 6 s; by then no client
holds a connection that it could want to use again.
"""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Generator, Mapping
from functools import partial
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from handlers.connection_table import IDLE_SECONDS, ConnectionTable, connection_limit
from handlers.health import Standing
from handlers.http_protocol import BoundedHttpProtocol
from mailroom.clock import Clock
from mailroom.metrics import Metrics

DRAIN_SECONDS: Final = 6.0
"""More than the 5 s after which Logto closes an idle connection."""
_AFTER_DRAIN_SECONDS: Final = 2.0
"""Of the time to end in: for requests in flight, the courier and the outbox."""
_HURRY_SECONDS: Final = 1.0
_NEWCOMER_SECONDS: Final = 1.0
"""How long a connection that was accepted last may take to say what it wants."""
_TICK_SECONDS: Final = 0.02
_BACKLOG: Final = 2048
_FIRST_SYSTEMD_FD: Final = 3


class CannotListen(Exception):
    """The socket is not to be had; the text tells the operator why."""


class Ending:
    """The wish to end, as the signals express it: SIGTERM slowly, a second one or SIGINT at once."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.hurried = asyncio.Event()

    def listen(self) -> None:
        """Take over the signals of this process."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.ask)
        loop.add_signal_handler(signal.SIGINT, self.hurry)

    def ask(self) -> None:
        """End; asked twice: at once."""
        if self.asked.is_set():
            self.hurried.set()
        self.asked.set()

    def hurry(self) -> None:
        """End at once."""
        self.asked.set()
        self.hurried.set()


class Listener(uvicorn.Server):
    """Serves an app on open sockets until it is told to end."""

    def __init__(self, app: ASGIApp, *, standing: Standing, metrics: Metrics, clock: Clock) -> None:
        self._connections = ConnectionTable(clock.monotonic(), most=connection_limit(), metrics=metrics)
        super().__init__(
            uvicorn.Config(
                app,
                http=partial(BoundedHttpProtocol, self._connections),  # type: ignore[arg-type]  # called, not subclassed
                ws="none",
                lifespan="off",
                interface="asgi3",
                access_log=False,
                log_config=None,
                server_header=False,
                proxy_headers=False,
                backlog=_BACKLOG,
                timeout_keep_alive=IDLE_SECONDS,
            )
        )
        self._standing = standing
        self._metrics = metrics
        self._clock = clock
        metrics.connections.set_function(lambda: len(self.server_state.connections))

    async def on_tick(self, counter: int) -> bool:
        """Expire overdue connections; uvicorn calls this every 0.1 s."""
        self._connections.sweep(self._clock.monotonic())
        return await super().on_tick(counter)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave the signals to `Ending`: uvicorn would close its listeners first."""
        yield

    async def serve_until(self, ending: Ending, sockets: list[socket.socket], *, shutdown_seconds: float) -> float:
        """Serve until asked to end, drain, and close; return the seconds of `shutdown_seconds` that are left."""
        serving = asyncio.create_task(self.serve(sockets))
        asked = asyncio.create_task(ending.asked.wait())
        self._standing.started = True
        await asyncio.wait((serving, asked), return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        until = self._clock.monotonic() + shutdown_seconds
        if not serving.done():
            await self._drain(ending, min(DRAIN_SECONDS, max(0.0, shutdown_seconds - _AFTER_DRAIN_SECONDS)))
        if ending.hurried.is_set():
            until = min(until, self._clock.monotonic() + _HURRY_SECONDS)
        # uvicorn waits for requests in flight, and half of what is left belongs to courier and outbox.
        self.config.timeout_graceful_shutdown = max(0.1, (until - self._clock.monotonic()) / 2)  # type: ignore[assignment]  # asyncio.wait_for takes fractions
        self.should_exit = True
        await serving
        return max(0.0, until - self._clock.monotonic())

    async def _drain(self, ending: Ending, seconds: float) -> None:
        self._standing.draining = True
        self._metrics.draining.set(1)
        # uvicorn's place for headers of every answer, its own 400 and 500 included; it copies the first to the second.
        for headers in (self.config.encoded_headers, self.server_state.default_headers):
            headers.append((b"connection", b"close"))
        over = asyncio.create_task(self._clock.sleep(seconds))
        hurried = asyncio.create_task(ending.hurried.wait())
        await asyncio.wait((over, hurried), return_when=asyncio.FIRST_COMPLETED)
        over.cancel()
        hurried.cancel()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting, let those speak who came last, then end as uvicorn does.

        uvicorn closes a connection that has not asked anything yet, even when the question is on its way.
        """
        for server in self.servers:
            server.close()
        until = self._clock.monotonic() + min(_NEWCOMER_SECONDS, self.config.timeout_graceful_shutdown or 0.0)
        while self._clock.monotonic() < until and any(
            getattr(connection, "cycle", None) is None for connection in self.server_state.connections
        ):
            await self._clock.sleep(_TICK_SECONDS)  # uvicorn has no event for this
        await super().shutdown(sockets)


def inherited(fd: int | None, environ: Mapping[str, str]) -> list[socket.socket]:
    """Return the listening sockets that somebody opened for us: `--fd`, or systemd's (`LISTEN_FDS`); else none.

    Raises CannotListen.
    """
    if fd is not None:
        return [_adopted(fd)]
    if environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    count = environ.get("LISTEN_FDS", "")
    return [_adopted(_FIRST_SYSTEMD_FD + number) for number in range(int(count) if count.isdigit() else 0)]


def _adopted(fd: int) -> socket.socket:
    try:
        adopted = socket.socket(fileno=fd)
        listening = adopted.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise CannotListen(f"File descriptor {fd} is not a socket: {error.strerror}.") from None
    if not listening or adopted.family not in (socket.AF_INET, socket.AF_INET6):
        adopted.detach()
        raise CannotListen(f"File descriptor {fd} is not a listening TCP socket.")
    adopted.set_inheritable(False)
    return adopted


def bound(host: str, port: int) -> socket.socket:
    """Return a socket of our own, bound and not yet listening. Raises CannotListen."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        own = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise CannotListen(f"Cannot listen on {host!r}: {error.strerror}.") from None
    try:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6 and host == "::":
            own.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        own.bind(address)
    except OSError as error:
        own.close()
        raise CannotListen(f"Cannot listen on {host} port {port}: {error.strerror}.") from None
    return own
