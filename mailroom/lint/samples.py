"""Sample payloads as Logto sends them: full, minimal, null, and hostile."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

from mailroom.logto import CODE_TYPES, IDENTIFIER_LOCKOUT, INVITATION, MEMBERSHIP_UPDATED, USER_CREATED
from mailroom.message import Message, Payload, Priority
from mailroom.notices import NOTICES
from mailroom.rendering.overlay import Owner


class Sample(StrEnum):
    """A variant of the payload."""

    FULL = "full"
    MINIMAL = "minimal"
    """Only the fields that Logto always sends."""
    NULL = "null"
    """Optional fields present and null, as Logto sends a user's empty fields."""
    HOSTILE = "hostile"
    """Every name that a user can choose contains markup, and every URL is `javascript:`."""


def common_sample(kind: str) -> Sample:
    """Return the payload of a kind that shows most mails as readers get them.

    Full payloads show an application's or organization's name and logo, where most mails show those of the brand.
    """
    return Sample.FULL if kind == INVITATION else Sample.MINIMAL


CODE: Final = "314159"
LINK: Final = "https://app.example.com/invitations/8d90?token=q2Xv7"
RECIPIENT: Final = "ada@example.com"
LOGO: Final = "https://cdn.example.com/logo.png"
DARK_LOGO: Final = "https://cdn.example.com/logo-dark.png"

PROBE: Final = "x-probe"
"""Name of the elements, attributes and properties in hostile values; occurs in no template."""

_ID: Final = "01935a5e-8f3c-7d2a-9c41-5b0e6f7a8d90"
_CREATED: Final = 1_790_000_000.0
_CODE_SECONDS: Final = 600
_INVITATION_SECONDS: Final = 7 * 86400
_IP: Final = "203.0.113.7"

_USER: Final[Payload] = {
    "id": "ub5xmrunhelg",
    "username": "grace_h",
    "primaryEmail": "grace@example.com",
    "primaryPhone": None,
    "name": "Grace Höpper",
    "avatar": "https://cdn.example.com/avatars/grace.png",
    "profile": {"givenName": "Grace", "familyName": "Höpper", "locale": "en", "zoneinfo": "Europe/Berlin"},
    "customData": {},
}
_APPLICATION: Final[Payload] = {
    "id": "x42ogopvrdataet06r5rt",
    "name": "Riverside",
    "displayName": None,
    "type": "SPA",
    "description": None,
    "branding": {"logoUrl": LOGO, "darkLogoUrl": DARK_LOGO},
    "customData": {},
}
_ORGANIZATION: Final[Payload] = {
    "id": "mmp97otrr6k1",
    "name": "Lighthouse",
    "description": None,
    "branding": {"logoUrl": LOGO, "darkLogoUrl": DARK_LOGO},
    "customData": {},
}
_REQUEST: Final[Payload] = {
    "createdAt": "2026-11-21T09:29:35.610Z",
    "interactionEvent": "Register",
    "ip": _IP,
    "userAgent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/139.0.0.0",
    "sessionId": "7qF2EaSPoUiHzGvyCFtF5lSlTcQaaPx6zenmJ3GnAX8",
    "applicationId": "x42ogopvrdataet06r5rt",
}
_OWNERS: Final = {"application": _APPLICATION, "organization": _ORGANIZATION}


def message(
    kind: str, sample: Sample, language: str, changed_payload: Payload | None = None, owner: Owner | None = None
) -> Message:
    """Return a message as the endpoints build it, in this language; `changed_payload` replaces the sample's."""
    message_payload = payload(kind, sample, language, owner) if changed_payload is None else changed_payload
    priority = Priority.CODE if kind in CODE_TYPES else Priority.EVENT
    return Message(
        id=_ID,
        template=kind,
        priority=Priority.INVITATION if kind == INVITATION else priority,
        recipient=RECIPIENT,
        payload=message_payload,
        created_at=_CREATED,
        expires_at=_CREATED + (_INVITATION_SECONDS if kind == INVITATION else _CODE_SECONDS),
        ip=None if sample is Sample.MINIMAL else _IP,
        languages=(language,),
    )


def payload(kind: str, sample: Sample, language: str, owner: Owner | None = None) -> dict[str, Any]:
    """Return the payload of a kind; kinds that are not Logto's get the payload of a webhook event.

    With an owner, the payload always has that application's or organization's id.
    """
    if owner is None:
        return _vary(sample, kind, _full(kind, language))
    sampled = _vary(sample, kind, {owner.what: _OWNERS[owner.what], **_full(kind, language)})
    return sampled | {owner.what: {**sampled.get(owner.what, {}), "id": owner.id}}


def _vary(sample: Sample, kind: str, full: dict[str, Any]) -> dict[str, Any]:
    if sample is Sample.MINIMAL:
        return _minimal(kind)
    if sample is Sample.FULL:
        return full
    if sample is Sample.NULL:
        minimal = _minimal(kind)
        nulls = {key: _to_nulls(value) for key, value in full.items()} | minimal
        return nulls | ({"user": _to_nulls(_USER) | minimal["user"]} if "user" in minimal else {})
    hostile = {key: _to_hostile(value, key) for key, value in full.items()}
    return hostile | {key: value for key, value in _minimal(kind).items() if key != "organization"}


def _minimal(kind: str) -> dict[str, Any]:
    if kind in CODE_TYPES:
        return {"code": CODE}
    if kind == INVITATION:
        return {}
    event = _event(kind)
    user = {} if event == IDENTIFIER_LOCKOUT else {"id": _USER["id"], "primaryEmail": RECIPIENT}
    organization = {"id": _ORGANIZATION["id"], "name": _ORGANIZATION["name"]}
    return {"event": event, "user": user, **({"organization": organization} if event == MEMBERSHIP_UPDATED else {})}


def _full(kind: str, language: str) -> dict[str, Any]:
    known = {"locale": language, "uiLocales": language, "application": _APPLICATION}
    if kind in CODE_TYPES:
        return {"code": CODE, **known, "user": _USER, "organization": _ORGANIZATION}
    if kind == INVITATION:
        return {"link": LINK, **known, "organization": _ORGANIZATION, "inviter": _USER}
    event = _event(kind)
    user = {} if event == IDENTIFIER_LOCKOUT else {**_USER, "primaryEmail": RECIPIENT}
    owners = _OWNERS if event == MEMBERSHIP_UPDATED else {"application": _APPLICATION}
    return {"event": event, "user": user, **owners, **_REQUEST}


def _event(kind: str) -> str:
    """Return the name of the event that sends a kind; operators' own kinds get that of a created user."""
    first, *_ = NOTICES.get(kind, (USER_CREATED,))
    return first.partition(":")[0]


def _to_nulls(value: Any) -> Any:
    """Replace all values by null, also within objects."""
    return {key: _to_nulls(item) for key, item in value.items()} if isinstance(value, Mapping) else None


_HOSTILE_TEXT: Final = (
    f"\"'><{PROBE} on{PROBE}='1'></{PROBE}> --></style>;{PROBE}:1; {{{{7*7}}}}\r\nBcc: {PROBE}@evil.example\0"
)
_HOSTILE_URL: Final = f"javascript:'{PROBE}'"


def _to_hostile(value: Any, key: str) -> Any:
    """Replace each text by a hostile one, except codes and Logto's own ids."""
    if isinstance(value, Mapping):
        return {name: _to_hostile(item, name) for name, item in value.items()}
    if key in ("code", "id", "event", "type", "locale", "uiLocales"):
        return value
    return _HOSTILE_URL if key in ("avatar", "logoUrl", "darkLogoUrl") else _HOSTILE_TEXT
