"""aiohttp's connections, made as an `Egress` says, and what is known of the one that a request goes over."""

import asyncio
import select
import socket
from collections.abc import AsyncIterator, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from ssl import SSLContext
from typing import Any, Final, cast
from weakref import WeakSet

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp_socks import ProxyConnector
from python_socks import ProxyType
from python_socks.async_.asyncio import Proxy as SocksProxy

from mailroom.providers.egress import Egress
from mailroom.smtpclient.happy_eyeballs import open_socket

_PIECE: Final = 64 * 1024
"""Octets that are given to aiohttp at once, so that it is known how far a large body got."""


def connector(
    egress: Egress, context: SSLContext, usable: Callable[[ResponseHandler], bool], *, keepalive_timeout: float
) -> aiohttp.TCPConnector:
    """Return what makes and keeps connections, any number of them; for the running loop.

    `usable` tells whether a kept connection may be used once more; `keepalive_timeout` is in seconds.
    """
    local, proxy = egress.local_address, egress.proxy
    families = {None: socket.AF_UNSPEC, 4: socket.AF_INET, 6: socket.AF_INET6}
    options: dict[str, Any] = {
        "ssl": context,
        "limit": 0,
        "keepalive_timeout": keepalive_timeout,
        "local_addr": (str(local), 0) if local else None,
        "family": families[local.version if local else None],
    }
    made: _CheckedConnector
    if proxy and proxy.scheme.startswith("socks5"):
        made = _SocksConnector(proxy.host, proxy.port, **options)
        made.tunnel = SocksProxy(
            ProxyType.SOCKS5,
            proxy.host,
            proxy.port,
            proxy.username or None,
            proxy.password,
            rdns=True,
            forward=cast("SocksProxy", _ToProxy(local)),
        )
    else:
        made = _CheckedConnector(**options)
    made.usable = usable
    return made


class Exchange:
    """One request on its way: how much of it was sent, over which connection."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._given = 0
        self.upload = aiohttp.UploadTracker()
        self.connection: ResponseHandler | None = None
        self._transport: Any = None

    def begin(self) -> None:
        """Be the exchange of this task."""
        _current.set(self)

    def data(self) -> bytes | AsyncIterator[bytes] | None:
        """Return the body for aiohttp; a large one in pieces."""
        return self._pieces() if len(self._body) > _PIECE else self._body or None

    async def _pieces(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self._body), _PIECE):
            self._given = start + _PIECE
            yield self._body[start : start + _PIECE]

    def takes(self, connection: Connection) -> None:
        """Go over this connection."""
        self.connection, self._transport = connection.protocol, connection.transport

    @property
    def handed_over(self) -> bool:
        """Whether the end of the request may have left: errs towards yes."""
        if self._transport is None or not self.upload.attempts:
            return False
        if len(self._body) <= _PIECE:
            return self._transport.is_closing() or not self._transport.get_write_buffer_size()
        return self._given >= len(self._body) and (
            self._transport.is_closing() or self.upload.bytes_written >= len(self._body)
        )

    def abort(self) -> None:
        """Drop the connection, and what of the request is still buffered."""
        if self._transport is not None:
            self._transport.abort()


_current: ContextVar[Exchange] = ContextVar("current")


class _CheckedConnector(aiohttp.TCPConnector):
    """Reuses no connection that the server may have closed, and tells the exchange which one it got."""

    usable: Callable[[ResponseHandler], bool]

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._seen: WeakSet[ResponseHandler] = WeakSet()

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Any],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - aiohttp's signature
    ) -> Connection:
        """Return a connection, new or kept."""
        while True:
            connection = await super().connect(req, traces, timeout)
            assert connection.protocol is not None  # it was not released yet
            if connection.protocol not in self._seen or (self.usable(connection.protocol) and _is_quiet(connection)):
                self._seen.add(connection.protocol)
                _current.get().takes(connection)
                return connection
            connection.close()


class _SocksConnector(_CheckedConnector, ProxyConnector):
    """Connects through a SOCKS5 proxy, which resolves the host's name."""

    tunnel: SocksProxy

    async def _connect_via_proxy(
        self,
        host: str,
        port: int,
        ssl: SSLContext | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - aiohttp-socks' signature
    ) -> tuple[Any, ResponseHandler]:
        """Open a tunnel from `local_address`, which aiohttp-socks itself has no way to tell its proxy."""
        tunnel = await self.tunnel.connect(host, port, timeout)
        loop = asyncio.get_running_loop()
        name = host if ssl else None
        return await loop.create_connection(lambda: ResponseHandler(loop), sock=tunnel, ssl=ssl, server_hostname=name)


@dataclass(frozen=True, slots=True)
class _ToProxy:
    """Connects to the proxy itself; what python-socks takes for a proxy in front of it."""

    local_address: IPv4Address | IPv6Address | None

    async def connect(self, dest_host: str, dest_port: int, timeout: float | None = None) -> socket.socket:  # noqa: ARG002, ASYNC109 - python-socks' signature
        """Return a connected socket."""
        return await open_socket(dest_host, dest_port, self.local_address)


def _is_quiet(connection: Connection) -> bool:
    """Tell whether nothing waits to be read: a FIN, a reset or a stray answer that the loop has not seen yet."""
    if connection.transport is None:
        return False
    waiting = select.poll()
    waiting.register(connection.transport.get_extra_info("socket").fileno(), select.POLLIN)
    return not waiting.poll(0)
