"""`POST /webhook`, through a real uvicorn, with the captured events and their real signatures."""

import hmac
import json
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from tests.handlers.conftest import SIGNING_KEY
from tests.handlers.serving import WIRE, Answer, Endpoints, captured, served

CAPTURED = sorted((WIRE / "webhooks").glob("*.http"))
NOW = datetime(2026, 11, 21, 10, 0, tzinfo=UTC).timestamp()
"""Shortly after the captures."""
ADA = WIRE / "webhooks" / "User.Created-experience-register-email-code.http"


@pytest.fixture(autouse=True)
def _soon_after(doors: Endpoints) -> None:
    doors.clock.set(NOW)


def _post(doors: Endpoints, event: Any, *, key: str = SIGNING_KEY) -> Answer:
    body = event if isinstance(event, bytes) else json.dumps(event).encode()
    signature = hmac.new(key.encode(), body, sha256).hexdigest()
    return doors.ask("POST", "/webhook", body=body, **{"logto-signature-sha-256": signature})


def _created(**changes: Any) -> dict[str, Any]:
    event: dict[str, Any] = json.loads(ADA.read_bytes().split(b"\r\n\r\n", 1)[1])
    return event | changes


def test_every_capture_is_there() -> None:
    assert len(CAPTURED) == 101


@pytest.mark.parametrize("path", CAPTURED, ids=lambda path: path.stem)
def test_what_logto_sends_is_verified_and_answered_200(doors: Endpoints, path: Path) -> None:
    sent = captured(path, "webhook")
    answer = doors.raw(sent)
    event = json.loads(sent.split(b"\r\n\r\n", 1)[1])
    assert answer.status == 200
    if event["event"] == "User.Created" and event["data"].get("primaryEmail"):
        (message,) = doors.parts.kept
        assert json.loads(answer.body) == {"id": message.id}
        assert message.recipient == event["data"]["primaryEmail"]
    else:
        assert not doors.parts.kept
        assert list(json.loads(answer.body)) == ["ignored"]


def test_one_octet_changed_and_the_signature_does_not_fit(doors: Endpoints) -> None:
    sent = captured(ADA, "webhook")
    answer = doors.raw(sent.replace(b"ada@example.com", b"eve@example.com"))
    assert (answer.status, answer.body) == (401, b"The signature does not match.")
    assert not doors.parts.kept


@pytest.mark.parametrize("signature", [None, "", "0" * 64, "\xe4" * 64, "d527"])
def test_without_the_signature_nothing_is_kept(doors: Endpoints, signature: str | None) -> None:
    headers = {} if signature is None else {"logto-signature-sha-256": signature}
    assert doors.ask("POST", "/webhook", body=json.dumps(_created()).encode(), **headers).status == 401


def test_either_key_will_do(doors: Endpoints) -> None:
    assert _post(doors, _created(), key="another key").status == 200
    assert _post(doors, _created(), key="a third key").status == 401


def test_without_signing_keys_there_is_no_door() -> None:
    with served(webhook={}) as doors:
        assert _post(doors, _created(), key="").status == 404


def test_a_repeat_is_answered_200_and_sends_nothing(doors: Endpoints) -> None:
    assert "id" in json.loads(_post(doors, _created()).body)
    assert json.loads(_post(doors, _created()).body) == {"ignored": "this was handled before"}
    assert len(doors.parts.kept) == 1


def test_a_user_is_welcomed_once_for_ever(doors: Endpoints) -> None:
    _post(doors, _created())
    doors.clock.set(NOW + 400 * 86400)
    later = datetime.fromtimestamp(NOW + 400 * 86400, UTC).isoformat()
    assert "ignored" in json.loads(_post(doors, _created(createdAt=later)).body)
    assert len(doors.parts.kept) == 1


def test_the_welcome_speaks_the_language_of_the_code(doors: Endpoints) -> None:
    doors.email(
        b'{"to":"ada@example.com","type":"Register","payload":{"code":"123456","uiLocales":"fr-CA fr","locale":"fr"}}'
    )
    _post(doors, _created())
    assert doors.parts.kept[1].languages == ("fr-CA", "fr")


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
def test_an_event_must_be_fresh(doors: Endpoints, created_at: Any, status: int) -> None:
    assert _post(doors, _created(createdAt=created_at)).status == status


def test_an_event_without_its_moment_is_refused(doors: Endpoints) -> None:
    event = _created()
    del event["createdAt"]
    assert _post(doors, event).status == 400


def test_any_age_is_taken_where_it_is_wished() -> None:
    with served(webhook={"signing_keys": [SIGNING_KEY], "max_age": "0"}) as doors:
        assert _post(doors, _created(createdAt="1999-01-01T00:00:00Z")).status == 200
        assert json.loads(_post(doors, _created(createdAt="1999-01-01T00:00:00Z")).body) == {
            "ignored": "this was handled before"
        }
        assert _post(doors, _created(createdAt=None, data=_created()["data"] | {"id": "other"})).status == 200
        assert len(doors.parts.kept) == 2


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
def test_what_is_not_understood_gets_a_plain_400(doors: Endpoints, body: bytes) -> None:
    answer = _post(doors, body)
    assert answer.status == 400
    assert answer.body.startswith(b"The ")
    assert _post(doors, _created()).status == 200


def test_what_cannot_be_kept_is_answered_503_and_may_come_again(doors: Endpoints) -> None:
    doors.parts.full = True
    answer = _post(doors, _created())
    assert (answer.status, answer.headers["retry-after"]) == (503, "5")
    doors.parts.full = False
    assert "id" in json.loads(_post(doors, _created()).body)


def test_a_large_body_is_refused(doors: Endpoints) -> None:
    assert _post(doors, b" " * 2_000_000).status == 413


def test_a_trailing_slash_is_no_redirect(doors: Endpoints) -> None:
    """Logto follows a 301 or 302 with GET and logs a success: the event is lost."""
    assert doors.raw(captured(ADA, "webhook/")).status == 200


def test_other_methods_are_told_which_one_is_right(doors: Endpoints) -> None:
    answer = doors.ask("GET", "/webhook")
    assert (answer.status, answer.headers["allow"]) == (405, "POST")
