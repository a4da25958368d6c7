"""Messages for tests and screenshots, and captured requests of Logto."""

import json
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from hypothesis import settings

from mailroom.message import Address, Message, Priority, languages_of
from mailroom.rendering import Brand
from mailroom.rendering.renderer import TemplateRenderer

CODE_KINDS: Final = (
    "SignIn",
    "Register",
    "ForgotPassword",
    "Generic",
    "UserPermissionValidation",
    "BindNewIdentifier",
    "MfaVerification",
    "BindMfa",
)
KINDS: Final = (*CODE_KINDS, "OrganizationInvitation", "Welcome")

SENDER: Final = Address("no-reply@acme.example", "Acme")
BRAND: Final = Brand(name="Acme", company="Acme Inc., 1 Main St, Springfield", support_email="help@acme.example")

unhurried: Final = settings(deadline=None)
"""For property tests: the machine may be busy."""

ID: Final = "01935a5e-8f3c-7d2a-9c41-5b0e6f7a8d90"
CREATED: Final = 1_790_000_000.0

CAPTURES: Final = sorted((Path(__file__).parents[1] / "logto-wire" / "email").glob("*.http"))


def make_renderer(**changes: Any) -> TemplateRenderer:
    """Return a renderer with the usual settings except the changes."""
    usual: dict[str, Any] = {
        "brand": BRAND,
        "code_lifetime": timedelta(minutes=10),
        "message_id_domain": "acme.example",
    }
    return TemplateRenderer(**(usual | changes))


def message(
    template: str,
    payload: Mapping[str, Any],
    *,
    recipient: str = "ada@example.com",
    priority: Priority | None = None,
) -> Message:
    """Return a message as the endpoints build it."""
    return Message(
        id=ID,
        template=template,
        priority=_priority(template) if priority is None else priority,
        recipient=recipient,
        payload=payload,
        created_at=CREATED,
        expires_at=CREATED + 600,
        languages=languages_of(payload),
    )


def captured(file: Path) -> Message:
    """Return the message of a captured request."""
    body = json.loads(file.read_bytes().partition(b"\r\n\r\n")[2])
    return message(body["type"], body["payload"], recipient=body["to"])


def full(template: str) -> dict[str, Any]:
    """Return a payload with all fields."""
    payload: dict[str, Any] = {
        "locale": "en",
        "application": {"id": "x42ogopvrdataet06r5rt", "name": "Riverside Web"},
        "user": {"id": "ub5xmrunhelg", "name": "Grace Höpper", "primaryEmail": "grace@example.com", "username": None},
    }
    if template in CODE_KINDS:
        return payload | {"code": "314159"}
    if template == "OrganizationInvitation":
        return payload | {
            "organization": {"id": "mmp97otrr6k1", "name": "Lighthouse GmbH", "branding": {}},
            "inviter": payload["user"],
            "link": "https://app.example.com/invitations/def?token=8d90",
        }
    return payload | {"link": "https://app.example.com/"}


def _priority(template: str) -> Priority:
    if template == "OrganizationInvitation":
        return Priority.INVITATION
    return Priority.EVENT if template == "Welcome" else Priority.CODE
