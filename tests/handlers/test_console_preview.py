"""The console's preview: the page of `mailroom preview --open`, for operators only."""

import json
from typing import Any

import pytest

from tests.handlers.serving import Running, served
from tests.handlers.test_console import PASSWORD, _cookie, _sign_in

PAGE = "/console/preview"
FIELDS: dict[str, Any] = {"kind": "SignIn", "language": "de", "sample": "", "payload": None}


@pytest.mark.parametrize(
    ("method", "path"), [("GET", ""), ("GET", "/state"), ("GET", "/mail"), ("POST", "/view"), ("POST", "/send")]
)
def test_nobody_sees_or_sends_anything_without_a_session(method: str, path: str) -> None:
    with served(console={"password": PASSWORD}) as server:
        answer = server.ask(method, PAGE + path, body=b"{}" if method == "POST" else None)
        assert (answer.status, answer.headers["location"]) == (303, "/console/login")


def test_without_a_console_there_is_none() -> None:
    with served() as server:
        assert server.ask("GET", PAGE).status == 404


def view(server: Running, cookie: str, path: str = "/view", **changes: Any) -> Any:
    body = json.dumps(FIELDS | changes).encode()
    answer = server.ask("POST", PAGE + path, body=body, cookie=cookie, content_type="application/json")
    assert answer.status == 200, answer.body
    return json.loads(answer.body)


def test_in_a_session_the_page_renders_mails_below_its_own_path() -> None:
    with served(console={"password": PASSWORD}) as server:
        cookie = _cookie(_sign_in(server))
        page = server.ask("GET", PAGE, cookie=cookie)
        assert page.status == 200
        assert f'const base = "{PAGE}"' in page.body.decode()
        assert "script-src 'nonce-" in page.headers["content-security-policy"]
        assert view(server, cookie)["subject"].startswith("314159 ist dein Anmeldecode")
        assert server.ask("GET", f"{PAGE}/mail?kind=SignIn&language=de", cookie=cookie).status == 200
        assert json.loads(server.ask("GET", f"{PAGE}/state", cookie=cookie).body)["version"] == 0
        assert f'href="{PAGE}"' in server.ask("GET", "/console/captured", cookie=cookie).body.decode()


def test_a_mail_can_be_sent_by_a_configured_provider() -> None:
    with served(dev=True) as server:
        told = view(server, "", "/send", to="grace@example.com", provider="main")
        assert told["told"].startswith("Sent by main")
        [(mail, raw)] = server.parts.captured.mails
        assert mail.recipient == "grace@example.com"
        assert b"314159" in raw


def test_more_mails_than_the_limit_of_codes_for_one_recipient_are_refused() -> None:
    """Whoever they are for; until the time of the limit is over."""
    with served(dev=True, limits={"recipient": "2/10m"}) as server:

        def send(recipient: str) -> Any:
            body = json.dumps(FIELDS | {"to": recipient, "provider": "main"}).encode()
            return server.ask("POST", PAGE + "/send", body=body, content_type="application/json")

        assert [send(f"{name}@example.com").status for name in ("grace", "ada")] == [200, 200]
        refused = send("linus@example.com")
        assert (refused.status, refused.body) == (
            429,
            b"Too many mails were sent from this page. Please try again in a few minutes.",
        )
        assert len(server.parts.captured.mails) == 2
        server.clock.set(server.clock.now() + 600)
        assert send("linus@example.com").status == 200
