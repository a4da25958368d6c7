"""`POST /email`, through a real uvicorn."""

import json
import re
import socket
from pathlib import Path
from typing import Any

import pytest
import structlog.testing

from mailroom.errors import OutboxError, SealBroken
from mailroom.logto import CODE_TYPES
from mailroom.message import Priority
from tests.clock import START
from tests.handlers.parts import AUTHORIZATION
from tests.handlers.serving import WIRE, Answer, Client, Running, captured, request, served

CAPTURED = sorted((WIRE / "email").glob("*.http"))
_PLAIN = re.compile(rb"[A-Z][A-Za-z ,.`:=/-]{10,100}\.")
"""A sentence that may be read by anybody."""


def _mail(**changes: Any) -> bytes:
    fields: dict[str, Any] = {"to": "ada@example.com", "type": "SignIn", "payload": {"code": "012345"}, **changes}
    return json.dumps({name: value for name, value in fields.items() if value is not ...}).encode()


def _assert_refused(answer: Answer, status: int) -> None:
    assert answer.status == status
    assert _PLAIN.fullmatch(answer.body), answer.body


def test_every_capture_is_there() -> None:
    assert len(CAPTURED) == 34


@pytest.mark.parametrize("path", CAPTURED, ids=lambda path: path.stem)
def test_captured_requests_of_logto_are_stored_unchanged(server: Running, path: Path) -> None:
    sent = captured(path, "email")
    if "no-authorization" in path.stem:
        _assert_refused(server.raw(sent), 401)
        return
    answer = server.raw(sent)
    body = json.loads(sent.split(b"\r\n\r\n", 1)[1])
    (message,) = server.parts.stored
    assert answer.status == 200
    assert json.loads(answer.body) == {"id": message.id}
    assert message.recipient == body["to"]
    assert message.template == body["type"]
    assert message.payload == body["payload"]
    assert message.ip == body.get("ip")
    assert message.created_at == START
    if body["type"] == "OrganizationInvitation":
        assert (message.priority, message.expires_at) == (Priority.INVITATION, START + 7 * 86400)
    else:
        assert (message.priority, message.expires_at) == (Priority.CODE, START + 600 - 30)


@pytest.mark.parametrize("kind", ["SignIn", "Generic", "OrganizationInvitation"])
def test_a_mail_without_a_language_has_those_of_the_last_mail(server: Running, kind: str) -> None:
    """Invitations often have none, nor have codes of the Management API."""
    payload = {"code": "1"} if kind != "OrganizationInvitation" else {"link": "https://acme.example/join"}
    server.email(_mail(payload={"code": "1", "uiLocales": "fr-CA", "locale": "fr"}))
    server.email(_mail(to="bob@example.com", payload={"code": "1", "locale": "de"}))
    server.email(_mail(type=kind, payload={**payload, "locale": ""}))
    server.email(_mail(type=kind, payload={**payload, "locale": "it"}))
    server.email(_mail(to="eve@example.com", type=kind, payload=payload))
    languages = [message.languages for message in server.parts.stored]
    assert languages == [("fr-CA", "fr"), ("de",), ("fr-CA", "fr"), ("it",), ()]


@pytest.mark.parametrize(
    "fault", [OutboxError("disk I/O error"), SealBroken("languages"), KeyError("x"), TimeoutError()]
)
def test_a_failed_look_up_of_the_language_does_not_lose_the_mail(server: Running, fault: Exception) -> None:
    """It is sent without a language, as is the mail of an event."""
    server.parts.fault = fault
    with structlog.testing.capture_logs() as lines:
        assert server.email(_mail()).status == 200
    assert server.parts.stored[0].languages == ()
    assert [line["event"] for line in lines] == ["languages.unknown"]
    assert "ada@example.com" not in str(lines)


def test_the_languages_are_the_raw_list_and_then_the_one_that_logto_resolved(server: Running) -> None:
    server.email(_mail(payload={"code": "1", "uiLocales": "zh-Hant-HK en", "locale": "zh-CN"}))
    assert server.parts.stored[0].languages == ("zh-Hant-HK", "en", "zh-CN")


def test_a_repeated_body_with_a_code_is_stored_once_within_a_minute(server: Running) -> None:
    first, second = server.email(_mail()), server.email(_mail())
    assert first.body == second.body
    assert len(server.parts.stored) == 1
    server.clock.set(START + 61)
    assert server.email(_mail()).body != first.body


@pytest.mark.parametrize(
    "payload", [{"code": "000000"}, {"code": ""}, {"code": None}, {"code": 123456}, {"link": "x"}, {}]
)
def test_a_body_without_a_real_code_may_be_repeated(server: Running, payload: dict[str, Any]) -> None:
    kind = "SignIn" if payload.get("code") else "BrandNew"
    first, second = (server.email(_mail(type=kind, payload=payload)) for _ in range(2))
    assert (first.status, second.status) == (200, 200)
    assert first.body != second.body


@pytest.mark.parametrize(
    ("changes", "template"),
    [
        ({"type": "BrandNew"}, "BrandNew"),
        ({"type": None}, "Generic"),
        ({"type": ...}, "Generic"),
        ({"type": ""}, "Generic"),
        ({"type": "../../etc/passwd"}, "Generic"),
        ({"type": "Sign\0In"}, "Generic"),
        ({"type": "S" * 65}, "Generic"),
        ({"payload": None, "type": "BrandNew"}, "BrandNew"),
        ({"payload": ..., "type": "BrandNew"}, "BrandNew"),
        ({"payload": {}, "type": None}, "Generic"),
        ({"payload": {}, "type": "OrganizationInvitation"}, "OrganizationInvitation"),
        ({"ip": None, "surprise": [{"any": 1}]}, "SignIn"),
        ({"ip": {"odd": 1}}, "SignIn"),
        ({"payload": {"code": "1", "organization": "a plain string", "deep": [[[1.5, None, True]]]}}, "SignIn"),
    ],
)
def test_unknown_and_missing_fields_are_accepted(server: Running, changes: dict[str, Any], template: str) -> None:
    assert server.email(_mail(**changes)).status == 200
    assert server.parts.stored[0].template == template


@pytest.mark.parametrize(
    "to", ["a\0b@acme.example", "a@b..example", "a@[192.0.2.1]", "a@b.example>", "Ada <a@b.example>"]
)
def test_an_address_that_smtp_cannot_carry_is_refused_in_a_sentence(server: Running, to: str) -> None:
    answer = server.email(_mail(to=to))
    _assert_refused(answer, 400)
    assert answer.body == b"The recipient is not an email address that mail can be sent to."


@pytest.mark.parametrize("kind", sorted(CODE_TYPES))
@pytest.mark.parametrize(
    "payload",
    [None, ..., {}, {"code": None}, {"code": ""}, {"code": " \n"}, {"code": ["1"]}, {"code": True}, {"code": "1" * 65}],
)
def test_a_code_type_without_a_usable_code_is_refused_in_a_sentence_for_end_users(
    server: Running, kind: str, payload: Any
) -> None:
    """Otherwise Logto would tell its user to wait for a mail that is never sent."""
    answer = server.email(_mail(type=kind, payload=payload))
    _assert_refused(answer, 400)
    assert answer.body == b"The email was not sent because its verification code is missing."
    assert not server.parts.stored


@pytest.mark.parametrize(
    "content_type", ["application/json", "application/json; charset=utf-8", "application/vnd.logto+json", "text/plain"]
)
def test_any_content_type_is_accepted(server: Running, content_type: str) -> None:
    assert server.email(_mail(), content_type=content_type).status == 200


def test_a_refused_request_is_counted(server: Running) -> None:
    server.email(b"")
    assert b'mailroom_refused_total{endpoint="email",status="400"}' in server.metrics.text()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"ada@example.com"',
        b'{"to": "ada@example.com"} {}',
        b'\xef\xbb\xbf{"to": "ada@example.com"}',
        b'{"to": "\xff@example.com"}',
        b'{"to": "ada@example.com", "payload": {"a": "\\ud800"}}',
        b'{"to": "\\ud800@example.com"}',
        b'{"to": "ada@example.com", "payload": {"a": NaN}}',
        b'{"to": "ada@example.com", "payload": {"a": 1e999}}',
        b'{"to": "ada@example.com", "payload": {"a": %b}}' % (b"9" * 5000),
        b'{"to": "ada@example.com", "payload": {"a": %b}}' % (b"[" * 10_000 + b"]" * 10_000),
        b'{"to": "ada@example.com", "payload": {"a": %b1%b}}' % (b'{"a":' * 10_000, b"}" * 10_000),
        b'{"to": "ada@example.com", "other": %b}' % (b"[" * 10_000 + b"]" * 10_000),
        b'{"to": "ada@example.com", "payload": {"a": %b}}' % (b"[" * 64 + b"]" * 64),
        b'{"to": "ada@example.com", "payload": %b' % (b"[" * 500_000),
        _mail(to=None),
        _mail(to=5),
        _mail(to=...),
        _mail(to=["ada@example.com"]),
        _mail(type=5),
        _mail(payload=[]),
        _mail(payload="code"),
        _mail(to=""),
        _mail(to="ada"),
        _mail(to="ada@example.com\r\nBcc: eve@example.com"),
        _mail(to="ada@example.com\n"),
        _mail(to="ada\0@example.com"),
        _mail(to="Ada <ada@example.com>"),
        _mail(to="ada@example.com, eve@example.com"),
        _mail(to="a" * 300_000 + "@example.com"),
    ],
    ids=lambda body: str(body[:40]),
)
def test_an_invalid_body_is_a_plain_400(server: Running, body: bytes) -> None:
    _assert_refused(server.email(body), 400)
    assert not server.parts.stored
    assert server.email(_mail()).status == 200


def test_sixty_three_levels_are_not_too_deep(server: Running) -> None:
    deep = b'{"to": "ada@example.com", "payload": {"a": %b}}' % (b"[" * 62 + b"]" * 62)
    assert server.email(deep).status == 200


def test_braces_in_strings_are_not_nesting(server: Running) -> None:
    assert server.email(_mail(payload={"code": "1", "name": "{[" * 1000})).status == 200


def test_of_a_duplicate_key_the_last_value_counts(server: Running) -> None:
    assert server.email(b'{"to": "no", "to": "ada@example.com"}').status == 200


@pytest.mark.parametrize(
    "given", [None, "", "Bearer", "Bearer wrong", "bearer test-token", "Bearer test-token2", "Bearer t\xe4st"]
)
def test_without_the_authorization_nothing_is_stored(server: Running, given: str | None) -> None:
    headers = {} if given is None else {"authorization": given}
    _assert_refused(server.ask("POST", "/email", body=_mail(), **headers), 401)
    assert not server.parts.stored


def test_while_rotating_either_authorization_is_accepted() -> None:
    with served(connector={"authorization": ["Bearer neu-ä", "Bearer old"]}) as server:
        body = _mail(payload={"code": "000000"})
        assert server.email(body, authorization="Bearer neu-ä").status == 200  # Latin-1, as Node writes it
        assert server.email(body, authorization="Bearer neu-ä".encode().decode("latin-1")).status == 200
        assert server.email(body, authorization="Bearer old").status == 200
        assert server.email(body, authorization="Bearer ol").status == 401
        assert server.email(body, authorization="").status == 401


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
def test_other_methods_are_a_405_that_names_the_right_one(server: Running, method: str) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(request(method, "/email", connection="close"))
        answer = connection.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 405 ")
    assert b"allow: POST\r\n" in answer


def test_a_trailing_slash_is_not_redirected(server: Running) -> None:
    assert server.ask("POST", "/email/", body=_mail(), authorization=AUTHORIZATION).status == 200


def test_no_other_path_is_redirected(server: Running) -> None:
    assert server.ask("GET", "/livez/").status == 404


def test_a_mail_that_cannot_be_stored_is_a_503(server: Running) -> None:
    server.parts.full = True
    answer = server.email(_mail())
    _assert_refused(answer, 503)
    assert answer.headers["retry-after"] == "5"
    server.parts.full = False
    assert server.email(_mail()).status == 200


def test_a_body_of_exactly_one_mebibyte_is_stored(server: Running) -> None:
    frame = len(_mail(payload={"code": "1", "note": ""}))
    body = _mail(payload={"code": "1", "note": "x" * (1024 * 1024 - frame)})
    assert len(body) == 1024 * 1024
    assert server.email(body).status == 200
    _assert_refused(server.email(body + b" "), 413)


@pytest.mark.parametrize("size", [1_100_000, 2_000_000, 3_900_000])
@pytest.mark.parametrize("authorization", [AUTHORIZATION, "Bearer wrong"])
def test_the_rest_of_a_refused_body_is_read_and_the_connection_stays_usable(
    server: Running, size: int, authorization: str
) -> None:
    """Otherwise a client that is still writing would see a reset, and Logto would show everything to the end user."""
    status = 413 if authorization == AUTHORIZATION else 401
    with Client(server.port) as client:
        client.send(request("POST", "/email", body=b"x" * size, authorization=authorization))
        _assert_refused(client.answer(), status)
        client.send(request("POST", "/email", body=_mail(), authorization=AUTHORIZATION))
        assert client.answer().status == 200


def test_a_chunked_body_is_counted_while_it_is_read(server: Running) -> None:
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    head = request("POST", "/email", authorization=AUTHORIZATION, transfer_encoding="chunked")
    with Client(server.port) as client:
        client.send(head + chunk * 20 + b"0\r\n\r\n")
        _assert_refused(client.answer(), 413)
        body = _mail()
        client.send(head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
        assert client.answer().status == 200


def test_a_body_may_come_in_pieces(server: Running) -> None:
    whole = request("POST", "/email", body=_mail(), authorization=AUTHORIZATION)
    with Client(server.port) as client:
        for octet in range(len(whole)):
            client.send(whole[octet : octet + 1])
        assert client.answer().status == 200


def test_a_client_that_disconnects_halfway_leaves_nothing_behind(server: Running) -> None:
    whole = request("POST", "/email", body=_mail(), authorization=AUTHORIZATION)
    for cut in (len(whole) - 1, len(whole) - 40, 30):
        with Client(server.port) as client:
            client.send(whole[:cut])
    assert server.email(_mail()).status == 200
    assert len(server.parts.stored) == 1


def test_100_continue_is_sent_to_a_client_that_waits_for_it(server: Running) -> None:
    whole = request("POST", "/email", body=_mail(), authorization=AUTHORIZATION, expect="100-continue")
    with Client(server.port) as client:
        client.send(whole.partition(b"\r\n\r\n")[0] + b"\r\n\r\n")
        assert client.answer().status == 100
        client.send(_mail())
        assert client.answer().status == 200


def test_pipelined_requests_are_stored_and_answered_in_order(server: Running) -> None:
    one = request("POST", "/email", body=_mail(to="one@example.com"), authorization=AUTHORIZATION)
    two = request("POST", "/email", body=_mail(to="two@example.com"), authorization=AUTHORIZATION)
    with Client(server.port) as client:
        client.send(one + two)
        first, second = json.loads(client.answer().body), json.loads(client.answer().body)
    assert [(m.recipient, m.id) for m in server.parts.stored] == [
        ("one@example.com", first["id"]),
        ("two@example.com", second["id"]),
    ]


def test_invalid_http_is_answered_and_the_connection_closed(server: Running) -> None:
    assert server.raw(b"\x16\x03\x01 hello\r\n\r\n").status == 400
    assert server.email(_mail()).status == 200


def test_stored_mails_are_counted_by_known_templates_only(server: Running) -> None:
    server.email(_mail(type="BindMfa"))
    server.email(_mail(type="InventedByAStranger"))
    text = server.metrics.text()
    assert b'mailroom_accepted_total{endpoint="email",template="BindMfa"}' in text
    assert b'template="other"' in text
    assert b"InventedByAStranger" not in text
