"""What mails are tried with: payloads as Logto sends them, full, minimal and null, and as an attacker fills them."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

from mailroom.message import CODE_TYPES, Message, Payload, Priority
from mailroom.rendering.inventory import Owner


class Sample(StrEnum):
    """How much of a payload there is."""

    FULL = "full"
    MINIMAL = "minimal"
    """What Logto never leaves out."""
    NULL = "null"
    """Everything optional there, and null, as Logto sends a user's empty fields."""
    HOSTILE = "hostile"
    """Every name a stranger can choose holds markup, and every address leads astray."""


CODE: Final = "314159"
LINK: Final = "https://app.example.com/invitations/8d90?token=q2Xv7"
RECIPIENT: Final = "ada@example.com"
LOGO: Final = "https://cdn.example.com/logo.png"
DARK_LOGO: Final = "https://cdn.example.com/logo-dark.png"

PROBE: Final = "x-probe"
"""The element, attribute, property and scheme of hostile values: no mail's own."""

INVITATION: Final = "OrganizationInvitation"

_ID: Final = "01935a5e-8f3c-7d2a-9c41-5b0e6f7a8d90"
_CREATED: Final = 1_790_000_000.0

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
_OWNERS: Final = {"application": _APPLICATION, "organization": _ORGANIZATION}


def message(
    kind: str, sample: Sample, language: str, given: Payload | None = None, owner: Owner | None = None
) -> Message:
    """Return a message as the doors would make it, in this language; `given` overrules the sample's payload."""
    chosen = payload(kind, sample, language, owner) if given is None else given
    priority = Priority.CODE if kind in CODE_TYPES else Priority.EVENT
    return Message(
        id=_ID,
        template=kind,
        priority=Priority.INVITATION if kind == INVITATION else priority,
        recipient=RECIPIENT,
        payload=chosen,
        created_at=_CREATED,
        expires_at=_CREATED + 600,
        languages=(language,),
    )


def payload(kind: str, sample: Sample, language: str, owner: Owner | None = None) -> dict[str, Any]:
    """Return what Logto sends for this kind; a kind that is not Logto's is taken for a webhook's event.

    With an owner it is of that application or organization, whose id is never missing then.
    """
    if owner is None:
        return _sampled(sample, kind, _whole(kind, language))
    made = _sampled(sample, kind, {owner.what: _OWNERS[owner.what], **_whole(kind, language)})
    return made | {owner.what: {**made.get(owner.what, {}), "id": owner.id}}


def _sampled(sample: Sample, kind: str, whole: dict[str, Any]) -> dict[str, Any]:
    if sample is Sample.MINIMAL:
        return _minimal(kind)
    if sample is Sample.FULL:
        return whole
    if sample is Sample.NULL:
        minimal = _minimal(kind)
        nulls = {key: _empty(value) for key, value in whole.items()} | minimal
        return nulls | ({"user": _empty(_USER) | minimal["user"]} if "user" in minimal else {})
    poisoned = {key: _poisoned(value, key) for key, value in whole.items()}
    return poisoned | {key: value for key, value in _minimal(kind).items() if key != "organization"}


def _minimal(kind: str) -> dict[str, Any]:
    if kind in CODE_TYPES:
        return {"code": CODE}
    if kind == INVITATION:
        return {}
    return {"event": "User.Created", "user": {"id": _USER["id"], "primaryEmail": RECIPIENT}}


def _whole(kind: str, language: str) -> dict[str, Any]:
    known = {"locale": language, "uiLocales": language, "application": _APPLICATION}
    if kind in CODE_TYPES:
        return {"code": CODE, **known, "user": _USER, "organization": _ORGANIZATION}
    if kind == INVITATION:
        return {"link": LINK, **known, "organization": _ORGANIZATION, "inviter": _USER}
    return {"event": "User.Created", "user": {**_USER, "primaryEmail": RECIPIENT}, "application": _APPLICATION}


def _empty(value: Any) -> Any:
    """Return an object of nulls for an object, else null."""
    return {key: _empty(item) for key, item in value.items()} if isinstance(value, Mapping) else None


_MARKUP: Final = (
    f"\"'><{PROBE} on{PROBE}='1'></{PROBE}> --></style>;{PROBE}:1; {{{{7*7}}}}\r\nBcc: {PROBE}@evil.example\0"
)
_ASTRAY: Final = f"javascript:'{PROBE}'"


def _poisoned(value: Any, key: str) -> Any:
    """Return the same shape, with a stranger's worst in each text but Logto's own ids."""
    if isinstance(value, Mapping):
        return {name: _poisoned(item, name) for name, item in value.items()}
    if key in ("code", "id", "event", "type", "locale", "uiLocales"):
        return value
    return _ASTRAY if key in ("avatar", "logoUrl", "darkLogoUrl") else _MARKUP
