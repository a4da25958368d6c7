"""The preview's page: its requests, and those that it refuses."""

import json
import re
from typing import Any

import httpx
import pytest

from handlers.console.preview import Preview
from mailroom.lint.rules.rendered import LintContext
from mailroom.lint.samples import Sample
from tests.rendering.samples import SENDER, make_renderer

APP = Preview(LintContext(make_renderer(), SENDER), kind="SignIn", language="en", sample=Sample.FULL).app()


async def request(
    method: str, path: str, body: bytes = b"", *, host: str = "localhost:8765", content_type: str = "application/json"
) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(APP), base_url="http://localhost") as client:
        headers = {"host": host, "content-type": content_type}
        return await client.request(method, path, content=body, headers=headers)


async def shown(**fields: Any) -> Any:
    fields = {"kind": "SignIn", "language": "en", "sample": "full", "payload": None} | fields
    response = await request("POST", "/view", json.dumps(fields).encode())
    assert response.status_code == 200, response.text
    return response.json()


async def test_the_page_has_every_kind_and_its_one_script() -> None:
    response = await request("GET", "/")
    page = response.text
    assert response.status_code == 200
    assert '"OrganizationInvitation": ["ar", ' in page
    [nonce] = re.findall(r'<script nonce="([^"]+)"', page)
    assert f"script-src 'nonce-{nonce}'" in response.headers["content-security-policy"]
    assert 'sandbox=""' in page


async def test_a_kind_in_a_language_is_shown_with_its_payload() -> None:
    mail = await shown(kind="OrganizationInvitation", language="ja")
    assert json.loads(mail["payload"])["organization"]["name"] == "Lighthouse"
    assert "Lighthouse" in mail["subject"]
    assert mail["findings"] == []
    assert set(mail["looks"]) == {"light", "dark", "inverted"}


async def test_a_changed_payload_is_shown() -> None:
    mail = await shown(payload='{"code": "271828", "application": {"name": "<b>Bold</b>"}}')
    assert mail["subject"] == "271828 is your <b>Bold</b> sign-in code"
    assert "&lt;b&gt;Bold" in mail["source"]


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
async def test_a_mail_that_cannot_be_rendered_is_an_error(payload: Any, told: str) -> None:
    assert told in (await shown(payload=payload))["error"]


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8765", "", "localhost.evil.example:1"])
async def test_another_name_is_refused(host: str) -> None:
    """DNS rebinding: the name of another site resolves to this machine."""
    assert (await request("GET", "/", host=host)).status_code == 400


@pytest.mark.parametrize(
    ("method", "path", "content_type", "body", "status"),
    [
        ("POST", "/view", "text/plain", b"{}", 415),
        ("POST", "/view", "application/json", b"{}", 400),
        ("POST", "/view", "application/json", b"[]", 400),
        ("POST", "/view", "application/json", b'{"kind": "SignIn", "language": "en", "sample": "?"}', 400),
        ("POST", "/view", "application/json", b'{"kind": "SignIn", "language": "xx", "sample": "full"}', 404),
        ("POST", "/view", "application/json", b'{"kind": "?", "language": "en", "sample": "full"}', 404),
        ("POST", "/", "application/json", b"{}", 405),
        ("POST", "/view", "application/json", b"x" * 1_100_000, 413),
        ("GET", "/etc/passwd", "", b"", 404),
    ],
)
async def test_requests_that_the_page_does_not_send_are_refused(
    method: str, path: str, content_type: str, body: bytes, status: int
) -> None:
    response = await request(method, path, body, host="127.0.0.1:1", content_type=content_type)
    assert response.status_code == status
