"""httpx's transport over aiohttp, which records what was sent when a request fails.

    client = httpx.AsyncClient(transport=Transport(egress, clock), trust_env=False, timeout=None)

httpx's own pool costs 1.2 ms of CPU a request at 16 concurrent, this a third of it (bench row h). aiohttp
connects, encrypts, speaks to proxies and keeps connections; what is added here:

- A failure is Unavailable until the whole request was passed to the kernel, and Uncertain from then on, whatever
  aiohttp raises. `Exchange.handed_over` is the same for the caller.
- A connection that the server has closed while it was idle is not used: aiohttp would lose the request with it.
- A failed connection is aborted: a graceful close would still send what is buffered, and the mail would arrive.
- Bodies are bounded and never decompressed.
"""

from math import inf
from typing import Any, Final
from weakref import WeakKeyDictionary

import aiohttp
import httpx
from aiohttp.client_proto import ResponseHandler
from aiohttp_socks import ProxyError
from yarl import URL

from mailroom.clock import Clock
from mailroom.errors import Misconfigured, SendingError, Unavailable
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
_DROPPED_HEADERS: Final = frozenset({b"content-encoding", b"content-length", b"location", b"transfer-encoding"})
"""Headers by which httpx would decode the body again, or parse a URL that is not followed."""
_CLOSED: Final = "this provider was closed"


class Transport(httpx.AsyncBaseTransport):
    """Raises Misconfigured, Unavailable and Uncertain. Uses a request's extension `exchange`, if there is one.

    It limits neither the number of connections nor the time of an exchange: the caller does.
    """

    def __init__(self, egress: Egress, clock: Clock) -> None:
        """Read the CA file; connect to nothing. Raises ValueError for a bad file."""
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
            raise Unavailable(_CLOSED)
        if self._session is None:  # it belongs to the running loop
            self._session = self._open_session()
        exchange: Exchange = request.extensions.get("exchange") or Exchange(request.content)
        try:
            return await self._exchange(self._session, request, exchange)
        except BaseException as error:
            exchange.abort()
            if type(error) is TimeoutError:  # the caller's
                raise
            if isinstance(error, aiohttp.ClientError | OSError | ProxyError):
                raise self._failure(request.url, error, exchange) from None
            if isinstance(error, ValueError):
                raise Misconfigured("the request's address or one of its headers cannot be written in HTTP") from None
            raise

    async def _exchange(
        self, session: aiohttp.ClientSession, request: httpx.Request, exchange: Exchange
    ) -> httpx.Response:
        exchange.begin()
        async with session.request(
            request.method,
            URL(str(request.url), encoded=True),  # another quoting would break signatures
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
                headers=[pair for pair in response.raw_headers if pair[0].lower() not in _DROPPED_HEADERS],
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
            connector=connector(self._egress, self._context, self._is_usable, keepalive_timeout=IDLE_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(connect=self._egress.connect_timeout),
            max_line_size=_LONGEST_FIELD,
            max_field_size=_LONGEST_FIELD,
        )

    def _is_usable(self, connection: ResponseHandler) -> bool:
        return self._clock.monotonic() < self._usable_until.get(connection, inf)

    def _failure(self, url: httpx.URL, error: Exception, exchange: Exchange) -> SendingError:  # noqa: PLR0911 - a table
        """Return what aiohttp's error means."""
        proxy = self._egress.proxy
        where = f"the proxy {proxy.host}:{proxy.port}" if proxy else f"{url.host}:{url.port or PORTS[url.scheme]}"
        match error:
            case aiohttp.ConnectionTimeoutError():
                seconds = self._egress.connect_timeout
                return Unavailable(f"{where} was not ready for a request within {seconds:g} s")
            case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientConnectorError():
                return connection_failure(where, _cause(error), self._egress)
            case OSError() if exchange.connection is None:
                return connection_failure(where, error, self._egress)
            case aiohttp.ClientHttpProxyError():
                return proxy_failure("http", error.status, f"{error.status} {error.message}")
            case ProxyError():
                return proxy_failure("socks5", error.error_code, str(error))
            case aiohttp.ClientResponseError():
                return exchange.failure("the answer is not HTTP")
            case _ if self._closed:
                return exchange.failure(_CLOSED)
        return exchange.failure(f"no answer: {bounded(str(error)) or 'the connection was closed'}")


def _cause(error: aiohttp.ClientConnectorCertificateError | aiohttp.ClientConnectorError) -> OSError:
    """Return the system's or OpenSSL's error."""
    cause = error.certificate_error if isinstance(error, aiohttp.ClientConnectorCertificateError) else error.os_error
    return cause if isinstance(cause, OSError) else ConnectionError(str(cause))


def _proxy_arguments(proxy: Proxy | None) -> dict[str, Any]:
    """Return the arguments of aiohttp's `request` for an HTTP proxy."""
    if proxy is None or proxy.scheme.startswith("socks5"):
        return {}
    arguments: dict[str, Any] = {"proxy": URL.build(scheme=proxy.scheme, host=proxy.host, port=proxy.port)}
    if proxy.username:
        login = aiohttp.encode_basic_auth(proxy.username, proxy.password)
        arguments["proxy_headers"] = {"Proxy-Authorization": login}
    return arguments


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """Return the body, or a little more than `LONGEST_BODY` of it."""
    if response.status < 200:  # noqa: PLR2004  # HTTP's
        raise aiohttp.ClientPayloadError("101 Switching Protocols, which was not asked for")
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > LONGEST_BODY:
            response.close()
            break
    return bytes(body)


def _idle_seconds(keep_alive: str) -> float:
    """Return how long the connection may be idle: at most `IDLE_SECONDS`, or what the server announces."""
    for parameter in keep_alive.lower().split(","):
        key, _, seconds = parameter.strip().partition("=")
        if key == "timeout" and seconds.isdigit():
            return min(IDLE_SECONDS, max(0.0, int(seconds[:9]) - 1.0))
    return IDLE_SECONDS
