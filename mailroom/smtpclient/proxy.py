"""Connects through a proxy: CONNECT (RFC 9110 §9.3.6) or SOCKS5 (RFC 1928), by `python-socks`.

    connection = await connect_through_proxy("socks5://proxy.acme.example:1080", "smtp.acme.example", 587)

It gets a stream of ours, for three reasons: the socket is bound to `local_address` and opened by happy eyeballs; the
proxy may be encrypted; and python-socks' stream reads an HTTP response by one `read`, which may return a part of it,
or the server's greeting as well.
"""

import asyncio
import ssl
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final, cast
from urllib.parse import unquote, urlsplit

from python_socks import ProxyError, ProxyType
from python_socks.async_.asyncio.v2 import Proxy

from mailroom.smtpclient.connection import Connection
from mailroom.smtpclient.exceptions import ConnectionFailed, ProxyRefused
from mailroom.smtpclient.sockets import open_socket

_PORTS: Final = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}
_LONGEST_RESPONSE: Final = 16 * 1024
"""Octets of an HTTP response."""
_NO_LIMIT_SECONDS: Final = 3600.0
"""Replaces python-socks' default of 60 s; the caller bounds the whole."""


async def connect_through_proxy(
    proxy_url: str,
    host: str,
    port: int,
    *,
    local_address: IPv4Address | IPv6Address | None = None,
    context: ssl.SSLContext | None = None,
) -> Connection:
    """Return a connection to the host, whose name the proxy resolves. Raises ConnectionFailed, ProxyRefused.

    `context` verifies an `https://` proxy.
    """
    parts = urlsplit(proxy_url)
    proxy_host, proxy_port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
    is_http = parts.scheme.startswith("http")
    username, password = unquote(parts.username or ""), unquote(parts.password or "")
    if is_http:  # python-socks writes Latin-1, proxies expect UTF-8 (RFC 7617 §2.1)
        username, password = (text.encode().decode("latin-1") for text in (username, password))
    proxy_context = (context or ssl.create_default_context()) if parts.scheme == "https" else None
    reader = asyncio.StreamReader(_LONGEST_RESPONSE)
    transport = None
    try:
        transport, _ = await asyncio.get_running_loop().create_connection(
            lambda: asyncio.StreamReaderProtocol(reader),
            sock=await open_socket(proxy_host, proxy_port, local_address),
            ssl=proxy_context,
            server_hostname=proxy_host if proxy_context else None,
        )
        tunnel = Proxy(
            ProxyType.HTTP if is_http else ProxyType.SOCKS5,
            proxy_host,
            proxy_port,
            username or None,
            password,
            rdns=True,
            forward=cast("Proxy", _Stream(reader, transport)),
        )
        await tunnel.connect(host.encode("idna").decode(), port, timeout=_NO_LIMIT_SECONDS)
        reader.feed_eof()  # so that `read` returns what has arrived, at once
        connection = Connection()
        connection.take_over(transport, await reader.read())
    except BaseException as error:
        if transport is not None:
            transport.abort()
        match error:
            case ProxyError():
                raise ProxyRefused(parts.scheme, str(error), error.error_code) from None
            case EOFError() | asyncio.LimitOverrunError():  # asyncio.IncompleteReadError is an EOFError
                raise ProxyRefused(parts.scheme, "its response is cut off, or has no end") from None
            case OSError():
                raise ConnectionFailed(f"the proxy {proxy_host}:{proxy_port}", error) from None
        raise
    return connection


class _Stream:
    """An open connection to the proxy; python-socks uses it like a proxy in front of that proxy."""

    def __init__(self, reader: asyncio.StreamReader, transport: asyncio.Transport) -> None:
        self.read_exactly = reader.readexactly
        self._reader = reader
        self._transport = transport

    async def connect(self, **_address: Any) -> "_Stream":
        return self

    async def write(self, data: bytes) -> None:
        self._transport.write(data)

    async def read(self) -> bytes:
        """Return a whole HTTP response to CONNECT, which has no body, and nothing of what follows."""
        return await self._reader.readuntil(b"\r\n\r\n")

    async def close(self) -> None:
        """Do nothing: the caller closes the transport."""
