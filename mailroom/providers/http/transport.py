"""httpx's transport over aiohttp, which knows what was sent when a request fails.

httpx's own pool costs 1.2 ms of CPU a request at 16 concurrent, this a third of it (bench row h). aiohttp
connects, encrypts, speaks to proxies and keeps connections; what is added here:

- A failure is Unavailable until the whole request was handed to the kernel, and Uncertain from then on, whatever
  aiohttp calls it. `HandOver` tells the caller which.
- A connection that the server has closed while it was idle is not used: aiohttp would lose the request with it.
- A failed connection is aborted: a polite close would still send what is buffered, and the mail would arrive.
- Bodies are bounded and never unpacked.
"""

from dataclasses import dataclass
from math import inf
from typing import Any, Final
from weakref import WeakKeyDictionary

import aiohttp
import httpx
from aiohttp.client_proto import ResponseHandler
from aiohttp_socks import ProxyError
from yarl import URL

from mailroom.clock import Clock
from mailroom.errors import Misconfigured, SendingError, Unavailable, Uncertain
from mailroom.providers.connection_failure import connection_failure, proxy_failure
from mailroom.providers.egress import PORTS, Egress, Proxy
from mailroom.providers.http.connections import Exchange, connector
from mailroom.text import bounded

LONGEST_BODY: Final = 64 * 1024
"""Octets that are read of a response's body."""
IDLE_SECONDS: Final = 30.0
"""A connection that was idle for longer is not used again: load balancers drop them silently after a minute."""
_LONGEST_FIELD: Final = 16 * 1024
"""Octets of a status line or a header field."""
_NOT_KEPT: Final = frozenset({b"content-encoding", b"content-length", b"transfer-encoding"})
"""Headers of a body that httpx must not decode."""
_FIRST_FINAL_STATUS: Final = 200


@dataclass(slots=True)
class HandOver:
    """Whether the whole request may have reached the server. Pass it as the request's extension `hand_over`."""

    done: bool = False


class Transport(httpx.AsyncBaseTransport):
    """`httpx.AsyncClient(transport=Transport(egress, clock))`; raises Misconfigured, Unavailable and Uncertain.

    It sets no limit to the number of connections, and none to the time of an exchange: the caller does.
    """

    def __init__(self, egress: Egress, clock: Clock) -> None:
        """Read the CA file; dial nothing. Raises ValueError for a bad file."""
        self._egress = egress
        self._clock = clock
        self._context = egress.tls_context()
        self._context.set_alpn_protocols(["http/1.1"])
        self._proxy_arguments = _proxy_arguments(egress.proxy)
        self._usable_until: WeakKeyDictionary[ResponseHandler, float] = WeakKeyDictionary()
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request and return its response, the body cut at `LONGEST_BODY` (extension `cut`)."""
        if self._closed:
            raise Unavailable("this provider was closed")
        if self._session is None:  # it belongs to the running loop
            self._session = self._open_session()
        exchange = Exchange(request.content)
        try:
            return await self._exchange(self._session, request, exchange)
        except BaseException as error:
            handed_over = exchange.handed_over
            if isinstance(hand_over := request.extensions.get("hand_over"), HandOver):
                hand_over.done = handed_over
            exchange.abort()
            if type(error) is TimeoutError:  # the caller's
                raise
            if isinstance(error, aiohttp.ClientError | OSError | ProxyError):
                kind = Uncertain if handed_over else Unavailable
                raise self._failure(request.url, error, kind, started=exchange.connection is not None) from None
            if isinstance(error, ValueError):
                raise Misconfigured("the request's address or one of its headers cannot be written in HTTP") from None
            raise

    async def _exchange(
        self, session: aiohttp.ClientSession, request: httpx.Request, exchange: Exchange
    ) -> httpx.Response:
        exchange.begin()
        async with session.request(
            request.method,
            URL(str(request.url), encoded=True),  # quoting it anew would break signatures
            headers=[(name.decode("ascii"), value.decode("ascii")) for name, value in request.headers.raw],
            data=exchange.data(),
            allow_redirects=False,
            upload_tracker=exchange.upload,
            **self._proxy_arguments,
        ) as response:
            body = await _read(response)
            if exchange.connection is not None:
                idle_seconds = _idle_seconds(response.headers.get("Keep-Alive", ""))
                self._usable_until[exchange.connection] = self._clock.monotonic() + idle_seconds
            return httpx.Response(
                response.status,
                headers=[pair for pair in response.raw_headers if pair[0].lower() not in _NOT_KEPT],
                content=body[:LONGEST_BODY],
                extensions={"cut": len(body) > LONGEST_BODY},
            )

    async def aclose(self) -> None:
        """Close all connections; requests under way fail."""
        self._closed = True
        if self._session is not None:
            await self._session.close()

    def _open_session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=connector(self._egress, self._context, self._usable, keepalive_timeout=IDLE_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(connect=self._egress.connect_timeout),
            max_line_size=_LONGEST_FIELD,
            max_field_size=_LONGEST_FIELD,
        )

    def _usable(self, connection: ResponseHandler) -> bool:
        """Tell whether a kept connection may be used once more."""
        return self._clock.monotonic() < self._usable_until.get(connection, inf)

    def _failure(  # noqa: PLR0911 - a table
        self, url: httpx.URL, error: Exception, kind: type[SendingError], *, started: bool
    ) -> SendingError:
        """Return what aiohttp's error means; `kind` is for those that can also follow the hand-over."""
        proxy = self._egress.proxy
        host = f"{url.host}:{url.port or PORTS[url.scheme]}"
        where = f"the proxy {proxy.host}:{proxy.port}" if proxy else host
        match error:
            case aiohttp.ConnectionTimeoutError():
                seconds = self._egress.connect_timeout
                return Unavailable(f"{where} was not ready for a request within {seconds:g} s")
            case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientConnectorError():
                return connection_failure(where, _cause(error), self._egress)
            case OSError() if not started:
                return connection_failure(where, error, self._egress)
            case aiohttp.ClientHttpProxyError():
                return proxy_failure("http", error.status, f"{error.status} {error.message}")
            case ProxyError():
                return proxy_failure("socks5", error.error_code, str(error))
            case aiohttp.ClientResponseError():
                return kind("the answer is not HTTP")
            case _ if self._closed:
                return kind("this provider was closed")
        return kind(f"no answer: {bounded(str(error)) or 'the connection was closed'}")


def _cause(error: aiohttp.ClientConnectorCertificateError | aiohttp.ClientConnectorError) -> OSError:
    """Return the system's or OpenSSL's error."""
    found = error.certificate_error if isinstance(error, aiohttp.ClientConnectorCertificateError) else error.os_error
    return found if isinstance(found, OSError) else ConnectionError(str(found))


def _proxy_arguments(proxy: Proxy | None) -> dict[str, Any]:
    """Return what aiohttp's `request` is told of an HTTP proxy."""
    if proxy is None or proxy.scheme.startswith("socks5"):
        return {}
    arguments: dict[str, Any] = {"proxy": URL.build(scheme=proxy.scheme, host=proxy.host, port=proxy.port)}
    if proxy.username:
        login = aiohttp.encode_basic_auth(proxy.username, proxy.password)
        arguments["proxy_headers"] = {"Proxy-Authorization": login}
    return arguments


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """Return the body, or a little more than `LONGEST_BODY` of it."""
    if response.status < _FIRST_FINAL_STATUS:
        raise aiohttp.ClientPayloadError("101 Switching Protocols, which was not asked for")
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > LONGEST_BODY:
            response.close()
            break
    return bytes(body)


def _idle_seconds(keep_alive: str) -> float:
    """Return how long the connection may be idle: a server may announce less than we hope for."""
    for parameter in keep_alive.lower().split(","):
        key, _, seconds = parameter.strip().partition("=")
        if key == "timeout" and seconds.isdigit():
            return min(IDLE_SECONDS, max(0.0, int(seconds[:9]) - 1.0))
    return IDLE_SECONDS
