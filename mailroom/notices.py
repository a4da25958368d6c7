"""The mails about an account (a new sign-in, a changed password), and the events of Logto that send them.

Where one event stands for several changes, `[webhook.events]` names the change behind a colon:
`"User.SuspensionStatus.Updated:restored"`. None is sent unless it is named there.
"""

from collections.abc import Mapping
from typing import Any, Final

from mailroom.logto import IDENTIFIER_LOCKOUT, MEMBERSHIP_UPDATED, SUSPENSION_UPDATED, USER_UPDATED

EMAIL_CHANGED: Final = f"{USER_UPDATED}:email"
MEMBER_ADDED: Final = f"{MEMBERSHIP_UPDATED}:added"
NEED_DIRECTORY: Final = frozenset({EMAIL_CHANGED, MEMBER_ADDED})
"""Events whose body says too little: earlier ones complete it, see `mailroom.outbox.directory`."""
PREVIOUS_EMAIL: Final = "previousEmail"
"""The key of the address before `User.Data.Updated`, in a completed event; not Logto's."""

NOTICES: Final[Mapping[str, tuple[str, ...]]] = {
    "NewSignIn": ("PostSignIn",),
    "PasswordChanged": ("PostResetPassword", f"{USER_UPDATED}:password"),
    "AccountLocked": (IDENTIFIER_LOCKOUT,),
    "AccountSuspended": (f"{SUSPENSION_UPDATED}:suspended",),
    "AccountRestored": (f"{SUSPENSION_UPDATED}:restored",),
    "EmailChanged": (EMAIL_CHANGED,),
    "AddedToOrganization": (MEMBER_ADDED,),
}
"""Template -> the events that send it."""
CHANGES: Final = tuple(event for events in NOTICES.values() for event in events if ":" in event)
"""The events with the name of a change."""

_ROUTE_OF_INVITATIONS: Final = "/organization-invitations/"
_ROUTE_OF_NEW_PASSWORD: Final = "/users/:userId/password"  # noqa: S105 - a path


def event_with_change(event: Mapping[str, Any]) -> str | None:
    """Return the event's name with what changed (`User.Data.Updated:password`); None if nothing is known of it.

    `User.Data.Updated` names no fields. That the password changed is known of the Management API's route only: when a
    user changed it, the same event comes as for a new name.
    """
    name = event.get("event")
    route = event.get("matchedRoute")
    if name == USER_UPDATED and route == _ROUTE_OF_NEW_PASSWORD:
        return f"{name}:password"
    if name == USER_UPDATED and PREVIOUS_EMAIL in event:
        return EMAIL_CHANGED
    # Whoever accepts an invitation knows of it.
    if name == MEMBERSHIP_UPDATED and "user" in event and not str(route).startswith(_ROUTE_OF_INVITATIONS):
        return MEMBER_ADDED
    data = event.get("data")
    if name == SUSPENSION_UPDATED and isinstance(data, Mapping) and isinstance(data.get("isSuspended"), bool):
        return f"{name}:suspended" if data["isSuspended"] else f"{name}:restored"
    return None
