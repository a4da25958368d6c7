"""The events in our documentation, with Logto's own requests: each sends the mail that the page says."""

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from mailroom.message import Address, Message
from mailroom.notices import NEED_DIRECTORY
from tests.handlers.conftest import SIGNING_KEY
from tests.handlers.serving import WIRE, captured, served
from tests.handlers.test_webhook import NOW
from tests.rendering.samples import make_renderer
from tests.test_examples import ROOT, blocks

PAGE: Final = (ROOT / "docs" / "templates.md").read_text()
REASONS: Final = re.findall(r'`\{"ignored": "(.*?)"\}`', PAGE)
SENDER: Final = Address("no-reply@acme.example", "Acme")


def captures(event: str) -> list[Path]:
    """Return what Logto sent for this event, but for its console's tests."""
    files = sorted((WIRE / "webhooks").glob(f"{event.partition(':')[0]}-*.http"))
    return [file for file in files if "console-test" not in file.name]


def documented_events() -> Iterator[tuple[str, Any]]:
    """Yield each line of `[webhook.events]` in our files, but those that other events complete (test_directory.py)."""
    for _, text in blocks():
        events = tomllib.loads(text).get("webhook", {}).get("events", {})
        yield from ((event, rule) for event, rule in events.items() if event not in NEED_DIRECTORY)


def table_of_events() -> dict[str, str]:
    """Return to whom an event's mail goes, as the page says."""
    rows = re.findall(r"(?m)^\| (`[A-Z].*?`.*?) \| (the |nobody)", PAGE.partition("| event | the mail goes to |")[2])
    return {event: whom for events, whom in rows for event in re.findall(r"`(.*?)`", events)}


def send_captured(event: str, rule: Any) -> tuple[list[Message], list[str]]:
    """Send all requests of an event; return the messages, and the reasons of the others."""
    messages, reasons = [], []
    with served(webhook={"signing_keys": [SIGNING_KEY], "events": {event: rule}}) as server:
        server.clock.set(NOW)
        for file in captures(event):
            server.parts.__init__(server.clock)  # type: ignore[misc]  # emptied in place, as in `server`
            response = server.raw(captured(file, "webhook"))
            assert response.status == 200, file
            messages += server.parts.stored
            reasons += [json.loads(response.body)["ignored"]] if not server.parts.stored else []
            addresses = [message.recipient for message in server.parts.stored]
            assert all(f'"{address}"'.encode() in file.read_bytes() for address in addresses)
    assert messages or reasons, f"Logto was never seen to send {event}"
    return messages, reasons


@pytest.fixture
def templates(tmp_path: Path) -> Path:
    """Return the page's templates as files."""
    for language, name, text in re.findall(r"```(toml|jinja)\n(?:# my-templates/(\S+)\n)?(.*?)```", PAGE, re.DOTALL):
        if language == "toml" and name and "[SignedIn]" in text:
            (tmp_path / name).parent.mkdir(parents=True)
            (tmp_path / name).write_text(text)
        elif language == "jinja" and "createdAt" in text:
            (tmp_path / "SignedIn").mkdir()
            (tmp_path / "SignedIn" / "html.jinja").write_text(text)
    return tmp_path


@pytest.mark.parametrize(("event", "rule"), [*documented_events()], ids=lambda one: str(one)[:30])
def test_an_event_in_an_example_sends_its_mail(event: str, rule: Any, templates: Path) -> None:
    """At least one request of Logto does; without an address the documented reason is given."""
    messages, reasons = send_captured(event, rule)
    assert messages
    assert set(reasons) <= {*REASONS, "not a registration", *(["no mail is set up for this event"] * (":" in event))}
    renderer = make_renderer(overlay=templates)
    for message in messages:
        mail = renderer.render(message, sender=SENDER, reply_to=None)
        assert mail.subject
        if message.template == "SignedIn":
            for fact in ("203.0.113.7", "Chrome/139.0.0.0", "2026-11-21T09:"):
                assert fact in mail.html
    assert renderer.faults == ()


@pytest.mark.parametrize("event", sorted({file.name.split("-")[0] for file in captures("*")}))
def test_the_table_of_events_is_true(event: str) -> None:
    """Of every event that Logto was seen to send."""
    messages, reasons = send_captured(event, "Welcome")
    assert bool(messages) is (table_of_events().get(event, "nobody") != "nobody")
    assert set(reasons) <= set(REASONS)
    for message in messages:
        assert {"event", "createdAt", "ip", "userAgent", "user", "application"} <= set(message.payload)
        assert message.payload["ip"]
        assert message.ip in (message.payload["ip"], None), "the caller of the Management API is not the reader"
        assert not {"hookId", "data", "userIp", "path"} & set(message.payload)


def test_the_page_names_events_and_reasons() -> None:
    """The tests above look at something."""
    assert len([*documented_events()]) >= 6
    assert {"PostSignIn", "Identifier.Lockout", "Organization.Membership.Updated"} <= set(table_of_events())
    assert len(REASONS) == 2
