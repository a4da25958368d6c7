"""Mails for events that earlier events complete, through `POST /webhook` with captured events."""

import hmac
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import pytest

from tests.handlers.conftest import SIGNING_KEY
from tests.handlers.serving import WIRE, Running, served

NOW = datetime(2026, 11, 21, 10, 0, tzinfo=UTC).timestamp()
SIGNED_IN = "PostSignIn-experience-signin-username-password"
EMAIL_CHANGED = "User.Data.Updated-account-api-primary-email-changed"
NAME_CHANGED = "User.Data.Updated-account-api-name-changed"
LINUS = "User.Data.Updated-management-api-password"
RENAMED = "User.Data.Updated-management-api-user"
ADDED = "Organization.Membership.Updated-management-api-add-users"
NORDWIND = "Organization.Created-management-api-organization"
EVENTS = {
    "User.Data.Updated:email": "EmailChanged",
    "Organization.Membership.Updated:added": "AddedToOrganization",
}


@pytest.fixture(name="server")
def _server() -> Iterator[Running]:
    with served(webhook={"signing_keys": [SIGNING_KEY], "events": EVENTS}) as running:
        running.clock.set(NOW)
        yield running


def tell(server: Running, name: str, **changes: Any) -> dict[str, str]:
    """Post a captured event with changes; return the response."""
    event = json.loads((WIRE / "webhooks" / f"{name}.json").read_text(encoding="utf-8")) | changes
    body = json.dumps(event).encode()
    signature = hmac.new(SIGNING_KEY.encode(), body, sha256).hexdigest()
    answer = server.ask("POST", "/webhook", body=body, **{"logto-signature-sha-256": signature})
    assert answer.status == 200
    response: dict[str, str] = json.loads(answer.body)
    return response


def linus(**changes: Any) -> dict[str, Any]:
    """Return a user of the captures with changes."""
    data: dict[str, Any] = json.loads((WIRE / "webhooks" / f"{LINUS}.json").read_text(encoding="utf-8"))["data"]
    return data | changes


def test_a_new_address_is_told_to_the_old_one(server: Running) -> None:
    tell(server, SIGNED_IN)
    assert not server.parts.stored
    assert "id" in tell(server, EMAIL_CHANGED)
    (told,) = server.parts.stored
    assert (told.template, told.recipient, told.ip) == ("EmailChanged", "grace@example.com", "203.0.113.7")
    assert tell(server, NAME_CHANGED) == {"ignored": "no mail is set up for this event"}


def test_the_old_address_is_told_of_a_removed_one(server: Running) -> None:
    tell(server, LINUS)
    tell(server, RENAMED, data=linus(primaryEmail=None))
    assert [message.recipient for message in server.parts.stored] == ["linus.t@example.com"]


def test_an_address_that_differs_in_case_only_is_the_same(server: Running) -> None:
    tell(server, LINUS)
    tell(server, RENAMED, data=linus(primaryEmail="Linus.T@Example.com"))
    assert not server.parts.stored


def test_without_an_earlier_event_nobody_is_told(server: Running) -> None:
    """The event for a new address is the same as for a new name."""
    assert "ignored" in tell(server, EMAIL_CHANGED)
    assert not server.parts.stored


def test_an_older_event_that_comes_later_changes_nothing(server: Running) -> None:
    tell(server, EMAIL_CHANGED)
    tell(server, "User.Data.Updated-experience-forgot-password")
    tell(server, NAME_CHANGED)
    assert not server.parts.stored


def test_an_event_that_could_not_be_stored_is_told_when_it_comes_again(server: Running) -> None:
    tell(server, SIGNED_IN)
    server.parts.full = True
    with pytest.raises(AssertionError):
        tell(server, EMAIL_CHANGED)
    server.parts.full = False
    assert "id" in tell(server, EMAIL_CHANGED)


def test_an_added_member_is_told_which_organization(server: Running) -> None:
    """Of the two that the event names the other has no address."""
    tell(server, NORDWIND)
    tell(server, LINUS)
    tell(server, "User.Created-management-api-without-primary-email")
    assert "id" in tell(server, ADDED)
    (told,) = server.parts.stored
    assert (told.template, told.recipient, told.ip) == ("AddedToOrganization", "linus.t@example.com", None)
    assert told.payload["organization"] == {"id": "qe4pa3v85frf", "name": "Nordwind AG", "branding": {}}


@pytest.mark.parametrize("known", [(), (NORDWIND,), (LINUS,)])
def test_a_member_of_whom_or_of_whose_organization_nothing_is_known_is_not_told(
    server: Running, known: tuple[str, ...]
) -> None:
    for name in known:
        tell(server, name)
    assert tell(server, ADDED) == {"ignored": "no mail is set up for this event"}


def test_who_accepted_an_invitation_is_not_told(server: Running) -> None:
    tell(server, NORDWIND)
    tell(server, LINUS)
    accepted = "Organization.Membership.Updated-management-api-invitation-accepted"
    assert "ignored" in tell(server, accepted, organizationId="qe4pa3v85frf")


def test_a_deleted_user_is_forgotten(server: Running) -> None:
    tell(server, NORDWIND)
    tell(server, LINUS)
    tell(server, "User.Deleted-management-api-user-with-email")
    assert not any("linus" in text for text in server.parts.secrets.stored.values())
    assert "ignored" in tell(server, ADDED)


def test_a_deleted_organization_is_forgotten_and_does_not_come_back_with_a_late_event(server: Running) -> None:
    tell(server, NORDWIND)
    tell(server, LINUS)
    tell(server, "Organization.Deleted-management-api-organization")
    tell(server, NORDWIND, createdAt="2026-11-21T09:59:59.000Z")
    assert not any("Nordwind" in text for text in server.parts.secrets.stored.values())
    assert "ignored" in tell(server, ADDED)


def test_nothing_is_remembered_unless_a_mail_needs_it() -> None:
    with served(webhook={"signing_keys": [SIGNING_KEY], "events": {"PostSignIn": "NewSignIn"}}) as server:
        server.clock.set(NOW)
        tell(server, SIGNED_IN)
        assert len(server.parts.stored) == 1
        assert not server.parts.secrets.stored


def test_a_deleted_user_does_not_come_back_with_a_late_event(server: Running) -> None:
    tell(server, LINUS)
    tell(server, "User.Deleted-management-api-user-with-email")
    tell(server, LINUS)
    assert not any("linus" in text for text in server.parts.secrets.stored.values())


def test_custom_data_is_no_user(server: Running) -> None:
    """Its keys are the product's, and often what its users choose."""
    tell(server, LINUS)
    stored = dict(server.parts.secrets.stored)
    custom = {"id": linus()["id"], "primaryEmail": "evil@example.com", "updatedAt": 9e18}
    tell(server, RENAMED, matchedRoute="/users/:userId/custom-data", data=custom)
    assert not server.parts.stored
    assert server.parts.secrets.stored == stored


def test_a_sign_in_by_the_new_address_does_not_hide_its_change(server: Running) -> None:
    """Events come in any order: the one of the change may be delivered again later."""
    tell(server, SIGNED_IN)
    grace = json.loads((WIRE / "webhooks" / f"{SIGNED_IN}.json").read_text(encoding="utf-8"))["user"]
    changed = json.loads((WIRE / "webhooks" / f"{EMAIL_CHANGED}.json").read_text(encoding="utf-8"))["data"]
    new = {"primaryEmail": changed["primaryEmail"], "updatedAt": changed["updatedAt"] + 1000}
    tell(server, SIGNED_IN, user=grace | new, createdAt="2026-11-21T09:59:59.000Z")
    assert "id" in tell(server, EMAIL_CHANGED)
    (told,) = server.parts.stored
    assert told.recipient == "grace@example.com"
