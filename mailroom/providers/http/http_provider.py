"""Base class of the providers over HTTP.

    class Acme(HttpProvider[Settings]):
        def __init__(self, settings: Settings, context: ProviderContext) -> None:
            super().__init__(settings, context, "https://api.acme.example", {"Authorization": bearer(settings.api_key)})

        def build_request(self, email: Email) -> ApiRequest: ...
        def parse_response(self, response: ApiResponse) -> Receipt: ...

It has one httpx client over kept connections: no retries, no redirects, no proxies from the environment, bounded
responses. A time-out is Unavailable before the request was handed over and Uncertain after.
"""

import asyncio
import contextlib
import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, Generic, Literal, TypeVar
from urllib.parse import quote, urlencode

import httpx
import msgspec

from mailroom.clock import Clock
from mailroom.errors import Misconfigured, Unavailable
from mailroom.message import MASK, Email, Receipt
from mailroom.providers.base import CODE_RESPONSE_SECONDS, CODE_STEP_SECONDS, ProviderContext
from mailroom.providers.http.connections import Exchange
from mailroom.providers.http.http_settings import HttpSettings
from mailroom.providers.http.mail_fields import check_recipient
from mailroom.providers.http.response import ApiResponse
from mailroom.providers.http.transport import Transport

# It logs each request's URL at INFO; those of a generic provider may hold a token.
logging.getLogger("httpx").setLevel(logging.WARNING)


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """One request; mails are always POSTed."""

    path: str
    """With its query: `/v3/mail/send`."""
    body: bytes = field(repr=False)
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    """Beside those of the provider, its credentials among them."""
    method: Literal["POST", "GET"] = "POST"


def json_request(path: str, fields: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> ApiRequest:
    """Return a request with a JSON body, without the fields that are None.

    Equal fields in equal order give equal bytes.
    """
    given = {name: value for name, value in fields.items() if value is not None}
    return ApiRequest(path, msgspec.json.encode(given), headers=headers or {})


def form_request(path: str, fields: Iterable[tuple[str, str]], headers: Mapping[str, str] | None = None) -> ApiRequest:
    """Return a request with the body of an HTML form."""
    return ApiRequest(path, urlencode([*fields]).encode(), "application/x-www-form-urlencoded", headers or {})


SettingsT = TypeVar("SettingsT", bound=HttpSettings)


class HttpProvider(ABC, Generic[SettingsT]):
    """A provider over HTTP; a vendor's subclass has `build_request` and `parse_response`."""

    def __init__(
        self,
        settings: SettingsT,
        context: ProviderContext,
        host: str,
        credentials: Mapping[str, str] | None = None,
        *,
        secrets: Iterable[str] = (),
        auth: httpx.Auth | None = None,
    ) -> None:
        """Take the vendor's host (`https://api.acme.example`) and the headers that authenticate, or an `Auth`.

        What the credentials hold is masked wherever a response repeats it, and so are `secrets`.
        """
        self.settings = settings
        self.base = settings.endpoint or host
        self._clock: Clock = context.clock
        self._slots = asyncio.Semaphore(settings.concurrency)
        self._client = httpx.AsyncClient(
            transport=Transport(settings.egress, context.clock),
            trust_env=False,
            follow_redirects=False,
            timeout=None,  # noqa: S113  # `fetch` bounds the whole
            auth=auth,
        )
        credentials = credentials or {}
        self._headers = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",  # nothing is decompressed, so there are no decompression bombs
            "User-Agent": "Mailroom",
            **credentials,
        }
        self._masked = _spellings((*credentials.values(), *secrets))

    @abstractmethod
    def build_request(self, email: Email) -> ApiRequest:
        """Return the request for a mail; the same mail always gives the same bytes.

        Raises Misconfigured or Rejected for what the vendor's API cannot express.
        """

    @abstractmethod
    def parse_response(self, response: ApiResponse) -> Receipt:
        """Return the receipt, or raise one of the four kinds."""

    def secrets(self) -> tuple[str, ...]:
        """Return what is masked beside the credentials: what an `Auth` uses now."""
        return ()

    async def send(self, email: Email) -> Receipt:
        """Hand a mail over, see `Provider`; the wait for a free slot counts."""
        check_recipient(email.recipient)
        return self.parse_response(await self.fetch(self.build_request(email), is_code=email.is_code))

    async def fetch(self, request: ApiRequest, *, is_code: bool = False) -> ApiResponse:
        """Make one request and return its response, whatever its status but a redirect.

        Raises Misconfigured, Unavailable or Uncertain.
        """
        limit = _TimeLimit(self.settings.timeout, is_code=is_code)
        exchange = Exchange(request.body, limit.advance)
        try:
            sent = httpx.Request(
                request.method,
                _url(f"{self.base}{request.path}"),
                headers={**self._headers, "Content-Type": request.content_type, **request.headers},
                content=request.body,
                extensions={"exchange": exchange},
            )
            async with limit.timeout, self._slots:
                if self._client.is_closed:
                    raise Unavailable("this provider was closed")
                response = self._masked_response(await self._client.send(sent))
        except TimeoutError:
            awaited = "answer" if exchange.connection else "connection"
            raise exchange.failure(f"no {awaited} within {limit.seconds:g} s") from None
        except (httpx.InvalidURL, httpx.HTTPError, UnicodeError):  # their texts repeat the headers
            raise Misconfigured("the request's address or one of its headers cannot be written in HTTP") from None
        if response.status in range(300, 400):
            raise response.error(
                Misconfigured, f"it redirects, which is not followed; is {self.base} the right endpoint?"
            )
        return response

    async def query(self, path: str, fields: Mapping[str, Any] | None = None) -> ApiResponse:
        """Return the successful response to a GET, or to a POST of fields, for `verify`.

        Raises what `parse_response` raises for any other response.
        """
        request = ApiRequest(path, b"", method="GET") if fields is None else json_request(path, fields)
        response = await self.fetch(request)
        if not response.is_success:
            self.parse_response(response)
        if not response.is_success or not response.fields:  # such as an HTML page of a proxy
            raise response.undocumented()
        return response

    async def aclose(self) -> None:
        """Close all connections; requests under way fail."""
        await self._client.aclose()

    def _masked_response(self, response: httpx.Response) -> ApiResponse:
        body = response.content
        for form in (*self._masked, *_spellings(self.secrets())):
            body = body.replace(form, MASK.encode())
        cut = response.extensions.get("cut", False)
        return ApiResponse(response.status_code, response.headers, body, now=self._clock.wall(), cut=cut)


class _TimeLimit:
    """Bounds one request; of a code each step: connect and encrypt, write the request, read the response."""

    def __init__(self, total: float, *, is_code: bool) -> None:
        self.seconds = min(total, CODE_STEP_SECONDS) if is_code else total
        """Of the current step."""
        self.timeout = asyncio.timeout(self.seconds)
        self._total = total
        self._latest = asyncio.get_running_loop().time() + total
        self._is_code = is_code

    def advance(self, is_written: bool) -> None:  # noqa: FBT001 - a callback's argument
        """Begin the next step of a code: the response, or before it what is left to write of the request."""
        if not self._is_code:
            return
        self.seconds, at = self._total, self._latest
        if is_written:
            self.seconds = CODE_RESPONSE_SECONDS
            at = asyncio.get_running_loop().time() + CODE_RESPONSE_SECONDS
        with contextlib.suppress(RuntimeError):  # the request is over although its body was not written
            self.timeout.reschedule(at)


@lru_cache(maxsize=64)
def _url(text: str) -> httpx.URL:
    """Parse a URL once: it is the same for every mail, and takes a tenth of a request's time."""
    return httpx.URL(text)


_SHORTEST_SECRET: Final = 6
"""Characters; masking shorter texts would garble the response, and no key is so short."""


@lru_cache(maxsize=64)
def _spellings(secrets: tuple[str, ...]) -> tuple[bytes, ...]:
    """Return the forms in which a response may repeat secrets: a header's value, its last word, in JSON, in a URL."""
    forms: set[str] = set()
    for value in secrets:
        for form in (value, value.rpartition(" ")[2]):
            if len(form) >= _SHORTEST_SECRET:
                forms |= {form, json.dumps(form)[1:-1], quote(form, safe="")}
    return tuple(form.encode() for form in sorted(forms, key=len, reverse=True))
