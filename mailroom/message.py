"""What moves through the house: plain, frozen data, and the few facts that follow from it.

What each request makes is a msgspec Struct: it takes 1.3 µs where a frozen dataclass of ten fields takes 11.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Any, Final, TypeAlias

import msgspec

from mailroom import logto
from mailroom.clock import Instant

Payload: TypeAlias = Mapping[str, Any]
"""The `payload` of Logto's request as it came: any JSON value under any key."""


class State(StrEnum):
    """Where a message stands."""

    QUEUED = "queued"
    SENDING = "sending"
    HELD = "held"
    """Waits, payload kept, for an operator, for a repaired configuration or for its lifetime to end."""
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
        """Whether the message's payload has been erased and nothing more will be sent."""
        return self not in _UNSETTLED


_UNSETTLED: Final = frozenset({State.QUEUED, State.SENDING, State.HELD})


class Priority(IntEnum):
    """Who goes first: the lower number."""

    CODE = 0
    """Perishable: everything on `/email` but an invitation."""
    INVITATION = 1
    EVENT = 2
    """Lifecycle mail: Welcome and whatever `[webhook.events]` names."""


WELCOME: Final = "Welcome"
"""Our own mail, for users that were created."""
TEMPLATES: Final = (*logto.MESSAGE_TYPES, WELCOME)
"""The bundled templates."""


class Outcome(StrEnum):
    """What came of an attempt. An attempt without one was cut off by the end of its process."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    MISCONFIGURED = "misconfigured"
    UNAVAILABLE = "unavailable"
    UNCERTAIN = "uncertain"


class Message(msgspec.Struct, frozen=True):
    """One mail to one recipient, not yet written."""

    id: str
    """A UUIDv7: sorts by time of acceptance; also the idempotency key and the Message-ID's left side."""
    template: str
    """Logto's message type (`SignIn`), or the template that `[webhook.events]` names (`Welcome`)."""
    priority: Priority
    recipient: str
    """The address as it was typed, valid by email-validator."""
    payload: Payload
    created_at: Instant
    expires_at: Instant
    """No attempt starts from here on: for a code 30 s before its lifetime ends, so that it can still be read."""
    ip: str | None = None
    """The end user's address as Logto told it."""
    languages: tuple[str, ...] = ()
    """What the reader asked for, best first, as raw tags (`("fr-CA", "en")`); not validated."""

    @property
    def is_code(self) -> bool:
        """Whether this is perishable, see `Priority.CODE`."""
        return self.priority is Priority.CODE

    def __repr__(self) -> str:
        return f"Message(id={self.id!r}, template={self.template!r})"

    def secrets(self) -> frozenset[str]:
        """Return the texts that must never be seen: the payload's strings and numbers but the harmless fields.

        Its keys, too: anybody who invites may choose them. Plain words (`department`) are no secrets.
        """
        found: set[str] = set()
        _hide(self.payload, _HARMLESS, found)
        return frozenset(found)

    def harmless(self) -> dict[str, Any]:
        """Return the payload's shape: the known harmless fields as they are, everything else masked, keys included."""
        return _masked(self.payload, _HARMLESS)


class Attempt(msgspec.Struct, frozen=True, omit_defaults=True):
    """One try to hand a message to one provider, recorded before the provider is dialled."""

    provider: str
    """The provider's name in the settings."""
    started_at: Instant
    duration_seconds: float | None = None
    outcome: Outcome | None = None
    words: str = ""
    """The provider's own words, bounded, with the message's secrets masked."""


@dataclass(frozen=True, slots=True)
class Address:
    """A mailbox: RFC 5322 `name-addr`, or `addr-spec` where the name is empty."""

    email: str
    name: str = ""


class Email(msgspec.Struct, frozen=True, kw_only=True):
    """A mail, written and ready to be sent; the same message and sender always give the same bytes."""

    id: str
    """The message's id: the idempotency key for providers that honour one."""
    message_id: str
    """RFC 5322 Message-ID with its angle brackets."""
    sender: Address
    recipient: str
    """The envelope recipient (RFC 5321), domain in its ASCII form."""
    reply_to: Address | None
    subject: str
    html: str
    """Empty: the mail is plain text."""
    text: str
    headers: tuple[tuple[str, str], ...]
    """What a provider that takes fields must set beside From, To, Reply-To, Subject, Date and Message-ID."""
    language: str
    """The tag of the language that it is written in."""
    template: str
    raw: bytes
    """The whole as RFC 5322 text: CRLF, lines of at most 998 octets, 7bit."""
    template_at_provider: str = ""
    """What the provider calls the template of its own that is to be used instead of subject and bodies."""
    variables: Payload = msgspec.field(default_factory=dict)
    """What that template is filled with: Logto's payload, with `locale` and, if Logto told it, `uiLocales`."""
    message: Message | None = None
    """What is to be passed on in the mail's place, see `unwritten`."""

    def __repr__(self) -> str:
        return f"Email(id={self.id!r}, template={self.template!r})"


def unwritten(message: Message, sender: Address) -> Email:
    """Return a mail without words, for a provider that passes the message on to a service with templates of its own."""
    return Email(
        id=message.id,
        message_id="",
        sender=sender,
        recipient=message.recipient,
        reply_to=None,
        subject="",
        html="",
        text="",
        headers=(),
        language="",
        template=message.template,
        raw=b"",
        message=message,
    )


class Receipt(msgspec.Struct, frozen=True):
    """The provider's yes."""

    provider_message_id: str = ""
    """What the provider calls the mail; later events are matched by it."""
    words: str = ""
    """The provider's own words."""


MASK: Final = "•••"

_Harmless: TypeAlias = Mapping[str, Any]
_OWNER: Final[_Harmless] = {
    **dict.fromkeys(("id", "name", "displayName")),
    "branding": dict.fromkeys(("logoUrl", "darkLogoUrl", "favicon", "darkFavicon")),
}
_HARMLESS: Final[_Harmless] = {"locale": None, "uiLocales": None, "application": _OWNER, "organization": _OWNER}
"""The fields of a payload that may be seen when they are texts; None: a text, a mapping: what is harmless in it."""
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


_WORTH_HIDING: Final = 4
"""Shorter texts are no secrets, and masking them would garble the provider's words."""


def _hide(given: Mapping[str, Any], harmless: _Harmless, found: set[str]) -> None:
    for key, value in given.items():
        if key not in logto.PAYLOAD_FIELDS and len(key) >= _WORTH_HIDING and not _PLAIN_WORD.fullmatch(key):
            found.add(key)
        if isinstance(value, dict):
            _hide(value, harmless.get(key) or _NOTHING, found)
        elif isinstance(value, list):
            for item in value:
                _hide(item if isinstance(item, dict) else {"": item}, _NOTHING, found)
        elif value is not None and not (isinstance(value, str) and harmless.get(key, _NOTHING) is None):
            text = str(value)
            if len(text) >= _WORTH_HIDING and not isinstance(value, bool):
                found.add(text)


def new_id(now: Instant, entropy: bytes) -> str:
    """Return a UUIDv7 (RFC 9562 §5.7) for this moment from ten random bytes."""
    number = int(now * 1000) << 80 | int.from_bytes(entropy, "big")
    number = number & ~(0xF << 76) | 7 << 76
    number = number & ~(0x3 << 62) | 2 << 62
    digits = f"{number:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


_TAG: Final = re.compile(r"[A-Za-z]{2,8}(?:[-_][A-Za-z0-9]{1,8}){0,8}\Z")
_MOST_LANGUAGES: Final = 10


def languages_of(payload: Payload) -> tuple[str, ...]:
    """Return the languages that the reader asked for, best first: `uiLocales`, then `locale`; at most ten.

    Logto resolves `locale` itself, sometimes wrongly, and passes the raw list on as `uiLocales`.
    """
    wanted: dict[str, None] = {}
    raw = payload.get("uiLocales")
    tags = raw.split() if isinstance(raw, str) else []
    locale = payload.get("locale")
    for tag in (*tags[:_MOST_LANGUAGES], locale):
        if isinstance(tag, str) and _TAG.match(tag):
            wanted[tag] = None
    return tuple(wanted)[:_MOST_LANGUAGES]
