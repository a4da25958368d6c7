"""The data types of the core: messages, attempts, mails, receipts.

Types that each request creates are msgspec Structs: 1.3 µs, where a frozen dataclass of ten fields takes 11.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Any, Final, TypeAlias

import msgspec

from mailroom import logto
from mailroom.clock import Instant
from mailroom.notices import NOTICES

Payload: TypeAlias = Mapping[str, Any]
"""The `payload` of Logto's request as it came: any JSON value under any key."""


class State(StrEnum):
    """The state of a message."""

    QUEUED = "queued"
    SENDING = "sending"
    HELD = "held"
    """Waits for an operator, a corrected configuration or its expiry; the payload is still stored."""
    SENT = "sent"
    DELIVERED = "delivered"
    BOUNCED = "bounced"
    COMPLAINED = "complained"
    FAILED = "failed"
    EXPIRED = "expired"
    SUPERSEDED = "superseded"
    SUPPRESSED = "suppressed"
    CANCELLED = "cancelled"

    @property
    def settled(self) -> bool:
        """Whether the payload has been erased and nothing more will be sent."""
        return self not in (State.QUEUED, State.SENDING, State.HELD)


class Priority(IntEnum):
    """Lower numbers are sent first."""

    CODE = 0
    """Expires within minutes: everything on `/email` except invitations."""
    INVITATION = 1
    EVENT = 2
    """Mails for webhook events: Welcome, and the others that `[webhook.events]` names."""


_CODE: Final = Priority.CODE  # looked up once: each access takes 0.15 µs on Python 3.11

WELCOME: Final = "Welcome"
"""The mail for a created user; not a message type of Logto."""
TEMPLATES: Final = (*logto.MESSAGE_TYPES, WELCOME, *NOTICES)
"""The bundled templates."""


class Outcome(StrEnum):
    """The result of an attempt. An attempt without one was interrupted by the end of its process."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    MISCONFIGURED = "misconfigured"
    UNAVAILABLE = "unavailable"
    UNCERTAIN = "uncertain"


class Message(msgspec.Struct, frozen=True):
    """One mail to one recipient, not yet rendered."""

    id: str
    """A UUIDv7: sorts by time of acceptance; also the idempotency key and the Message-ID's left side."""
    template: str
    """Logto's message type (`SignIn`), or the template that `[webhook.events]` names (`Welcome`)."""
    priority: Priority
    recipient: str
    """The address as it was typed; `mailroom.address.usable`."""
    payload: Payload
    created_at: Instant
    expires_at: Instant
    """No attempt starts from here on: for a code 30 s before its lifetime ends, so that it can still be read."""
    ip: str | None = None
    """The end user's IP address, from Logto's request."""
    languages: tuple[str, ...] = ()
    """The reader's preferred languages, best first, as raw tags (`("fr-CA", "en")`); not validated."""

    @property
    def is_code(self) -> bool:
        """Whether the priority is `Priority.CODE`."""
        return self.priority is _CODE

    def __repr__(self) -> str:
        return f"Message(id={self.id!r}, template={self.template!r})"

    def secrets(self) -> frozenset[str]:
        """Return the texts to mask in logs and diagnostics: all strings and numbers of the payload but harmless fields.

        Keys are included, because inviting users can choose them, unless they are plain words (`department`).
        """
        secrets: set[str] = set()
        _collect_secrets(self.payload, _HARMLESS, secrets)
        return frozenset(secrets)

    def harmless(self) -> dict[str, Any]:
        """Return the payload with everything masked, keys included, except the known harmless fields."""
        return _masked(self.payload, _HARMLESS)


class Attempt(msgspec.Struct, frozen=True, omit_defaults=True):
    """One attempt to hand a message to one provider, recorded before the connection is opened."""

    provider: str
    """The provider's name in the settings."""
    started_at: Instant
    duration_seconds: float | None = None
    outcome: Outcome | None = None
    diagnostic: str = msgspec.field(default="", name="words")
    """The provider's own text, bounded, with the message's secrets masked."""


@dataclass(frozen=True, slots=True)
class Address:
    """A mailbox: RFC 5322 `name-addr`, or `addr-spec` where the name is empty."""

    email: str
    name: str = ""


class Email(msgspec.Struct, frozen=True, kw_only=True):
    """A rendered mail; the same message and sender always give the same bytes."""

    id: str
    """The message's id: the idempotency key for providers that support one."""
    message_id: str = ""
    """RFC 5322 Message-ID with its angle brackets."""
    sender: Address
    recipient: str
    """The envelope recipient (RFC 5321), domain in its ASCII form."""
    reply_to: Address | None = None
    subject: str = ""
    html: str = ""
    """Empty: the mail is plain text."""
    text: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    """The headers beside From, To, Reply-To, Subject, Date and Message-ID, for providers that take fields."""
    language: str = ""
    """The tag of its language."""
    template: str
    raw: bytes = b""
    """The complete mail as RFC 5322 text: CRLF, lines of at most 998 octets, 7bit."""
    is_code: bool = False
    """Whether providers get little time for it, see `Message.is_code`."""
    template_at_provider: str = ""
    """The provider's name of a template of its own, which is used instead of subject and bodies."""
    variables: Payload = msgspec.field(default_factory=dict)
    """The variables of that template: Logto's payload, completed by `mailroom.logto.complete`."""
    message: Message | None = None
    """The message that is forwarded instead of a rendered mail, see `unrendered`."""

    def __repr__(self) -> str:
        return f"Email(id={self.id!r}, template={self.template!r})"


def unrendered(message: Message, sender: Address) -> Email:
    """Return a mail without content, for a provider that forwards the message to a service with its own templates."""
    return Email(
        id=message.id,
        sender=sender,
        recipient=message.recipient,
        template=message.template,
        is_code=message.is_code,
        message=message,
    )


class Receipt(msgspec.Struct, frozen=True):
    """The provider has accepted the mail."""

    provider_message_id: str = ""
    """The provider's id of the mail; later events refer to it."""
    diagnostic: str = ""
    """The provider's own text."""


MASK: Final = "•••"

_Harmless: TypeAlias = Mapping[str, Any]
_OWNER: Final[_Harmless] = {
    **dict.fromkeys(("id", "name", "displayName")),
    "branding": dict.fromkeys(("logoUrl", "darkLogoUrl", "favicon", "darkFavicon")),
}
_HARMLESS: Final[_Harmless] = {"locale": None, "uiLocales": None, "application": _OWNER, "organization": _OWNER}
"""The fields of a payload that are shown if they are texts. None: a text; a mapping: the harmless fields in it."""
_NOTHING: Final[_Harmless] = {}


_PLAIN_WORD: Final = re.compile(r"[A-Za-z][A-Za-z_]{0,29}")


def _masked(given: Mapping[str, Any], harmless: _Harmless) -> dict[str, Any]:
    masked: dict[str, Any] = {}
    for key, value in given.items():
        if key not in logto.PAYLOAD_FIELDS:
            masked[MASK] = MASK
        elif isinstance(value, dict):
            masked[key] = _masked(value, harmless.get(key) or _NOTHING)
        elif value is None or (isinstance(value, str) and harmless.get(key, _NOTHING) is None):
            masked[key] = value
        else:
            masked[key] = MASK
    return masked


_SHORTEST_SECRET: Final = 4
"""Shorter texts are not masked: that would make diagnostics unreadable."""


def _collect_secrets(given: Mapping[str, Any], harmless: _Harmless, secrets: set[str]) -> None:
    for key, value in given.items():
        if key not in logto.PAYLOAD_FIELDS and len(key) >= _SHORTEST_SECRET and not _PLAIN_WORD.fullmatch(key):
            secrets.add(key)
        if isinstance(value, dict):
            _collect_secrets(value, harmless.get(key) or _NOTHING, secrets)
        elif isinstance(value, list):
            for item in value:
                _collect_secrets(item if isinstance(item, dict) else {"": item}, _NOTHING, secrets)
        elif value is not None and not (isinstance(value, str) and harmless.get(key, _NOTHING) is None):
            text = str(value)
            if len(text) >= _SHORTEST_SECRET and not isinstance(value, bool):
                secrets.add(text)


def new_id(now: Instant, entropy: bytes) -> str:
    """Return a UUIDv7 (RFC 9562 §5.7) for this moment from ten random bytes."""
    time, random = f"{int(now * 1000):012x}", entropy.hex()
    variant = "89ab"[entropy[1] & 3]
    return f"{time[:8]}-{time[8:]}-7{random[:3]}-{variant}{random[5:8]}-{random[8:]}"


def id_in(payload: Payload, field: str) -> str:
    """Return the id of a payload's application, organization or user; empty if there is none."""
    value = payload.get(field)
    id_ = value.get("id") if isinstance(value, Mapping) else None
    return id_ if isinstance(id_, str) else ""


_TAG: Final = re.compile(r"[A-Za-z]{2,8}(?:[-_][A-Za-z0-9]{1,8}){0,8}\Z")
_MOST_LANGUAGES: Final = 10


def languages_of(payload: Payload) -> tuple[str, ...]:
    """Return the reader's preferred languages, best first: `uiLocales`, then `locale`; at most ten.

    Logto resolves `locale` itself, sometimes wrongly; `uiLocales` is the raw list.
    """
    raw, locale = payload.get("uiLocales"), payload.get("locale")
    tags = raw.split()[:_MOST_LANGUAGES] if isinstance(raw, str) else []
    if isinstance(locale, str):
        tags.append(locale)
    return tuple(dict.fromkeys(filter(_TAG.match, tags)))[:_MOST_LANGUAGES]
