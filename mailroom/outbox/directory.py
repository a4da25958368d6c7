"""Users and organizations as Logto's events described them last, for later events that name only their ids.

`User.Data.Updated` does not say what changed, and `Organization.Membership.Updated` names no address:

    for complete in await directory.complete(event):   # one event for each mail that it may send
        ...
    await directory.learn(event)                       # after the mails were stored

The entries are sealed, their ids hashed; they are kept until `User.Deleted` or `Organization.Deleted`.
"""

from collections.abc import Iterable, Mapping, Sequence
from math import inf
from typing import Any, Final

import msgspec

from mailroom.logto import MEMBERSHIP_UPDATED, USER_CREATED, USER_DELETED, USER_UPDATED, is_part_of_user
from mailroom.notices import PREVIOUS_EMAIL
from mailroom.outbox import Outbox

_MOST_MEMBERS: Final = 1000
_USER_FIELDS: Final = ("id", "username", "name", "primaryEmail", "profile", "updatedAt")
_PROFILE_FIELDS: Final = ("givenName", "locale")
_ORGANIZATION_FIELDS: Final = ("id", "name", "branding")
_ORGANIZATION_EVENTS: Final = ("Organization.Created", "Organization.Data.Updated")
_ORGANIZATION_DELETED: Final = "Organization.Deleted"
_DELETED: Final = ""
"""Is stored of what was deleted: an event that comes late does not bring it back."""


class Directory:
    """Completes events by what earlier ones told."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    async def complete(self, event: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """Return the events to handle instead.

        A changed user gets the earlier address as `previousEmail` if it differs; a membership becomes one event for
        each added user whose address is known, with `user` and `organization`.
        """
        name = event.get("event")
        if name == USER_UPDATED and (user := _user(event)):
            for known in await self._recall("user", [user["id"]]):
                before = _email(known)
                if before and before.casefold() != _email(user).casefold() and _is_newer(user, known):
                    return [{**event, PREVIOUS_EMAIL: before}]
        if name == MEMBERSHIP_UPDATED and isinstance(added := event.get("addedUserIds"), list):
            organizations = await self._recall("organization", [event.get("organizationId")])
            users = [user for user in await self._recall("user", added[:_MOST_MEMBERS]) if _email(user)]
            if organizations and users:
                return [{**event, "user": user, "organization": organizations[0]} for user in users]
        return [event]

    async def learn(self, event: Mapping[str, Any]) -> None:
        """Store the user or organization of an event, unless a newer one is stored; durable when this returns."""
        name = event.get("event")
        if user := _user(event):
            await self._learn_user(name, user)
        organization, params = event.get("data"), event.get("params")
        if name in _ORGANIZATION_EVENTS and isinstance(organization, Mapping) and _id(organization):
            if await self._stored("organization", organization["id"]) != _DELETED:
                await self._put("organization", organization, _ORGANIZATION_FIELDS)
        elif name == _ORGANIZATION_DELETED and isinstance(params, Mapping) and (id_ := _id(params)):
            await self._outbox.secrets.put_entity("organization", id_, _DELETED)

    async def _learn_user(self, name: object, user: Mapping[str, Any]) -> None:
        stored = await self._stored("user", user["id"])
        if stored == _DELETED:
            return
        known = msgspec.json.decode(stored, type=dict[str, Any]) if stored else None
        if name == USER_DELETED:
            if known:
                await self._outbox.secrets.put_entity("user", user["id"], _DELETED)
        elif known is None or (
            _is_newer(user, known)
            # Only `complete` compares addresses, and not of other events: these must not bring a new one before it.
            and (name in (USER_CREATED, USER_UPDATED) or _email(user).casefold() == _email(known).casefold())
        ):
            await self._put("user", user, _USER_FIELDS)

    async def _put(self, what: str, told: Mapping[str, Any], fields: Iterable[str]) -> None:
        entry = {key: told.get(key) for key in fields}
        if isinstance(profile := entry.get("profile"), Mapping):
            entry["profile"] = {key: profile.get(key) for key in _PROFILE_FIELDS}
        await self._outbox.secrets.put_entity(what, told["id"], msgspec.json.encode(entry).decode())

    async def _stored(self, what: str, id_: str) -> str | None:
        (text,) = await self._outbox.secrets.get_entities(what, [id_])
        return text

    async def _recall(self, what: str, ids: Sequence[object]) -> list[dict[str, Any]]:
        """Return those of them that are known, by one read."""
        stored = await self._outbox.secrets.get_entities(what, [id_ for id_ in ids if isinstance(id_, str)])
        return [msgspec.json.decode(text, type=dict[str, Any]) for text in stored if text]


def _id(told: Mapping[str, Any]) -> str:
    id_ = told.get("id")
    return id_ if isinstance(id_, str) else ""


def _user(event: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the whole user of an event: with id and address, which may be null."""
    if is_part_of_user(event):
        return None
    for key in ("data", "user"):
        user = event.get(key)
        if isinstance(user, Mapping) and isinstance(user.get("id"), str) and "primaryEmail" in user:
            return user
    return None


def _is_newer(user: Mapping[str, Any], known: Mapping[str, Any]) -> bool:
    """Return whether a user's `updatedAt` is not before the known one: events come in any order."""
    return _updated_at(user, inf) >= _updated_at(known, 0)


def _updated_at(user: Mapping[str, Any], default: float) -> float:
    time = user.get("updatedAt")
    return time if isinstance(time, int | float) else default


def _email(user: Mapping[str, Any]) -> str:
    address = user.get("primaryEmail")
    return address if isinstance(address, str) else ""
