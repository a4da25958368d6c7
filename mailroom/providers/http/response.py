"""What a vendor answered: bounded, without our credentials, and what it means when its own table is silent."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Final

import httpx
import msgspec

from mailroom.clock import Instant
from mailroom.errors import Declined, Misconfigured, SendingError, Unavailable, Uncertain
from mailroom.message import Receipt
from mailroom.providers.refusals import classify_text
from mailroom.text import bounded

LONGEST_WAIT_SECONDS: Final = 24 * 3600.0
"""No vendor makes us wait for longer, whatever it says."""
_EPOCH: Final = 1e9
"""A reset beyond this is a moment, not a number of seconds."""
_TAGS: Final = re.compile(r"<(script|style|head)\b.*?</\1\s*>|<[^>]*>", re.DOTALL | re.IGNORECASE)
_OUR_FAULT: Final = frozenset({401, 402, 403, 404, 405, 407})


@dataclass(frozen=True, slots=True)
class ApiResponse:
    """An answer over HTTP, as a stranger may have written it."""

    status: int
    headers: httpx.Headers = field(repr=False)
    body: bytes = field(repr=False)
    """At most 64 KiB, our credentials masked."""
    now: Instant
    """When it came: waits are counted from here."""
    cut: bool = False
    """The body was longer."""

    @property
    def is_success(self) -> bool:
        """Whether the status is of the 2xx."""
        return 200 <= self.status < 300  # noqa: PLR2004  # HTTP's

    @property
    def fields(self) -> dict[str, Any]:
        """The body if it is a JSON object, else nothing."""
        found = self.json
        return found if isinstance(found, dict) else {}

    @property
    def json(self) -> Any:
        """The body if it is JSON, else None."""
        try:
            return None if self.cut else msgspec.json.decode(self.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None

    @property
    def words(self) -> str:
        """What was said: the message in a JSON object, else the text without markup, else the status's name."""
        fields = self.fields
        for key in ("message", "Message", "error", "ErrorMessage", "detail"):
            if found := text_of(fields.get(key)):
                return found
        text = self.body.decode("utf-8", "replace")
        if not fields and "<" in text:
            text = _TAGS.sub(" ", text)
        return bounded(text) or _status_name(self.status)

    def text(self, *path: str | int) -> str:
        """Return a text, number or boolean at this place of the JSON body, bounded; empty if there is none."""
        value = self.json
        for step in path:
            if isinstance(step, str) and isinstance(value, Mapping):
                value = value.get(step)
            elif isinstance(step, int) and isinstance(value, list) and -len(value) <= step < len(value):
                value = value[step]
            else:
                return ""
        return text_of(value)

    def retry_after(self, *more: str) -> float | None:
        """Return the seconds to wait by `Retry-After` (RFC 9110 §10.2.3), else by the vendor's own headers.

        Theirs hold seconds, or the moment as Unix seconds.
        """
        for name in ("retry-after", *more):
            given = self.headers.get(name, "").strip()
            seconds = _seconds(given, self.now)
            if seconds is not None:
                return min(max(seconds, 0.0), LONGEST_WAIT_SECONDS)
        return None

    def error(
        self, kind: type[SendingError], words: str = "", *, code: str = "", retry_after: float | None = None
    ) -> SendingError:
        """Return the error of this kind in the vendor's words; without its code the status is the code.

        What the vendor's code leaves open, `Declined`, is decided by the words, as for an SMTP reply.
        """
        words = bounded(words) or self.words
        code = bounded(code)[:100] or f"HTTP {self.status}"
        row = classify_text(words)
        kind = row.kind if kind is Declined else kind
        hint, wait = (row.hint, row.wait_seconds) if kind is row.kind else ("", None)
        if issubclass(kind, Unavailable):
            waits = (retry_after, self.retry_after(), wait)
            retry_after = next((seconds for seconds in waits if seconds is not None), None)
            return kind(words, code=code, hint=hint, retry_after=retry_after)
        return kind(words, code=code, hint=hint)

    def receipt(self, name: str) -> Receipt:
        """Return the receipt of a yes that has the mail's id under this name. Raises Uncertain if it has none."""
        identifier = self.text(name)
        if not identifier:
            raise self.not_understood()
        return Receipt(identifier, self.words)

    def not_understood(self) -> SendingError:
        """Return the error for a yes that is not the one the vendor documents: it may have been one."""
        said = "the answer is too long" if self.cut else f"the answer is not as documented: {self.words}"
        return self.error(Uncertain, said)


def by_status(status: int) -> type[SendingError]:
    """Return what a status means where the body says nothing.

    5xx is Uncertain: Mailgun's users report it of mail that was sent.
    """
    if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.REQUEST_TIMEOUT):
        return Unavailable
    if status in _OUR_FAULT or status in range(300, 400):
        return Misconfigured
    return Declined if status in range(400, 500) else Uncertain


def text_of(value: Any) -> str:
    """Return a JSON text, number or boolean as bounded text; empty for anything else."""
    if isinstance(value, str):
        return bounded(value)
    return bounded(json.dumps(value)) if isinstance(value, bool | int | float) else ""


def _seconds(given: str, now: Instant) -> float | None:
    try:
        number = float(given) if given.isascii() and given.replace(".", "", 1).isdecimal() else None
        if number is not None:
            return number - now if number > _EPOCH else number
        return parsedate_to_datetime(given).timestamp() - now if given else None
    except (ValueError, OverflowError, TypeError):
        return None


def _status_name(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "an answer without words"
