"""httpx's transport of our own: kept connections, the last used one first.

httpx's pool costs 1.2 ms of CPU a request at 16 concurrent, this a fifth of it (`python -m bench.http`); and it tells
whether a request was handed over, which decides between Unavailable and Uncertain. It has no limit: who sends,
sends at most `concurrency` at a time.
"""

import httpx

from mailroom.clock import Clock
from mailroom.errors import Unavailable
from mailroom.providers._http_dial import Dialler, Origin
from mailroom.providers._http_exchange import Connection
from mailroom.providers._http_settings import PORTS, HttpSettings


class Transport(httpx.AsyncBaseTransport):
    """Takes requests of httpx's; raises Misconfigured, Unavailable and Uncertain itself."""

    def __init__(self, settings: HttpSettings, clock: Clock) -> None:
        """Read what the settings say; nothing is dialled."""
        self._dialler = Dialler(settings)
        self._clock = clock
        self._idle: dict[Origin, list[Connection]] = {}
        self._open: set[Connection] = set()
        self._closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request and return its answer, read as a whole."""
        url = request.url
        origin = (url.scheme, url.host, url.port or PORTS[url.scheme])
        connection = self._take(origin) or await self._dialled(origin)
        try:
            return await connection.exchange(request)
        finally:
            self._give_back(origin, connection)

    async def aclose(self) -> None:
        """Close all connections; requests on their way are cut off."""
        self._closed = True
        wires = [connection.wire for connection in self._open]
        self._open.clear()
        self._idle.clear()
        for wire in wires:
            wire.abort()
        for wire in wires:
            await wire.closed

    def _take(self, origin: Origin) -> Connection | None:
        kept = self._idle.get(origin)
        while kept:
            connection = kept.pop()
            if connection.reusable:
                return connection
            self._drop(connection)
        return None

    async def _dialled(self, origin: Origin) -> Connection:
        connection = Connection(await self._dialler.dial(origin), self._clock)
        if self._closed:
            connection.wire.abort()
            raise Unavailable("this provider was closed")
        self._open.add(connection)
        return connection

    def _give_back(self, origin: Origin, connection: Connection) -> None:
        if connection.reusable and not self._closed:
            self._idle.setdefault(origin, []).append(connection)
        else:
            self._drop(connection)

    def _drop(self, connection: Connection) -> None:
        connection.wire.abort()
        self._open.discard(connection)
