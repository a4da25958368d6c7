"""The preview's page: what it asks for, and whom it refuses."""

import json
import re
from typing import Any

import pytest

from mailroom.checking.making import Desk
from mailroom.checking.samples import Sample
from mailroom.preview.page import Page
from tests.rendering.samples import SENDER, writer

PAGE = Page(Desk(writer(), SENDER), kind="SignIn", language="en", sample=Sample.FULL)
HEADERS = {"host": "localhost:8765", "content-type": "application/json"}


def ask(**asked: Any) -> Any:
    asked = {"kind": "SignIn", "language": "en", "sample": "full", "payload": None} | asked
    answer = PAGE.answer("POST", "/view", HEADERS, json.dumps(asked).encode())
    assert answer.status == 200, answer.body
    return json.loads(answer.body)


def test_the_page_has_every_kind_and_its_one_script() -> None:
    answer = PAGE.answer("GET", "/", HEADERS)
    page = answer.body.decode()
    assert answer.status == 200
    assert '"OrganizationInvitation": ["ar", ' in page
    [nonce] = re.findall(r'<script nonce="([^"]+)"', page)
    assert f"script-src 'nonce-{nonce}'" in answer.policy
    assert 'sandbox=""' in page


def test_a_kind_in_a_language_is_shown_with_its_payload() -> None:
    shown = ask(kind="OrganizationInvitation", language="ja")
    assert json.loads(shown["payload"])["organization"]["name"] == "Lighthouse"
    assert "Lighthouse" in shown["subject"]
    assert shown["findings"] == []
    assert set(shown["looks"]) == {"light", "dark", "inverted"}


def test_a_changed_payload_is_shown() -> None:
    shown = ask(payload='{"code": "271828", "application": {"name": "<b>Bold</b>"}}')
    assert shown["subject"] == "271828 is your <b>Bold</b> sign-in code"
    assert "&lt;b&gt;Bold" in shown["source"]


@pytest.mark.parametrize(
    ("payload", "told"),
    [
        ('{"code": 1', "The payload is no JSON"),
        ("[]", "The payload is a JSON object"),
        ("{}", "no code that could be shown"),
        ("[" * 100_000, "The payload is no JSON"),
        (7, "The payload is no JSON"),
    ],
)
def test_what_cannot_be_written_is_told(payload: Any, told: str) -> None:
    assert told in ask(payload=payload)["error"]


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8765", "localhost", "", "localhost.evil.example:1"])
def test_another_name_is_refused(host: str) -> None:
    """DNS rebinding: a foreign page that has its name point here."""
    assert PAGE.answer("GET", "/", {"host": host}).status == 403


@pytest.mark.parametrize(
    ("method", "path", "content_type", "body", "status"),
    [
        ("POST", "/view", "text/plain", b"{}", 415),
        ("POST", "/view", "application/json", b"{}", 400),
        ("POST", "/view", "application/json", b"[]", 400),
        ("POST", "/view", "application/json", b'{"kind": "SignIn", "language": "en", "sample": "?"}', 400),
        ("POST", "/view", "application/json", b'{"kind": "SignIn", "language": "xx", "sample": "full"}', 404),
        ("POST", "/view", "application/json", b'{"kind": "?", "language": "en", "sample": "full"}', 404),
        ("POST", "/", "application/json", b"{}", 404),
        ("GET", "/etc/passwd", "", b"", 404),
    ],
)
def test_what_the_page_does_not_ask_is_refused(
    method: str, path: str, content_type: str, body: bytes, status: int
) -> None:
    headers = {"host": "127.0.0.1:1", "content-type": content_type}
    assert PAGE.answer(method, path, headers, body).status == status
