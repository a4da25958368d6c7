"""What providers over HTTP share.

    class Acme(HttpProvider):
        def build_request(self, email: Email) -> ApiRequest: ...
        def parse_response(self, response: ApiResponse) -> Receipt: ...

The rest is the same for all and happens here: one httpx client a provider over kept connections, no retries, no
redirects, no proxies from the environment, bounded responses; a time-out is Unavailable before the request was handed
over and Uncertain after.
"""

import asyncio
import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, Literal
from urllib.parse import quote

import httpx
import msgspec

from mailroom.clock import Clock
from mailroom.errors import Misconfigured, SendingError, Unavailable, Uncertain
from mailroom.message import MASK, Email, Receipt
from mailroom.providers import ProviderContext
from mailroom.providers.http.http_settings import ApiKey, HttpSettings
from mailroom.providers.http.mail_fields import (
    address_text,
    basic,
    header_map,
    header_pairs,
    mailbox_object,
    mailbox_text,
)
from mailroom.providers.http.response import ApiResponse, by_status, text_of
from mailroom.providers.http.transport import HandOver, Transport

__all__ = [
    "ApiKey",
    "ApiRequest",
    "ApiResponse",
    "HttpProvider",
    "HttpSettings",
    "address_text",
    "basic",
    "by_status",
    "header_map",
    "header_pairs",
    "json_request",
    "mailbox_object",
    "mailbox_text",
    "text_of",
]

# It tells each request's URL at INFO; those of a generic provider may hold its token.
logging.getLogger("httpx").setLevel(logging.WARNING)

_CLOSED: Final = "this provider was closed"


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """One request; mails are always POSTed."""

    path: str
    """From the host on, with its query: `/v3/mail/send`."""
    body: bytes = field(repr=False)
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    """Beside the credentials, which the provider was made with."""
    method: Literal["POST", "GET"] = "POST"


def json_request(path: str, fields: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> ApiRequest:
    """Return a call with a JSON body; equal fields in equal order give equal bytes."""
    return ApiRequest(path, msgspec.json.encode(fields), headers=headers or {})


class HttpProvider(ABC):
    """A provider over HTTP; `build_request` and `parse_response` are the vendor's."""

    def __init__(
        self,
        settings: HttpSettings,
        context: ProviderContext,
        *,
        host: str,
        credentials: Mapping[str, str] | None = None,
        secrets: Iterable[str] = (),
        auth: httpx.Auth | None = None,
    ) -> None:
        """Take the vendor's host (`https://api.acme.example`) and the headers that authenticate, or an `Auth`.

        What the credentials hold is masked wherever a vendor repeats it, and so are `secrets`.
        """
        self.base = settings.endpoint or host
        self._timeout = settings.timeout
        self._clock: Clock = context.clock
        self._room = asyncio.Semaphore(settings.concurrency)
        self._transport = Transport(settings.egress, context.clock)
        self._client = httpx.AsyncClient(
            transport=self._transport,
            trust_env=False,
            follow_redirects=False,
            timeout=None,  # noqa: S113  # `call` bounds the whole
            auth=auth,
        )
        credentials = credentials or {}
        self._headers = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",  # nothing is unpacked, so nothing is a bomb
            "User-Agent": "Mailroom",
            **credentials,
        }
        self._masked = _spellings((*credentials.values(), *secrets))
        self._closed = False

    @abstractmethod
    def build_request(self, email: Email) -> ApiRequest:
        """Return the request for a mail; the same mail always gives the same bytes.

        Raises Misconfigured or Rejected for what the vendor has no way to express.
        """

    @abstractmethod
    def parse_response(self, response: ApiResponse) -> Receipt:
        """Return the vendor's yes, or raise one of the four kinds."""

    def secrets(self) -> tuple[str, ...]:
        """Return what is masked beside those credentials: an `Auth` has its own, and may get new ones."""
        return ()

    async def send(self, email: Email) -> Receipt:
        """Hand a mail over, see `Provider`; `timeout` bounds the whole, a free connection included."""
        return self.parse_response(await self.call(self.build_request(email)))

    async def call(self, call: ApiRequest) -> ApiResponse:
        """Make one request and return its answer, whatever it says.

        Raises Misconfigured, Unavailable or Uncertain when there is none.
        """
        hand_over = HandOver()
        try:
            request = httpx.Request(
                call.method,
                _url(f"{self.base}{call.path}"),
                headers={**self._headers, "Content-Type": call.content_type, **call.headers},
                content=call.body,
                extensions={"hand_over": hand_over},
            )
            async with asyncio.timeout(self._timeout), self._room:
                if self._closed:
                    raise Unavailable(_CLOSED)
                response = await self._client.send(request)
        except TimeoutError:
            kind = Uncertain if hand_over.done else Unavailable
            raise kind(f"no answer within {self._timeout:g} s") from None
        except (httpx.InvalidURL, UnicodeError):  # their texts repeat the headers
            raise Misconfigured("the request's address or one of its headers cannot be written in HTTP") from None
        except httpx.HTTPError as error:
            raise (Uncertain if hand_over.done else Unavailable)(f"no answer: {type(error).__name__}") from None
        return self._answer(response)

    async def asked(self, path: str, fields: Mapping[str, Any] | None = None) -> ApiResponse:
        """Return the vendor's yes to a GET, or to a POST of fields, for `verify`.

        Raises for what is none as `read` does for a mail.
        """
        answer = await self.call(ApiRequest(path, b"", method="GET") if fields is None else json_request(path, fields))
        if not answer.is_success:
            self.parse_response(answer)
        if not answer.is_success or not answer.fields:  # a page that somebody on the way put there is no yes
            raise answer.not_understood()
        return answer

    async def aclose(self) -> None:
        """Close all connections; requests on their way are cut off."""
        self._closed = True
        await self._client.aclose()

    def refusal(self, answer: ApiResponse) -> SendingError:
        """Return the error of an answer of which only the status is understood."""
        kind = by_status(answer.status)
        if answer.status in range(300, 400):
            return answer.error(kind, f"it redirects, which is not followed; is {self.base} the right endpoint?")
        return answer.error(kind)

    def _answer(self, response: httpx.Response) -> ApiResponse:
        body = response.content
        for form in (*self._masked, *_spellings(self.secrets())):
            body = body.replace(form, _MASK)
        return ApiResponse(
            response.status_code,
            response.headers,
            body,
            now=self._clock.wall(),
            cut=response.extensions.get("cut", False),
        )


_MASK: Final = MASK.encode()


@lru_cache(maxsize=64)
def _url(text: str) -> httpx.URL:
    """Take it apart once: it is the same for every mail, and costs a tenth of a request."""
    return httpx.URL(text)


_SHORTEST_SECRET: Final = 6
"""Characters; masking shorter texts would garble the answer, and a key is never so short."""


@lru_cache(maxsize=64)
def _spellings(secrets: tuple[str, ...]) -> tuple[bytes, ...]:
    """Return the ways in which secrets come back: a header's value, its last word, in JSON, in a URL."""
    forms: set[str] = set()
    for value in secrets:
        for form in (value, value.rpartition(" ")[2]):
            if len(form) >= _SHORTEST_SECRET:
                forms |= {form, json.dumps(form)[1:-1], quote(form, safe="")}
    return tuple(form.encode() for form in sorted(forms, key=len, reverse=True))
