"""aiohttp's connections, opened by an `Egress`, and how much of a request was sent over one.

exchange = Exchange(body)
exchange.begin()
async with session.request(..., data=exchange.data(), upload_tracker=exchange.upload) as response: ...
"""

import asyncio
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

from mailroom.errors import SendingError, Unavailable, Uncertain
from mailroom.providers.egress import Egress, Proxy
from mailroom.smtpclient.sockets import has_unread_data, open_socket

_PIECE: Final = 64 * 1024
"""Octets that are passed to aiohttp at once; so the sent part of a large body is known."""


def connector(
    egress: Egress, context: SSLContext, is_usable: Callable[[ResponseHandler], bool], *, keepalive_timeout: float
) -> aiohttp.TCPConnector:
    """Return a connector for the running loop, without a limit to its connections.

    `is_usable` returns whether a kept connection may be used again; `keepalive_timeout` is in seconds.
    """
    local = egress.local_address
    families = {None: socket.AF_UNSPEC, 4: socket.AF_INET, 6: socket.AF_INET6}
    options: dict[str, Any] = {
        "is_usable": is_usable,
        "ssl": context,
        "limit": 0,
        "keepalive_timeout": keepalive_timeout,
        "local_addr": (str(local), 0) if local else None,
        "family": families[local.version if local else None],
    }
    if egress.proxy and egress.proxy.scheme.startswith("socks5"):
        return _SocksConnector(egress.proxy, local, **options)
    return _CheckedConnector(**options)


class Exchange:
    """One request and its response: how much of the request was sent, over which connection."""

    def __init__(self, body: bytes, on_progress: Callable[[bool], None] = lambda _: None) -> None:
        """`on_progress` is called when there is a connection, with whether the request is written at once.

        For a large body it is called again when all of it is written.
        """
        self._body = body
        self._on_progress = on_progress
        self._given_octets = 0
        self.upload = aiohttp.UploadTracker()
        self.connection: ResponseHandler | None = None
        self._transport: Any = None
        self.handed_over = False
        """Whether the whole request may have reached the server; set by `abort`."""

    def begin(self) -> None:
        """Make this the exchange of the current task."""
        _current.set(self)

    def data(self) -> bytes | AsyncIterator[bytes] | None:
        """Return the body for aiohttp; a large one in pieces."""
        return self._pieces() if len(self._body) > _PIECE else self._body or None

    async def _pieces(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self._body), _PIECE):
            self._given_octets = start + _PIECE
            yield self._body[start : start + _PIECE]
        self._on_progress(True)

    def use(self, connection: Connection) -> None:
        """Record the connection over which the request is sent."""
        self.connection, self._transport = connection.protocol, connection.transport
        self._on_progress(len(self._body) <= _PIECE)

    def abort(self) -> None:
        """Set `handed_over`, and drop the connection with what of the request is still buffered."""
        self.handed_over = self._may_be_handed_over()
        if self._transport is not None:
            self._transport.abort()

    def failure(self, diagnostic: str) -> SendingError:
        """Return Uncertain if the request may have reached the server, else Unavailable."""
        return (Uncertain if self.handed_over else Unavailable)(diagnostic)

    def _may_be_handed_over(self) -> bool:
        if self._transport is None or not self.upload.attempts:
            return False
        if len(self._body) <= _PIECE:
            return self._transport.is_closing() or not self._transport.get_write_buffer_size()
        size = len(self._body)
        return self._given_octets >= size and (self._transport.is_closing() or self.upload.bytes_written >= size)


_current: ContextVar[Exchange] = ContextVar("current")


class _CheckedConnector(aiohttp.TCPConnector):
    """Reuses no connection that the server may have closed, and records the connection in the exchange."""

    def __init__(self, *arguments: Any, is_usable: Callable[[ResponseHandler], bool], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._is_usable = is_usable
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
            protocol, transport = connection.protocol, connection.transport
            assert protocol is not None  # it was not released yet
            is_new = protocol not in self._seen
            if is_new or (self._is_usable(protocol) and transport is not None and not has_unread_data(transport)):
                self._seen.add(protocol)
                _current.get().use(connection)
                return connection
            connection.close()


class _SocksConnector(_CheckedConnector, ProxyConnector):
    """Connects through a SOCKS5 proxy, which resolves the host's name."""

    def __init__(self, proxy: Proxy, local_address: IPv4Address | IPv6Address | None, **options: Any) -> None:
        super().__init__(proxy.host, proxy.port, **options)
        to_proxy = cast("SocksProxy", _ToProxy(local_address))
        login = proxy.username or None, proxy.password
        self._proxy = SocksProxy(ProxyType.SOCKS5, proxy.host, proxy.port, *login, rdns=True, forward=to_proxy)

    async def _connect_via_proxy(
        self,
        host: str,
        port: int,
        ssl: SSLContext | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - aiohttp-socks' signature
    ) -> tuple[Any, ResponseHandler]:
        """Open a tunnel from `local_address`, which aiohttp-socks itself does not pass to its proxy."""
        tunnel = await self._proxy.connect(host, port, timeout)
        loop = asyncio.get_running_loop()
        name = host if ssl else None
        return await loop.create_connection(lambda: ResponseHandler(loop), sock=tunnel, ssl=ssl, server_hostname=name)


@dataclass(frozen=True, slots=True)
class _ToProxy:
    """Connects to the proxy itself; python-socks uses it like a proxy in front of that proxy."""

    local_address: IPv4Address | IPv6Address | None

    async def connect(self, dest_host: str, dest_port: int, timeout: float | None = None) -> socket.socket:  # noqa: ARG002, ASYNC109 - python-socks' signature
        """Return a connected socket."""
        return await open_socket(dest_host, dest_port, self.local_address)
