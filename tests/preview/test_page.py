"""The preview's page: its requests, and those that it refuses."""

import json
import re
from collections.abc import Mapping
from email import message_from_bytes
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from handlers.console.preview import Preview
from mailroom.config.overrides import Override
from mailroom.lint.rules.rendered import LintContext
from mailroom.preview.preview_send import PreviewSender
from mailroom.providers.base import ProviderSettings
from mailroom.providers.smtp.smtp_provider import Settings
from mailroom.rendering import Brand
from tests.clock import FakeClock
from tests.providers.contract import SecretsInMemory
from tests.rendering.overlays import renderer_with, write_files
from tests.rendering.samples import SENDER, make_renderer
from tests.smtp_server import smtp_server


def sender_of(providers: Mapping[str, ProviderSettings] | None = None, **changes: Any) -> PreviewSender:
    given: dict[str, Any] = {
        "clock": FakeClock(),
        "entropy": Random(1).randbytes,
        "secrets": SecretsInMemory(),
    } | changes
    return PreviewSender(providers or {}, **(given | changes))


def preview(context: LintContext | None = None, **changes: Any) -> Starlette:
    sender = sender_of()
    return Preview(context or LintContext(make_renderer(), SENDER), **({"sender": sender} | changes)).app()


APP = preview()


async def request(
    method: str,
    path: str,
    body: bytes = b"",
    *,
    host: str = "localhost:8765",
    content_type: str = "application/json",
    app: Starlette = APP,
) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        headers = {"host": host, "content-type": content_type}
        return await client.request(method, path, content=body, headers=headers)


async def shown(app: Starlette = APP, **fields: Any) -> Any:
    fields = {"kind": "SignIn", "language": "en", "sample": "full", "payload": None} | fields
    response = await request("POST", "/view", json.dumps(fields).encode(), app=app)
    assert response.status_code == 200, response.text
    return response.json()


async def test_the_page_has_every_kind_and_its_one_script() -> None:
    response = await request("GET", "/")
    page = response.text
    assert response.status_code == 200
    assert '"OrganizationInvitation": ["ar", ' in page
    assert "everything Logto can send" in page
    assert 'id="sending"' not in page, "there is no provider"
    [nonce] = re.findall(r'<script nonce="([^"]+)"', page)
    assert f"script-src 'nonce-{nonce}'" in response.headers["content-security-policy"]
    assert "allow-scripts" not in page.replace("Without allow-scripts", "")


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


async def test_the_usual_payload_shows_the_operators_own_brand() -> None:
    """A full payload shows an application's name and logo instead."""
    brand = Brand(name="Umbrella", logo_url="https://umbrella.example/logo.png")
    app = preview(LintContext(make_renderer(brand=brand), SENDER))
    mail = await shown(app, sample="")
    assert mail["subject"] == "314159 is your Umbrella sign-in code"
    assert "https://umbrella.example/logo.png" in mail["looks"]["light"][0]
    assert "Lighthouse" in (await shown(app, sample="full"))["subject"]
    invitation = await shown(app, kind="OrganizationInvitation", sample="")
    assert json.loads(invitation["payload"])["link"], "an invitation without its link is rare"


async def test_an_edited_file_is_shown_without_a_restart(tmp_path: Path) -> None:
    renderer = renderer_with(tmp_path / "mine", {"locales/en.toml": '[SignIn]\ntitle = "Before"\n'})
    app = preview(LintContext(renderer, SENDER), refreshes=True)
    before = (await request("GET", "/state", app=app)).json()
    assert "Before" in (await shown(app))["text"]
    write_files(
        tmp_path / "mine", {"locales/en.toml": '[SignIn]\ntitle = "Afterwards"\n', "SignIn/html.jinja": "{% if }"}
    )
    await request("GET", "/state", app=app)  # the folder has changed; it is read once it stays the same
    after = (await request("GET", "/state", app=app)).json()
    assert after["version"] != before["version"]
    mail = await shown(app)
    assert "Afterwards" in mail["text"]
    [finding] = mail["findings"]
    assert (finding["place"], finding["is_warning"]) == ("mine/SignIn/html.jinja, line 1", False)
    assert finding["remedy"] == "fix it; until then the bundled Generic/html.jinja is used"
    assert (await request("GET", "/state", app=app)).json() == after


async def test_a_broken_file_keeps_its_last_valid_version_and_says_so(tmp_path: Path) -> None:
    renderer = renderer_with(tmp_path / "mine", {"SignIn/html.jinja": "<p>Mine {{ code }}</p>"})
    app = preview(LintContext(renderer, SENDER), refreshes=True)
    write_files(tmp_path / "mine", {"SignIn/html.jinja": "<p>Mine {{ code }</p>"})
    for _ in range(2):
        await request("GET", "/state", app=app)
    mail = await shown(app)
    assert "Mine" in mail["source"]
    broken = [finding for finding in mail["findings"] if finding["check"] == 1]
    assert [finding["remedy"] for finding in broken] == ["fix it; until then its last valid version is used"]
    other = await shown(app, kind="Register")
    assert other["findings"] == [], "it is another kind's"


async def test_a_mail_is_a_page_of_its_own_for_the_gallery() -> None:
    response = await request("GET", "/mail?kind=SignIn&language=ja&look=dark")
    assert response.status_code == 200
    assert "@media all{" in response.text.replace("@media all {", "@media all{")
    policy = response.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    assert policy.endswith("sandbox")
    assert "frame-ancestors 'self'" in policy
    assert "cannot be rendered" in (await request("GET", "/mail?kind=None&language=ja")).text


async def test_a_mail_in_plain_text_is_shown_as_text(tmp_path: Path) -> None:
    files = {"SignIn/logto/en.toml": 'subject = "It is {{code}}"', "SignIn/logto/en.txt": "<Your code is {{code}}.>"}
    app = preview(LintContext(renderer_with(tmp_path / "mine", files), SENDER))
    mail = await shown(app, sample="")
    assert (mail["source"], mail["text"], mail["findings"]) == ("", "<Your code is 314159.>", [])
    assert "&lt;Your code is 314159.&gt;</pre>" in (await request("GET", "/mail?kind=SignIn&language=en", app=app)).text


def send_request(**changes: str) -> bytes:
    fields = {"kind": "SignIn", "language": "de", "sample": "", "payload": '{"code": "271828"}'}
    return json.dumps({**fields, "to": "grace@example.com", "provider": "main", **changes}).encode()


async def test_the_mail_is_sent_through_the_chosen_provider() -> None:
    async with smtp_server(tls="none") as server:
        settings = Settings(type="smtp", host=server.host, port=server.port, tls="none")
        sender = sender_of({"main": settings})
        app = preview(sender=sender)
        assert "<option>main</option>" in (await request("GET", "/", app=app)).text
        response = await request("POST", "/send", send_request(), app=app)
        assert response.status_code == 200, response.text
        assert response.json()["told"].startswith("Sent by main.")
        [mail] = server.mails
        assert mail.recipient == "grace@example.com"
        assert b"To: grace@example.com" in mail.content
        assert b"271828" in mail.content
        server.fault("RCPT", "550 5.1.1 no such user")
        response = await request("POST", "/send", send_request(), app=app)
        assert response.status_code == 502
        assert "no such user" in response.text
        for wrong in ({"to": "nobody"}, {"provider": "other"}, {"payload": "{"}, {"payload": "{}"}):
            assert (await request("POST", "/send", send_request(**wrong), app=app)).status_code == 400
        assert len(server.mails) == 1


def test_mails_are_not_captured_without_a_server() -> None:
    captured = ProviderSettings(type="capture")
    sender = sender_of({"dev": captured})
    assert sender.providers == ()


async def test_the_mail_is_sent_from_the_address_of_its_override() -> None:
    """Of the first that matches the kind and the payload's organization, as by the courier."""
    override = Override.model_validate(
        {"when": {"organization": "org_1"}, "from": "Lighthouse <no-reply@lighthouse.example>"}
    )
    async with smtp_server(tls="none") as server:
        settings = Settings(type="smtp", host=server.host, port=server.port, tls="none")
        app = preview(sender=sender_of({"main": settings}, overrides=[override]))
        for organization in ("org_1", "org_2"):
            payload = json.dumps({"code": "271828", "organization": {"id": organization}})
            response = await request("POST", "/send", send_request(payload=payload), app=app)
            assert response.status_code == 200, response.text
        senders = [message_from_bytes(mail.content)["From"] for mail in server.mails]
        assert senders == ["Lighthouse <no-reply@lighthouse.example>", "Acme <no-reply@acme.example>"]
