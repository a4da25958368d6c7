"""The mails about an account, from the captured event to the mail in every language."""

import html
import json
import tomllib
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any, Final

import pytest
from msgspec.structs import replace

from mailroom.config.model import EventRule, Webhook
from mailroom.events import EventMessage, Ignored, decide
from mailroom.logto import USER_CREATED
from mailroom.message import Email
from mailroom.notices import NOTICES
from mailroom.rendering.renderer import BUNDLED
from tests.clock import START
from tests.rendering.samples import SENDER, make_renderer

WEBHOOKS: Final = Path(__file__).parent / "logto-wire" / "webhooks"
LANGUAGES: Final = sorted(file.stem for file in (BUNDLED / "locales").glob("*.toml"))
SENTENCES_WITHOUT_SPACES: Final = ("ja", "ko", "zh-CN", "zh-HK", "zh-TW")
RENDERER: Final = make_renderer()

CHROME: Final = "Mozilla/5.0 (X11; Linux x86_64) Chrome/139.0.0.0 Safari/537.36"
CAPTURED: Final = {
    "PostSignIn-experience-signin-email-code": ("NewSignIn", "ada@example.com"),
    "PostSignIn-experience-signin-social": ("NewSignIn", "margaret@example.com"),
    "PostResetPassword-experience-forgot-password": ("PasswordChanged", "grace@example.com"),
    "User.Data.Updated-management-api-password": ("PasswordChanged", "linus.t@example.com"),
    "Identifier.Lockout-experience-wrong-code": ("AccountLocked", "ada@example.com"),
    "User.SuspensionStatus.Updated-management-api-suspend": ("AccountSuspended", "linus.t@example.com"),
    "User.SuspensionStatus.Updated-management-api-unsuspend": ("AccountRestored", "linus.t@example.com"),
}
"""Captured event -> the mail that it sends, and to whom, if all are set up."""
TOLD: Final = {
    "PostSignIn-experience-": "NewSignIn",
    "PostResetPassword-experience-": "PasswordChanged",
    "User.Data.Updated-management-api-password": "PasswordChanged",
    "Identifier.Lockout-experience-wrong-code": "AccountLocked",
    "User.SuspensionStatus.Updated-management-api-suspend": "AccountSuspended",
    "User.SuspensionStatus.Updated-management-api-unsuspend": "AccountRestored",
}
"""Beginning of a captured event's name -> the mail that it sends."""
RULES: Final = {event: EventRule(template=kind) for kind, events in NOTICES.items() for event in events}


def captured(name: str, **changes: Any) -> dict[str, Any]:
    event: dict[str, Any] = json.loads((WEBHOOKS / f"{name}.json").read_text(encoding="utf-8"))
    return event | changes


async def decision(event: dict[str, Any], rules: dict[str, EventRule] | None = None) -> EventMessage | Ignored:
    async def last_languages(recipient: str) -> tuple[str, ...]:
        return ()

    return await decide(
        event,
        rules=RULES if rules is None else rules,
        lifetime=timedelta(days=3),
        remembered_until=START + 99,
        now=START,
        entropy=Random(1).randbytes,
        last_languages=last_languages,
    )


async def mail(event: dict[str, Any], language: str = "en") -> Email:
    sent = await decision(event)
    assert isinstance(sent, EventMessage), sent
    return RENDERER.render(replace(sent.message, languages=(language,)), sender=SENDER, reply_to=None)


@pytest.mark.parametrize("name", sorted(path.stem for path in WEBHOOKS.glob("*.json")))
async def test_a_captured_event_sends_the_mail_that_is_meant_for_it(name: str) -> None:
    """All others send nothing, though every notice is set up."""
    sent = await decision(captured(name))
    told = sent.message.template if isinstance(sent, EventMessage) else None
    assert told == next((kind for event, kind in TOLD.items() if name.startswith(event)), None)


def test_no_notice_is_sent_unless_it_is_set_up() -> None:
    assert set(Webhook().events) == {USER_CREATED}


def test_the_documented_settings_name_every_notice() -> None:
    page = (Path(__file__).parents[1] / "docs" / "templates.md").read_text(encoding="utf-8")
    block = page.partition("## Mails about an account")[2].partition("```toml\n")[2].partition("```")[0]
    events = Webhook.model_validate(tomllib.loads(block)["webhook"]).events
    assert {event: rule.template for event, rule in events.items() if rule.template != "Welcome"} == {
        event: kind for kind, events in NOTICES.items() for event in events
    }


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", CAPTURED)
async def test_every_notice_is_written_in_every_language(name: str, language: str) -> None:
    kind, recipient = CAPTURED[name]
    email = await mail(captured(name), language)
    assert (email.template, email.recipient, email.language) == (kind, recipient, language)
    assert "Riverside Web" in email.subject or "Acme" in email.subject
    assert len(email.subject) <= 60
    shown = html.unescape(email.html)
    for text in (email.subject, email.text, shown):
        assert "{" not in text.partition("</style>")[2 if text is shown else 0]
        assert "None" not in text
    assert recipient in email.text
    assert recipient in shown


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", NOTICES)
def test_an_inbox_shows_subject_and_preheader_whole(kind: str, language: str) -> None:
    texts = tomllib.loads((BUNDLED / "locales" / f"{language}.toml").read_text(encoding="utf-8"))[kind]
    name = "Acme Studios"
    assert len(texts["subject"].format(app=name, organization=name)) <= 60
    assert (20 if language in SENTENCES_WITHOUT_SPACES else 40) <= len(texts["preheader"]) <= 130


async def test_a_new_sign_in_tells_when_from_where_and_with_which_device() -> None:
    email = await mail(captured("PostSignIn-experience-signin-email-code"))
    for text in (email.text, html.unescape(email.html)):
        assert "203.0.113.7" in text
        assert "Chrome · Linux" in text
        assert "UTC" in text
    assert "Wasn’t you?" in email.text  # noqa: RUF001 - a typographic apostrophe


@pytest.mark.parametrize("change", [{"ip": "203.0.113.7"}, {"userIp": "203.0.113.7"}])
async def test_the_operators_own_program_is_not_told(change: dict[str, str]) -> None:
    """The Management API's caller is a server of the operator: its ip and its name would alarm the reader."""
    name = "User.Data.Updated-management-api-password"
    email = await mail(captured(name, userAgent=CHROME, **change))
    assert "198.51.100.20" not in email.text
    assert "203.0.113.7" not in email.text
    assert "Chrome" not in email.text


async def test_a_user_agent_prints_nothing_of_its_own() -> None:
    """Whoever signs in chooses it."""
    email = await mail(captured("PostSignIn-experience-signin-email-code", userAgent="Call +1 555 0100 <b>now</b>"))
    assert "555" not in email.text + email.html
    assert "Device" not in email.text


@pytest.mark.parametrize(
    "name",
    [
        "User.Data.Updated-account-api-name-changed",
        "User.Data.Updated-management-api-user",
        "User.Data.Updated-management-api-profile",
        "User.Data.Updated-experience-forgot-password",  # PostResetPassword tells it
    ],
)
async def test_another_change_is_not_told_as_a_new_password(name: str) -> None:
    rules = {"User.Data.Updated:password": EventRule(template="PasswordChanged")}
    assert await decision(captured(name), rules) == Ignored("no mail is set up for this event")


async def test_a_rule_for_the_whole_event_holds_for_the_changes_without_one() -> None:
    rules = {
        "User.SuspensionStatus.Updated": EventRule(template="Mine"),
        "User.SuspensionStatus.Updated:restored": EventRule(template="AccountRestored"),
    }
    for name, kind in (("suspend", "Mine"), ("unsuspend", "AccountRestored")):
        sent = await decision(captured(f"User.SuspensionStatus.Updated-management-api-{name}"), rules)
        assert isinstance(sent, EventMessage)
        assert sent.message.template == kind


@pytest.mark.parametrize("data", [None, [], {}, {"isSuspended": None}, {"isSuspended": "yes"}])
async def test_a_suspension_of_any_shape_raises_nothing(data: Any) -> None:
    event = captured("User.SuspensionStatus.Updated-management-api-suspend", data=data)
    assert isinstance(await decision(event), Ignored)


async def test_a_locked_address_is_told_once_an_hour() -> None:
    """Anybody can lock it, and each further attempt sends the event again."""
    sent = await decision(captured("Identifier.Lockout-experience-wrong-code"))
    assert isinstance(sent, EventMessage)
    assert (sent.once[1].what, sent.once[1].until) == (b"AccountLocked per address:ada@example.com", START + 3600)
    rules = {"Identifier.Lockout": EventRule(template="AccountLocked", once_within=timedelta(days=1))}
    sent = await decision(captured("Identifier.Lockout-experience-wrong-code"), rules)
    assert isinstance(sent, EventMessage)
    assert sent.once[1].until == START + 86400


@pytest.mark.parametrize("name", ["wrong-password", "wrong-password-2"])
async def test_a_locked_user_name_has_no_address(name: str) -> None:
    event = captured(f"Identifier.Lockout-experience-{name}")
    assert event["type"] == "username"
    assert isinstance(await decision(event), Ignored)
