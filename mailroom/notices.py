"""The mails about an account (a new sign-in, a changed password), and the events of Logto that send them.

Where one event stands for several changes, `[webhook.events]` names the change behind a colon:
`"User.SuspensionStatus.Updated:restored"`. None is sent unless it is named there.
"""

from collections.abc import Mapping
from typing import Any, Final

from mailroom.logto import IDENTIFIER_LOCKOUT, SUSPENSION_UPDATED, USER_UPDATED

NOTICES: Final[Mapping[str, tuple[str, ...]]] = {
    "NewSignIn": ("PostSignIn",),
    "PasswordChanged": ("PostResetPassword", f"{USER_UPDATED}:password"),
    "AccountLocked": (IDENTIFIER_LOCKOUT,),
    "AccountSuspended": (f"{SUSPENSION_UPDATED}:suspended",),
    "AccountRestored": (f"{SUSPENSION_UPDATED}:restored",),
}
"""Template -> the events that send it."""
CHANGES: Final = tuple(event for events in NOTICES.values() for event in events if ":" in event)
"""The events with the name of a change."""

_ROUTE_OF_NEW_PASSWORD: Final = "/users/:userId/password"  # noqa: S105 - a path


def event_with_change(event: Mapping[str, Any]) -> str | None:
    """Return the event's name with what changed (`User.Data.Updated:password`); None if nothing is known of it.

    `User.Data.Updated` names no fields. That the password changed is known of the Management API's route only: when a
    user changed it, the same event comes as for a new name.
    """
    name = event.get("event")
    if name == USER_UPDATED and event.get("matchedRoute") == _ROUTE_OF_NEW_PASSWORD:
        return f"{name}:password"
    data = event.get("data")
    if name == SUSPENSION_UPDATED and isinstance(data, Mapping) and isinstance(data.get("isSuspended"), bool):
        return f"{name}:suspended" if data["isSuspended"] else f"{name}:restored"
    return None
