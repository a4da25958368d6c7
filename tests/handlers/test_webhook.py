"""`POST /webhook`, through a real uvicorn, with the captured events and their real signatures."""

import hmac
import json
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import structlog.testing

from tests.handlers.conftest import SIGNING_KEY
from tests.handlers.serving import WIRE, Answer, Running, captured, served

CAPTURED = sorted((WIRE / "webhooks").glob("*.http"))
NOW = datetime(2026, 11, 21, 10, 0, tzinfo=UTC).timestamp()
"""Shortly after the captures."""
ADA = WIRE / "webhooks" / "User.Created-experience-register-email-code.http"


@pytest.fixture(autouse=True)
def _soon_after(server: Running) -> None:
    server.clock.set(NOW)


def _post(server: Running, event: Any, *, key: str = SIGNING_KEY) -> Answer:
    body = event if isinstance(event, bytes) else json.dumps(event).encode()
    signature = hmac.new(key.encode(), body, sha256).hexdigest()
    return server.ask("POST", "/webhook", body=body, **{"logto-signature-sha-256": signature})


def _created(**changes: Any) -> dict[str, Any]:
    event: dict[str, Any] = json.loads(ADA.read_bytes().split(b"\r\n\r\n", 1)[1])
    return event | changes


def test_every_capture_is_there() -> None:
    assert len(CAPTURED) == 101


@pytest.mark.parametrize("path", CAPTURED, ids=lambda path: path.stem)
def test_what_logto_sends_is_verified_and_answered_200(server: Running, path: Path) -> None:
    sent = captured(path, "webhook")
    answer = server.raw(sent)
    event = json.loads(sent.split(b"\r\n\r\n", 1)[1])
    assert answer.status == 200
    if event["event"] == "User.Created" and event["data"].get("primaryEmail"):
        (message,) = server.parts.stored
        assert json.loads(answer.body) == {"id": message.id}
        assert message.recipient == event["data"]["primaryEmail"]
    else:
        assert not server.parts.stored
        assert list(json.loads(answer.body)) == ["ignored"]


def test_the_signature_does_not_match_a_changed_body(server: Running) -> None:
    sent = captured(ADA, "webhook")
    answer = server.raw(sent.replace(b"ada@example.com", b"eve@example.com"))
    assert (answer.status, answer.body) == (401, b"The signature does not match.")
    assert not server.parts.stored


@pytest.mark.parametrize("signature", [None, "", "0" * 64, "\xe4" * 64, "d527"])
def test_without_the_signature_nothing_is_stored(server: Running, signature: str | None) -> None:
    headers = {} if signature is None else {"logto-signature-sha-256": signature}
    assert server.ask("POST", "/webhook", body=json.dumps(_created()).encode(), **headers).status == 401


def test_either_key_is_accepted(server: Running) -> None:
    assert _post(server, _created(), key="another key").status == 200
    assert _post(server, _created(), key="a third key").status == 401


def test_without_signing_keys_the_endpoint_is_a_404() -> None:
    with served(webhook={}) as server:
        assert _post(server, _created(), key="").status == 404


def test_a_repeat_is_answered_200_and_sends_nothing(server: Running) -> None:
    assert "id" in json.loads(_post(server, _created()).body)
    assert json.loads(_post(server, _created()).body) == {"ignored": "this was handled before"}
    assert len(server.parts.stored) == 1


def test_a_user_is_welcomed_once_for_ever(server: Running) -> None:
    _post(server, _created())
    server.clock.set(NOW + 400 * 86400)
    later = datetime.fromtimestamp(NOW + 400 * 86400, UTC).isoformat()
    assert "ignored" in json.loads(_post(server, _created(createdAt=later)).body)
    assert len(server.parts.stored) == 1


def test_the_welcome_has_the_language_of_the_code(server: Running) -> None:
    server.email(
        b'{"to":"ada@example.com","type":"Register","payload":{"code":"123456","uiLocales":"fr-CA fr","locale":"fr"}}'
    )
    _post(server, _created())
    assert server.parts.stored[1].languages == ("fr-CA", "fr")


@pytest.mark.parametrize(
    ("created_at", "status"),
    [
        ("2026-11-20T10:00:00.000Z", 200),
        ("2026-11-20T09:59:59.000Z", 400),
        ("2026-11-20T11:00:00.000+01:00", 200),
        ("2026-11-21T10:10:00.000Z", 200),
        ("2026-11-21T10:00:00", 200),
        ("2026-11-22T10:00:01.000Z", 400),
        ("9999-12-31T23:59:59.999Z", 400),
        ("yesterday", 400),
        ("", 400),
        (1795253373942, 400),
        (None, 400),
    ],
)
def test_an_event_must_be_fresh(server: Running, created_at: Any, status: int) -> None:
    assert _post(server, _created(createdAt=created_at)).status == status


def test_an_event_without_createdat_is_refused(server: Running) -> None:
    event = _created()
    del event["createdAt"]
    assert _post(server, event).status == 400


def test_any_age_is_accepted_with_max_age_0() -> None:
    with served(webhook={"signing_keys": [SIGNING_KEY], "max_age": "0"}) as server:
        assert _post(server, _created(createdAt="1999-01-01T00:00:00Z")).status == 200
        assert json.loads(_post(server, _created(createdAt="1999-01-01T00:00:00Z")).body) == {
            "ignored": "this was handled before"
        }
        assert _post(server, _created(createdAt=None, data=_created()["data"] | {"id": "other"})).status == 200
        assert len(server.parts.stored) == 2


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"User.Created"',
        b"{}",
        b'{"event": 5}',
        b'{"event": null}',
        b'{"event": "\\ud800"}',
        b'{"event": "\xff"}',
        b'{"event": "User.Created", "data": %b}' % (b"[" * 10_000 + b"]" * 10_000),
        b'{"event": "User.Created", "data": %b}' % (b"[" * 70 + b"]" * 70),
    ],
    ids=lambda body: str(body[:40]),
)
def test_an_invalid_body_is_a_plain_400(server: Running, body: bytes) -> None:
    answer = _post(server, body)
    assert answer.status == 400
    assert answer.body.startswith(b"The ")
    assert _post(server, _created()).status == 200


def test_an_event_that_cannot_be_stored_is_a_503_and_may_be_repeated(server: Running) -> None:
    server.parts.full = True
    answer = _post(server, _created())
    assert (answer.status, answer.headers["retry-after"]) == (503, "5")
    server.parts.full = False
    assert "id" in json.loads(_post(server, _created()).body)


def test_a_large_body_is_refused(server: Running) -> None:
    assert _post(server, b" " * 2_000_000).status == 413


def test_a_trailing_slash_is_not_redirected(server: Running) -> None:
    """Logto follows a 301 or 302 with GET and logs a success: the event is lost."""
    assert server.raw(captured(ADA, "webhook/")).status == 200


def test_other_methods_are_a_405_that_names_the_right_one(server: Running) -> None:
    answer = server.ask("GET", "/webhook")
    assert (answer.status, answer.headers["allow"]) == (405, "POST")


def test_events_that_are_held_are_reported_once_an_hour(server: Running) -> None:
    """Not for each of them; Logto gets its 200."""
    server.parts.holds = True
    with structlog.testing.capture_logs() as lines:
        for number in range(4):
            user = _created()["data"] | {"id": f"user{number}"}
            server.clock.set(NOW + 1200 * number)
            assert "id" in json.loads(_post(server, _created(data=user)).body)
    assert [(line["event"], line["log_level"]) for line in lines] == [("webhook.held", "warning")] * 2
    assert "ada@example.com" not in str(lines)


def test_a_delayed_event_is_accepted_for_later() -> None:
    events = {"User.Created": {"template": "Welcome", "delay": "1h"}}
    with served(webhook={"signing_keys": [SIGNING_KEY], "events": events}) as server:
        server.clock.set(NOW)
        assert _post(server, _created()).status == 200
        assert server.parts.due == [NOW + 3600]


def test_an_event_is_sent_again_when_its_period_is_over() -> None:
    events = {"PostSignIn": {"template": "Notice", "once_per": "user", "once_within": "1h"}}
    with served(webhook={"signing_keys": [SIGNING_KEY], "events": events}) as server:
        for seconds, stored in ((0, 1), (3599, 1), (3600, 2)):
            server.clock.set(NOW + seconds)
            moment = datetime.fromtimestamp(NOW + seconds, UTC).isoformat()
            assert _post(server, _created(event="PostSignIn", createdAt=moment)).status == 200
            assert len(server.parts.stored) == stored
