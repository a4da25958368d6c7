"""Listens on sockets, handles signals, and shuts down without losing a request.

Logto keeps idle connections for 5 s, and when one of them breaks it shows its end users our authorization header and
the code. So a shutdown is slow: for 6 s new connections are accepted, and every response says `Connection: close`; then
no client has a connection that it could use again. After that deliveries end while requests are still served: the next
process starts to serve when this one has closed the outbox, and clients must not wait for a slow provider.
"""

import asyncio
import contextlib
import errno
import os
import signal
import socket
from collections.abc import Callable, Coroutine, Generator
from functools import partial
from typing import Any, Final

import uvicorn
from starlette.types import ASGIApp

from handlers.connection_table import IDLE_SECONDS, ConnectionTable, connection_limit
from handlers.health import Readiness
from handlers.http_protocol import BoundedHttpProtocol
from mailroom.clock import Clock
from mailroom.metrics import Metrics

DRAIN_SECONDS: Final = 6.0
"""More than the 5 s after which Logto closes an idle connection."""
_AFTER_DRAIN_SECONDS: Final = 2.0
"""The part of a shutdown that is left for current deliveries, current requests and the outbox."""
_CLOSE_SECONDS: Final = 1.0
"""The part of that in which no connection is accepted."""
_IMMEDIATE_SECONDS: Final = 1.0
"""An immediate shutdown takes at most so long."""
_FIRST_REQUEST_SECONDS: Final = 0.5
"""The connections accepted last may take so long to send a request: a lost packet is sent again by then."""
_REPEAT_SECONDS: Final = 1.0
"""SIGTERMs within this time are one: a platform may send it to every process, and the parent passes it on."""
_TICK_SECONDS: Final = 0.02
_BACKLOG: Final = 2048


class ListenError(Exception):
    """There is no socket to listen on; the text says why."""


class PortTaken(ListenError):
    """Another process listens on the port."""


class Shutdown:
    """What the signals request: SIGTERM a slow shutdown, a second SIGTERM or SIGINT an immediate one."""

    def __init__(self) -> None:
        self.requested = asyncio.Event()
        self.immediate = asyncio.Event()
        self._requested_at = 0.0

    def install_signal_handlers(self) -> None:
        """Handle the signals of this process."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.request)
        loop.add_signal_handler(signal.SIGINT, self.request_immediate)

    def request(self) -> None:
        """Request a slow shutdown; called again after a second, an immediate one."""
        now = asyncio.get_running_loop().time()
        if not self.requested.is_set():
            self._requested_at = now
        elif now - self._requested_at >= _REPEAT_SECONDS:
            self.immediate.set()
        self.requested.set()

    def request_immediate(self) -> None:
        """Request an immediate shutdown."""
        self.requested.set()
        self.immediate.set()


class Server(uvicorn.Server):
    """Serves an app on open sockets until a shutdown is requested."""

    def __init__(self, app: ASGIApp, *, readiness: Readiness, metrics: Metrics, clock: Clock) -> None:
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
        self._readiness = readiness
        self._metrics = metrics
        self._clock = clock
        metrics.connections.set_function(lambda: len(self.server_state.connections))
        self._without_request_before: set[object] = set()
        """Connections that have sent no request in all the time that they had."""

    async def on_tick(self, counter: int) -> bool:
        """Expire overdue connections; uvicorn calls this every 0.1 s."""
        self._connections.sweep(self._clock.monotonic())
        return await super().on_tick(counter)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Install no handlers of uvicorn's, which would close the listeners first; `Shutdown` has its own."""
        yield

    async def serve_until(
        self,
        shutdown: Shutdown,
        sockets: list[socket.socket],
        *,
        shutdown_seconds: float,
        finish: Callable[[], Coroutine[Any, Any, None]] | None = None,
    ) -> float:
        """Serve until a shutdown is requested, drain, and close; return what is left of `shutdown_seconds`.

        `finish` is called after the drain; while it runs, requests are still served.
        """
        serving = asyncio.create_task(self.serve(sockets))
        await wait_first(asyncio.wait((serving,)), shutdown.requested.wait())
        until = self._clock.monotonic() + shutdown_seconds
        if not serving.done():
            await self._drain(shutdown, min(DRAIN_SECONDS, max(0.0, shutdown_seconds - _AFTER_DRAIN_SECONDS)))
            if finish:
                limit = self._clock.sleep(until - self._clock.monotonic() - _CLOSE_SECONDS)
                await wait_first(finish(), limit, shutdown.immediate.wait())
        if shutdown.immediate.is_set():
            until = min(until, self._clock.monotonic() + _IMMEDIATE_SECONDS)
        # For first requests, then for current ones; half of the rest is for courier and outbox.
        self.config.timeout_graceful_shutdown = max(0.1, (until - self._clock.monotonic()) / 4)  # type: ignore[assignment]  # asyncio.wait_for takes fractions
        self.should_exit = True
        await serving
        return max(0.0, until - self._clock.monotonic())

    async def _drain(self, shutdown: Shutdown, seconds: float) -> None:
        self._readiness.draining = True
        self._metrics.draining.set(1)
        # uvicorn adds these headers to every response, also to its own 400 and 500; it copies the first to the second.
        for headers in (self.config.encoded_headers, self.server_state.default_headers):
            headers.append((b"connection", b"close"))
        if seconds > _FIRST_REQUEST_SECONDS:
            await wait_first(self._clock.sleep(seconds - _FIRST_REQUEST_SECONDS), shutdown.immediate.wait())
            self._without_request_before = self._without_request()
            seconds = _FIRST_REQUEST_SECONDS
        await wait_first(self._clock.sleep(seconds), shutdown.immediate.wait())

    def _without_request(self) -> set[object]:
        """Return the connections that have sent no request yet."""
        return {one for one in self.server_state.connections if getattr(one, "cycle", None) is None}

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting, wait for requests on the connections accepted last, then shut down as uvicorn does.

        uvicorn closes a connection that has sent no request yet, even when one is on its way.
        """
        for server in self.servers:
            server.close()
        until = self._clock.monotonic() + min(_FIRST_REQUEST_SECONDS, self.config.timeout_graceful_shutdown or 0.0)
        while self._clock.monotonic() < until and self._without_request() - self._without_request_before:
            await self._clock.sleep(_TICK_SECONDS)  # uvicorn has no event for this
        await super().shutdown(sockets)


async def wait_first(*waits: Coroutine[Any, Any, object]) -> None:
    """Return when one of them has ended; cancel the others."""
    tasks = [asyncio.create_task(one) for one in waits]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()


def adopt_socket(fd: int) -> socket.socket:
    """Return the listening TCP socket with this descriptor. Raises ListenError."""
    try:
        listener = socket.socket(fileno=fd)
        is_listening = listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise ListenError(f"File descriptor {fd} is not a socket: {error.strerror}.") from None
    if not is_listening or listener.family not in (socket.AF_INET, socket.AF_INET6):
        listener.detach()
        raise ListenError(f"File descriptor {fd} is not a listening TCP socket.")
    listener.set_inheritable(False)
    return listener


def bind_socket(host: str, port: int) -> socket.socket:
    """Return a new listening socket. Raises PortTaken or ListenError."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except OSError as error:
        raise ListenError(f"Cannot listen on {host!r}: {error.strerror}.") from None
    is_dualstack = host == "::" and socket.has_dualstack_ipv6()
    try:
        return socket.create_server(address, family=family, backlog=_BACKLOG, dualstack_ipv6=is_dualstack)
    except OSError as error:
        kind = PortTaken if error.errno == errno.EADDRINUSE else ListenError
        todo = " End the program that listens there, or set another port." if kind is PortTaken else ""
        raise kind(f"Cannot listen on {host} port {port}: {os.strerror(error.errno or 0)}.{todo}") from None
