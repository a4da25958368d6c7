"""Which mail a Logto event sends, asked with the captured events."""

import json
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest

from mailroom.config.model import EventRule as Rule
from mailroom.events import EventMessage, Ignored, decide
from mailroom.message import Priority
from tests.clock import START

WEBHOOKS = Path(__file__).parent / "logto-wire" / "webhooks"
WELCOME = {"User.Created": Rule(template="Welcome")}


def _event(name: str, **changes: Any) -> dict[str, Any]:
    event: dict[str, Any] = json.loads((WEBHOOKS / f"{name}.json").read_text())
    return event | changes


async def _decide(
    event: dict[str, Any], rules: dict[str, Rule] | None = None, languages: tuple[str, ...] = ()
) -> EventMessage | Ignored:
    async def last_languages(recipient: str) -> tuple[str, ...]:
        assert "@" in recipient
        return languages

    return await decide(
        event,
        rules=WELCOME if rules is None else rules,
        lifetime=timedelta(days=3),
        remembered_until=START + 99,
        now=START,
        entropy=Random(1).randbytes,
        last_languages=last_languages,
    )


async def _message(event: dict[str, Any], rules: dict[str, Rule] | None = None, languages: tuple[str, ...] = ()) -> Any:
    decision = await _decide(event, rules, languages)
    assert isinstance(decision, EventMessage), decision
    return decision.message


async def test_a_registered_user_is_welcomed() -> None:
    event = _event("User.Created-experience-register-email-code")
    message = await _message(event)
    assert message.template == "Welcome"
    assert message.priority is Priority.EVENT
    assert message.recipient == "ada@example.com"
    assert (message.created_at, message.expires_at) == (START, START + 3 * 86400)
    assert message.ip == "203.0.113.7"
    assert message.payload == {
        "event": "User.Created",
        "createdAt": "2026-11-21T09:29:33.959Z",
        "interactionEvent": "Register",
        "ip": "203.0.113.7",
        "userAgent": event["userAgent"],
        "sessionId": event["sessionId"],
        "applicationId": event["applicationId"],
        "user": event["data"],
        "application": event["application"],
    }


@pytest.mark.parametrize(
    "name", ["User.Created-experience-register-username-password", "User.Created-management-api-without-primary-email"]
)
async def test_a_user_without_an_address_gets_no_mail(name: str) -> None:
    assert await _decide(_event(name)) == Ignored("the user has no email address")


@pytest.mark.parametrize("address", [None, "", 5, ["a@b.example"], "ada", "ada@example.com\r\nBcc: eve@example.com"])
async def test_an_invalid_address_gets_no_mail(address: Any) -> None:
    event = _event("User.Created-experience-register-email-code")
    event["data"]["primaryEmail"] = address
    assert isinstance(await _decide(event), Ignored)


@pytest.mark.parametrize("data", [None, [], "user", 5, {}, {"id": "x"}])
async def test_a_user_of_any_shape_raises_nothing(data: Any) -> None:
    event = _event("User.Created-experience-register-email-code", data=data)
    assert isinstance(await _decide(event), Ignored)


@pytest.mark.parametrize("name", sorted(path.stem for path in WEBHOOKS.glob("*console-test*.json")))
async def test_the_consoles_tests_send_nothing(name: str) -> None:
    event = _event(name)
    rules = {event["event"]: Rule(template="Welcome")}
    decision = await _decide(event, rules)
    assert isinstance(decision, Ignored)
    if name.startswith(("User.", "PostSignIn", "PostRegister")):
        assert decision.reason == "a test from Logto's console"


async def test_an_end_user_cannot_imitate_the_consoles_test() -> None:
    await _message(_event("User.Created-experience-register-email-code", userAgent="fake-user-agent"))


@pytest.mark.parametrize("name", sorted(path.stem for path in WEBHOOKS.glob("*.json")))
async def test_only_configured_events_send_a_mail(name: str) -> None:
    event = _event(name)
    sends = event["event"] == "User.Created" and event["data"].get("primaryEmail") is not None
    assert isinstance(await _decide(event), EventMessage) == sends


async def test_users_created_by_the_management_api_are_ignored_if_configured() -> None:
    rules = {"User.Created": Rule(template="Welcome", only="registration")}
    made = _event("User.Created-management-api-with-primary-email")
    assert await _decide(made, rules) == Ignored("not a registration")
    await _message(made)
    await _message(_event("User.Created-experience-register-social-with-email"), rules)


async def test_other_events_can_be_configured() -> None:
    rules = {"PostResetPassword": Rule(template="PasswordChanged"), "User.Data.Updated": Rule(template="Changed")}
    changed = await _message(_event("PostResetPassword-experience-forgot-password"), rules)
    assert (changed.template, changed.recipient, changed.ip) == ("PasswordChanged", "grace@example.com", "203.0.113.7")
    updated = await _message(_event("User.Data.Updated-account-api-primary-email-changed"), rules)
    assert (updated.template, updated.recipient) == ("Changed", "grace.new@example.com")


async def test_a_lockout_is_told_to_the_address_that_was_typed() -> None:
    """A user name or a phone number is no address, whatever it looks like."""
    rules = {"Identifier.Lockout": Rule(template="Locked"), "Message.RateLimited": Rule(template="Locked")}
    locked = _event("Identifier.Lockout-experience-wrong-code")
    assert (await _message(locked, rules, ("fr",))).languages == ("fr",)
    assert (await _message(locked, rules)).recipient == "ada@example.com"
    none = Ignored("the event has no email address")
    assert await _decide(_event("Identifier.Lockout-experience-wrong-password"), rules) == none
    assert await _decide(locked | {"type": "phone"}, rules) == none
    limited = _event("Message.RateLimited-experience-too-many-codes")
    assert (await _message(limited, rules)).recipient == "ratelimited@example.com"
    assert await _decide(limited | {"recipient": "15551234567"}, rules) == none


async def test_the_ip_address_has_one_name() -> None:
    """Logto calls it `userIp` in the events of a sign-in."""
    message = await _message(_event("PostSignIn-experience-signin-email-code"), {"PostSignIn": Rule(template="Notice")})
    assert message.payload["ip"] == message.ip == "203.0.113.7"


async def test_the_object_of_a_partial_update_is_not_taken_for_the_user() -> None:
    rules = {"User.Data.Updated": Rule(template="Changed")}
    event = _event("User.Data.Updated-management-api-profile")
    event["data"] = {"id": "x", "primaryEmail": "victim@example.com"}
    assert isinstance(await _decide(event, rules), Ignored)


async def test_a_welcome_has_the_language_of_the_profile_else_of_the_last_mail() -> None:
    with_profile = _event("User.Created-management-api-full-user")
    without = _event("User.Created-experience-register-email-code")
    assert (await _message(with_profile, languages=("fr",))).languages == ("de-DE",)
    assert (await _message(without, languages=("fr", "en"))).languages == ("fr", "en")
    assert (await _message(without)).languages == ()
    without["data"]["profile"] = {"locale": "../etc"}
    assert (await _message(without, languages=("fr",))).languages == ("fr",)


async def test_a_repeat_is_recognized_however_it_is_serialized_and_a_user_for_ever() -> None:
    event = _event("User.Created-experience-register-email-code")
    again = dict(reversed(event.items()))
    one, two = await _decide(event), await _decide(again)
    other = await _decide(event | {"createdAt": "2026-11-21T10:00:00.000Z"})
    assert isinstance(one, EventMessage)
    assert isinstance(two, EventMessage)
    assert isinstance(other, EventMessage)
    assert one.once == two.once
    body, user = one.once
    assert body.until == START + 99
    assert (user.what, user.until) == (b"welcome:cpjhvhx62u6p", None)
    assert other.once[0].what != body.what
    assert other.once[1] == user


async def test_an_event_that_creates_no_user_has_no_welcome_key() -> None:
    rules = {"PostResetPassword": Rule(template="PasswordChanged")}
    decision = await _decide(_event("PostResetPassword-experience-forgot-password"), rules)
    assert isinstance(decision, EventMessage)
    assert len(decision.once) == 1


async def test_a_delayed_mail_lives_from_its_delay_on() -> None:
    """It is due an hour after the event was accepted, and its lifetime starts then."""
    rules = {"User.Created": Rule.model_validate({"template": "Welcome", "delay": "1h"})}
    decision = await _decide(_event("User.Created-experience-register-email-code"), rules)
    assert isinstance(decision, EventMessage)
    assert decision.due_at == START + 3600
    assert (decision.message.created_at, decision.message.expires_at) == (START, START + 3600 + 3 * 86400)


@pytest.mark.parametrize(
    ("rule", "what", "until"),
    [
        ({"template": "Notice", "once_per": "user"}, b"Notice per user:cpjhvhx62u6p", None),
        ({"template": "Notice", "once_per": "address"}, b"Notice per address:ada@example.com", None),
        (
            {"template": "Notice", "once_per": "user", "once_within": "24h"},
            b"Notice per user:cpjhvhx62u6p",
            START + 86400,
        ),
        ({"template": "Welcome", "once_per": "user"}, b"welcome:cpjhvhx62u6p", None),
        ({"template": "Welcome", "once_per": "address"}, b"Welcome per address:ada@example.com", None),
    ],
)
async def test_an_event_may_send_a_template_once_per_user_or_address(
    rule: dict[str, Any], what: bytes, until: float | None
) -> None:
    """For ever or for a while; addresses are compared without upper case."""
    event = _event("User.Created-experience-register-email-code")
    event["data"]["primaryEmail"] = "Ada@EXAMPLE.com"
    user = event | {"event": "PostRegister"}
    decision = await _decide(user, {"PostRegister": Rule.model_validate(rule)})
    assert isinstance(decision, EventMessage)
    assert [(key.what, key.until) for key in decision.once[1:]] == [(what, until)]


async def test_without_its_id_a_user_gets_every_mail() -> None:
    """There is nothing to recognize the user by, and a mail twice is better than none."""
    event = _event("User.Created-experience-register-email-code")
    del event["data"]["id"]
    decision = await _decide(event)
    assert isinstance(decision, EventMessage)
    assert len(decision.once) == 1
