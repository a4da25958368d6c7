"""Listens: the sockets, the signals, and an end that drops nobody.

Logto keeps idle connections for 5 s and shows its end users our authorization header and the code when one of them
breaks. So the end is slow: every answer says `Connection: close` while new connections are accepted for 6 s; by then no
client holds a connection that it could want to use again. Deliveries then end while requests are still answered: the
next process accepts as soon as this one has closed the outbox, and callers must not wait for a slow provider.
"""

import asyncio
import contextlib
import errno
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping
from functools import partial
from typing import Any, Final

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from handlers.connection_table import IDLE_SECONDS, ConnectionTable, connection_limit
from handlers.health import Readiness
from handlers.http_protocol import BoundedHttpProtocol
from mailroom.clock import Clock
from mailroom.metrics import Metrics

DRAIN_SECONDS: Final = 6.0
"""More than the 5 s after which Logto closes an idle connection."""
_AFTER_DRAIN_SECONDS: Final = 2.0
"""Of the time to end in: for deliveries under way, requests in flight and the outbox."""
_CLOSE_SECONDS: Final = 1.0
"""The part of it in which no connection is accepted any more."""
_HURRY_SECONDS: Final = 1.0
_NEWCOMER_SECONDS: Final = 0.5
"""How long a connection that was accepted last may take to send its request: a lost packet is sent again by then."""
_SAME_WISH_SECONDS: Final = 1.0
"""SIGTERMs in such quick succession are one: a platform may send it to every process, and the parent passes it on."""
_TICK_SECONDS: Final = 0.02
_BACKLOG: Final = 2048
_FIRST_SYSTEMD_FD: Final = 3


class ListenError(Exception):
    """The socket is not to be had; the text tells the operator why."""


class PortTaken(ListenError):
    """Another process listens there."""


class SwappableApp:
    """Passes requests to the app of the moment: one that refuses until the outbox is open, then the real one."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Serve one request."""
        return self.app(scope, receive, send)


class Shutdown:
    """The wish to end, as the signals express it: SIGTERM slowly, a second one or SIGINT at once."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.hurried = asyncio.Event()
        self._asked_at = 0.0

    def listen(self) -> None:
        """Take over the signals of this process."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.ask)
        loop.add_signal_handler(signal.SIGINT, self.hurry)

    def ask(self) -> None:
        """End; asked again after a second: at once."""
        now = asyncio.get_running_loop().time()
        if not self.asked.is_set():
            self._asked_at = now
        elif now - self._asked_at >= _SAME_WISH_SECONDS:
            self.hurried.set()
        self.asked.set()

    def hurry(self) -> None:
        """End at once."""
        self.asked.set()
        self.hurried.set()


class Server(uvicorn.Server):
    """Serves an app on open sockets until it is told to end."""

    def __init__(self, app: ASGIApp, *, standing: Readiness, metrics: Metrics, clock: Clock) -> None:
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
        self._silent: set[object] = set()
        """Connections that have had the time to send a request, and did not."""

    async def on_tick(self, counter: int) -> bool:
        """Expire overdue connections; uvicorn calls this every 0.1 s."""
        self._connections.sweep(self._clock.monotonic())
        return await super().on_tick(counter)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave the signals to `Shutdown`: uvicorn would close its listeners first."""
        yield

    async def serve_until(
        self,
        ending: Shutdown,
        sockets: list[socket.socket],
        *,
        shutdown_seconds: float,
        finish: Callable[[], Coroutine[Any, Any, None]] | None = None,
    ) -> float:
        """Serve until asked to end, drain, and close; return the seconds of `shutdown_seconds` that are left.

        `finish` is called when the drain is over, and while it runs, requests are still answered.
        """
        serving = asyncio.create_task(self.serve(sockets))
        asked = asyncio.create_task(ending.asked.wait())
        await asyncio.wait((serving, asked), return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        until = self._clock.monotonic() + shutdown_seconds
        if not serving.done():
            await self._drain(ending, min(DRAIN_SECONDS, max(0.0, shutdown_seconds - _AFTER_DRAIN_SECONDS)))
            if finish:
                limit = self._clock.sleep(until - self._clock.monotonic() - _CLOSE_SECONDS)
                await wait_first(finish(), limit, ending.hurried.wait())
        if ending.hurried.is_set():
            until = min(until, self._clock.monotonic() + _HURRY_SECONDS)
        # For newcomers, then for requests in flight; half of what is left belongs to courier and outbox.
        self.config.timeout_graceful_shutdown = max(0.1, (until - self._clock.monotonic()) / 4)  # type: ignore[assignment]  # asyncio.wait_for takes fractions
        self.should_exit = True
        await serving
        return max(0.0, until - self._clock.monotonic())

    async def _drain(self, ending: Shutdown, seconds: float) -> None:
        self._standing.draining = True
        self._metrics.draining.set(1)
        # uvicorn's place for headers of every answer, its own 400 and 500 included; it copies the first to the second.
        for headers in (self.config.encoded_headers, self.server_state.default_headers):
            headers.append((b"connection", b"close"))
        if seconds > _NEWCOMER_SECONDS:
            await wait_first(self._clock.sleep(seconds - _NEWCOMER_SECONDS), ending.hurried.wait())
            self._silent = self._without_request()
            seconds = _NEWCOMER_SECONDS
        await wait_first(self._clock.sleep(seconds), ending.hurried.wait())

    def _without_request(self) -> set[object]:
        """Return the connections over which no request has come yet."""
        return {one for one in self.server_state.connections if getattr(one, "cycle", None) is None}

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting, wait for the requests of those that were accepted last, then end as uvicorn does.

        uvicorn closes a connection over which no request has come yet, even when one is on its way.
        """
        for server in self.servers:
            server.close()
        until = self._clock.monotonic() + min(_NEWCOMER_SECONDS, self.config.timeout_graceful_shutdown or 0.0)
        while self._clock.monotonic() < until and self._without_request() - self._silent:
            await self._clock.sleep(_TICK_SECONDS)  # uvicorn has no event for this
        await super().shutdown(sockets)


async def wait_first(*waits: Coroutine[Any, Any, object]) -> None:
    """Return when one of them has ended; the others are cancelled."""
    tasks = [asyncio.create_task(one) for one in waits]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()


def inherited_sockets(fd: int | None, environ: Mapping[str, str]) -> list[socket.socket]:
    """Return the listening sockets that somebody opened for us: `--fd`, or systemd's (`LISTEN_FDS`); else none.

    Raises CannotListen.
    """
    if fd is not None:
        return [adopt_socket(fd)]
    if environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    count = environ.get("LISTEN_FDS", "")
    return [adopt_socket(_FIRST_SYSTEMD_FD + number) for number in range(int(count) if count.isdigit() else 0)]


def adopt_socket(fd: int) -> socket.socket:
    """Return the listening TCP socket that this descriptor is. Raises CannotListen."""
    try:
        listener = socket.socket(fileno=fd)
        listening = listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise ListenError(f"File descriptor {fd} is not a socket: {error.strerror}.") from None
    if not listening or listener.family not in (socket.AF_INET, socket.AF_INET6):
        listener.detach()
        raise ListenError(f"File descriptor {fd} is not a listening TCP socket.")
    listener.set_inheritable(False)
    return listener


def bind_socket(host: str, port: int) -> socket.socket:
    """Return a listening socket of our own. Raises PortTaken or CannotListen."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        own = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise ListenError(f"Cannot listen on {host!r}: {error.strerror}.") from None
    try:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6 and host == "::":
            own.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        own.bind(address)
        own.listen(_BACKLOG)
    except OSError as error:
        own.close()
        kind = PortTaken if error.errno == errno.EADDRINUSE else ListenError
        raise kind(f"Cannot listen on {host} port {port}: {error.strerror}.") from None
    return own
