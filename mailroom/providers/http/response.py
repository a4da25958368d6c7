"""A vendor's response: bounded, without our credentials, and what it means where the vendor's own table has no row.

raise response.error(KINDS.get(response.text("code")), code=response.text("code"))
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from http.client import responses
from typing import Any, Final

import httpx
import msgspec

from mailroom.clock import Instant
from mailroom.errors import Declined, Misconfigured, SendingError, Unavailable, Uncertain
from mailroom.message import Receipt
from mailroom.providers.refusals import classify_text
from mailroom.text import bounded

LONGEST_WAIT_SECONDS: Final = 24 * 3600.0
"""Maximum wait, whatever a vendor's response says."""
_EPOCH: Final = 1e9
"""A reset beyond this is a Unix time, not a number of seconds."""
_TAGS: Final = re.compile(r"<(script|style|head)\b.*?</\1\s*>|<[^>]*>", re.DOTALL | re.IGNORECASE)
_CREDENTIALS: Final = "check the credentials of this provider"
_OUR_FAULT: Final = frozenset({401, 402, 403, 404, 405, 407})


@dataclass(frozen=True, slots=True)
class ApiResponse:
    """A response over HTTP; nothing in it can be relied on."""

    status: int
    headers: httpx.Headers = field(repr=False)
    body: bytes = field(repr=False)
    """At most 64 KiB, our credentials masked."""
    now: Instant
    """When it came: waits are counted from here."""
    cut: bool = False
    """Whether the body was longer."""

    @property
    def is_success(self) -> bool:
        """Whether the status is 2xx."""
        return self.status in range(200, 300)

    @property
    def fields(self) -> dict[str, Any]:
        """The body if it is a JSON object, else an empty one."""
        return self.json if isinstance(self.json, dict) else {}

    @property
    def json(self) -> Any:
        """The body if it is JSON, else None."""
        try:
            return None if self.cut else msgspec.json.decode(self.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None

    @property
    def diagnostic(self) -> str:
        """The message in a JSON object, else the text without markup, else the name of the status."""
        fields = self.fields
        for key in ("message", "Message", "error", "ErrorMessage", "detail"):
            if text := _text_of(fields.get(key)):
                return text
        text = self.body.decode("utf-8", "replace")
        if not fields and "<" in text:
            text = _TAGS.sub(" ", text)
        return bounded(text) or responses.get(self.status, "an answer without words")

    def text(self, *path: str | int) -> str:
        """Return the text, number or boolean at this path of the JSON body, bounded; empty if there is none."""
        value = self.json
        for step in path:
            if isinstance(step, str) and isinstance(value, Mapping):
                value = value.get(step)
            elif isinstance(step, int) and isinstance(value, list) and step < len(value):
                value = value[step]
            else:
                return ""
        return _text_of(value)

    def retry_after(self, *vendor_headers: str) -> float | None:
        """Return the seconds to wait by `Retry-After` (RFC 9110 §10.2.3), else by the vendor's own headers.

        Those hold seconds, or the moment as Unix seconds.
        """
        for name in ("retry-after", *vendor_headers):
            seconds = _seconds(self.headers.get(name, "").strip(), self.now)
            if seconds is not None:
                return min(max(seconds, 0.0), LONGEST_WAIT_SECONDS)
        return None

    def error(
        self,
        kind: type[SendingError] | None = None,
        diagnostic: str = "",
        *,
        code: str = "",
        retry_after: float | None = None,
        is_throttled: bool = False,
    ) -> SendingError:
        """Return the error of this kind, by default the status's, with the vendor's diagnostic and code or the status.

        The diagnostic is looked up in the same table as an SMTP reply: it refines `Declined`, and shows whether a
        quota is used up that will be renewed.
        `is_throttled`: the vendor's code says that mails come too fast, as a 429 and `Retry-After` do.
        """
        kind = kind or by_status(self.status)
        diagnostic = bounded(diagnostic) or self.diagnostic
        code = bounded(code)[:100] or f"HTTP {self.status}"
        row = classify_text(diagnostic, is_temporary=issubclass(kind, Unavailable))
        is_decisive = kind in (Declined, row.kind) or (kind is Misconfigured and row.kind is Unavailable)
        if is_decisive:
            error = row.error(diagnostic, code=code)
        else:
            hint = _CREDENTIALS if kind is Misconfigured and self.status == HTTPStatus.UNAUTHORIZED else ""
            error = kind(diagnostic, code=code, hint=hint)
        if isinstance(error, Unavailable):
            waits = (retry_after, self.retry_after(), error.retry_after)
            error.retry_after = next((seconds for seconds in waits if seconds is not None), None)
            error.is_throttled |= (
                is_throttled or self.status == HTTPStatus.TOO_MANY_REQUESTS or self.retry_after() is not None
            )
        return error

    def receipt(self, name: str) -> Receipt:
        """Return the receipt of a success that has the mail's id in this field. Raises Uncertain if it has none."""
        identifier = self.text(name)
        if not identifier:
            raise self.undocumented()
        return Receipt(identifier, self.diagnostic)

    def undocumented(self) -> SendingError:
        """Return the error for a success that does not look as documented: the mail may have been sent."""
        problem = "the answer is too long" if self.cut else f"the answer is not as documented: {self.diagnostic}"
        return self.error(Uncertain, problem)


def by_status(status: int) -> type[SendingError]:
    """Return the kind of error that a status means where the body gives no reason.

    5xx is Uncertain: Mailgun's users report it of mail that was sent.
    """
    if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.REQUEST_TIMEOUT):
        return Unavailable
    if status in _OUR_FAULT or status in range(300, 400):
        return Misconfigured
    return Declined if status in range(400, 500) else Uncertain


def _text_of(value: Any) -> str:
    """Return a JSON text, number or boolean as bounded text; empty for anything else."""
    if isinstance(value, str):
        return bounded(value)
    return bounded(json.dumps(value)) if isinstance(value, bool | int | float) else ""


def _seconds(value: str, now: Instant) -> float | None:
    try:
        if value.isascii() and value.replace(".", "", 1).isdecimal():
            return float(value) - now if float(value) > _EPOCH else float(value)
        return parsedate_to_datetime(value).timestamp() - now if value else None
    except (ValueError, OverflowError, TypeError):
        return None
