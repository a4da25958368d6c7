"""Decides which mail a Logto event sends."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from typing import Any, Final, Literal

import msgspec

from mailroom.address import identity, usable
from mailroom.clock import Instant
from mailroom.config.model import EventRule
from mailroom.logto import IDENTIFIER_LOCKOUT, NOT_FOR_MAILS, USER_CREATED, is_part_of_user
from mailroom.message import WELCOME, Message, Priority, languages_of, new_id
from mailroom.notices import EMAIL_CHANGED, PREVIOUS_EMAIL, event_with_change
from mailroom.outbox import DedupKey

_ONCE: Final[Mapping[str, tuple[Literal["user", "address"], timedelta]]] = {
    USER_CREATED: ("user", timedelta(0)),
    # Anybody can lock any address, and each further attempt sends the event again. Logto locks for an hour.
    IDENTIFIER_LOCKOUT: ("address", timedelta(hours=1)),
}
"""Event -> once per what, and within which time (0: for ever), unless the settings say otherwise."""


@dataclass(frozen=True, slots=True)
class Ignored:
    """The event sends nothing."""

    reason: str
    """A few words; Logto stores them in its hook log."""


@dataclass(frozen=True, slots=True)
class EventMessage:
    """The event sends this message, unless one of the keys was used before."""

    message: Message
    once: tuple[DedupKey, ...]
    due_at: Instant | None = None
    """When it is sent; None: at once."""


async def decide(
    event: Mapping[str, Any],
    *,
    rules: Mapping[str, EventRule],
    lifetime: timedelta,
    remembered_until: Instant,
    now: Instant,
    entropy: Callable[[int], bytes],
    last_languages: Callable[[str], Awaitable[tuple[str, ...]]],
) -> EventMessage | Ignored:
    """Return the message that this event sends.

    `rules` are `[webhook.events]`. `last_languages` returns the languages of the last mail to an address: events name
    no language, but the request for the code with which the user registered did. Repeats of the event are recognized
    until `remembered_until`, and what a rule sends once per user or address for as long as it says.
    """
    name = event.get("event")
    change = event_with_change(event)
    rule = rules.get(change or "") or (rules.get(name) if isinstance(name, str) else None)
    if is_console_test(event):
        return Ignored("a test from Logto's console")
    if rule is None:
        return Ignored("no mail is set up for this event")
    by_management = _is_made_by_management(event)
    if rule.only == "registration" and by_management:
        return Ignored("not a registration")
    user = _user(event)
    if change == EMAIL_CHANGED and change in rules:
        user = {**user, "primaryEmail": event[PREVIOUS_EMAIL]}
    address = _address(event, user)
    if address is None:
        return Ignored(f"the {'user' if user else 'event'} has no email address")
    profile = user.get("profile")
    languages = languages_of(profile) if isinstance(profile, Mapping) else ()
    # The Management API is called by the operator's own program, not by the reader.
    ip = None if by_management else event.get("ip", event.get("userIp"))
    due_at = now + rule.delay.total_seconds()
    message = Message(
        id=new_id(now, entropy(10)),
        template=rule.template,
        priority=Priority.EVENT,
        recipient=address,
        payload=_payload(event, user),
        created_at=now,
        expires_at=due_at + lifetime.total_seconds(),
        ip=ip if isinstance(ip, str) else None,
        languages=languages or await last_languages(address),
    )
    once = [DedupKey(b"webhook:" + _fingerprint(event), remembered_until)]
    once_per, once_within = rule.once_per, rule.once_within
    if not once_per and (usual := _ONCE.get(str(name))):
        once_per, once_within = usual[0], once_within or usual[1]
    reader = user.get("id") if once_per == "user" else identity(address)
    if once_per and isinstance(reader, str) and reader:
        kind = "welcome" if rule.template == WELCOME and once_per == "user" else f"{rule.template} per {once_per}"
        until = now + once_within.total_seconds() if once_within else None
        once.append(DedupKey(f"{kind}:{reader}".encode(), until))
    return EventMessage(message, tuple(once), due_at if rule.delay else None)


def is_console_test(event: Mapping[str, Any]) -> bool:
    """Return whether it was sent by the console's test button, which signs its events like real ones.

    The user agent does not show it: end users choose theirs.
    """
    path = event.get("path")
    return (
        event.get("data") == {"result": "success"}
        or (isinstance(path, str) and path.startswith("/fake-path/"))
        or _user(event).get("id") == "fake-id"
    )


def _is_made_by_management(event: Mapping[str, Any]) -> bool:
    return "interactionEvent" not in event and ("path" in event or "method" in event)


def _user(event: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the user: `data` in data events, `user` in the Post… events; {}: the event has none."""
    if is_part_of_user(event):
        return {}
    for key in ("data", "user"):
        user = event.get(key)
        if isinstance(user, Mapping) and "primaryEmail" in user:
            return user
    return {}


def _address(event: Mapping[str, Any], user: Mapping[str, Any]) -> str | None:
    """Return the address that the mail goes to: the user's, else the one that was typed; None: there is none.

    `value` is what was typed in Identifier.Lockout, `recipient` in Message.RateLimited.
    """
    typed = event.get("value") if event.get("type") == "email" else event.get("recipient")
    address = user.get("primaryEmail") if user else typed
    return address if isinstance(address, str) and usable(address) else None


def _payload(event: Mapping[str, Any], user: Mapping[str, Any]) -> dict[str, Any]:
    """Return the variables of the mail: the event's fields, `data` as `user`, `userIp` as `ip`."""
    fields = {key: value for key, value in event.items() if key not in NOT_FOR_MAILS}
    return {"ip": event.get("userIp"), **fields, "user": user, "application": event.get("application")}


def _fingerprint(event: Mapping[str, Any]) -> bytes:
    """Hash the canonical JSON: a body that was stored and sent again may be serialized differently."""
    return sha256(msgspec.json.encode(event, order="sorted")).digest()
