"""`mailroom send`."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from mailroom.errors import OutboxError
from mailroom.message import Attempt, Outcome, State
from mailroom.outbox import Record
from tests.cli.conftest import FakeOutbox, Operator, Server, record


def test_a_test_mail_is_posted_to_the_server_as_logto_does(
    operator: Operator, outbox: FakeOutbox, server: Server
) -> None:
    outbox.records = [record("0192-1")]
    result = operator.run("send", "ada@example.com", "--locale", "fr-CA")
    assert result.output == "accepted as 0192-1\nsent by main: 250 ok\n"
    assert result.exit_code == 0
    assert server.requests == [
        (
            "/email",
            "Bearer 0123456789abcdef",
            {"to": "ada@example.com", "type": "Generic", "payload": {"code": "000000", "locale": "fr-CA"}},
        )
    ]


def test_a_test_mail_for_an_application_and_an_organization(
    operator: Operator, outbox: FakeOutbox, server: Server
) -> None:
    """So that their templates and overrides can be tried."""
    outbox.records = [record("0192-1")]
    assert operator.run("send", "ada@example.com", "--application", "app1", "--organization", "org1").exit_code == 0
    ((_, _, request),) = server.requests
    assert request["payload"] == {"code": "000000", "application": {"id": "app1"}, "organization": {"id": "org1"}}


def test_send_waits_until_the_message_is_settled(
    operator: Operator, outbox: FakeOutbox, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    sending = record("0192-1", State.SENDING)
    looks = iter([None, sending, replace(sending, state=State.SENT)])

    async def get(_id: str) -> Record | None:
        return next(looks)

    monkeypatch.setattr(outbox, "get", get)
    assert operator.run("send", "ada@example.com").exit_code == 0
    assert next(looks, None) is None


@pytest.mark.parametrize("state", [State.FAILED, State.HELD, State.EXPIRED])
def test_send_fails_if_the_mail_was_not_sent(
    operator: Operator, outbox: FakeOutbox, server: Server, state: State
) -> None:
    outbox.records = [replace(record("0192-1", state, diagnostic="550 no"), reason="refused")]
    result = operator.run("send", "ada@example.com")
    assert result.exit_code == 1
    assert f"{state} by main: 550 no (refused)" in result.output


def test_send_stops_waiting_after_the_given_time(operator: Operator, outbox: FakeOutbox, server: Server) -> None:
    outbox.records = [record("0192-1", State.QUEUED)]
    result = operator.run("send", "ada@example.com", "--wait", "0")
    assert result.exit_code == 1
    assert "mailroom outbox show 0192-1" in result.output


def test_an_error_response_is_printed(operator: Operator, server: Server) -> None:
    server.status, server.body = 400, b'{"message": "The recipient is no address."}'
    result = operator.run("send", "ada")
    assert result.exit_code == 1
    assert "400: " in result.output
    assert "The recipient is no address." in result.output


@pytest.mark.parametrize("answer", [b"<html>", b"[]", b'{"ok": true}'])
def test_a_server_that_is_not_mailroom_is_reported(operator: Operator, server: Server, answer: bytes) -> None:
    server.body = answer
    result = operator.run("send", "ada@example.com")
    assert result.exit_code == 1
    assert "not Mailroom" in result.output


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "nonsense", "http://[::1"])
def test_a_missing_server_is_reported(operator: Operator, url: str) -> None:
    result = operator.run("send", "ada@example.com", "--url", url)
    assert result.exit_code == 1
    assert "No server answers at" in result.output


def test_an_outbox_that_cannot_be_read_is_reported(
    operator: Operator, outbox: FakeOutbox, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def get(_id: str) -> None:
        raise OutboxError("the outbox cannot be read")

    monkeypatch.setattr(outbox, "get", get)
    result = operator.run("send", "ada@example.com")
    assert result.exit_code == 1
    assert "cannot be read" in result.output


def test_the_record_is_printed_as_json(operator: Operator, outbox: FakeOutbox, server: Server) -> None:
    outbox.records = [record("0192-1")]
    report = json.loads(operator.run("send", "ada@example.com", "--json").output)
    assert (report["id"], report["record"]["state"]) == ("0192-1", "sent")


def test_a_failed_attempt_is_printed_as_soon_as_it_is_known(
    operator: Operator, outbox: FakeOutbox, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not only when the time is up; each once."""
    failed = Attempt("main", 1_700_000_000.0, 0.1, Outcome.UNAVAILABLE, "451 4.7.1 try again later")
    retried = replace(record("0192-1", State.QUEUED), attempts=(failed,), due_at=1_700_000_005.0)
    again = replace(retried, state=State.SENDING)
    looks = iter([retried, retried, again, record("0192-1")])

    async def get(_id: str) -> Record | None:
        return next(looks)

    monkeypatch.setattr(outbox, "get", get)
    result = operator.run("send", "ada@example.com")
    assert result.exit_code == 0
    assert re.fullmatch(
        r"accepted as 0192-1\nmain: unavailable, 451 4\.7\.1 try again later\n"
        r"queued; the next attempt is at 11-1\d \d\d:\d\d:25\nsent by main: 250 ok\n",
        result.output,
    )


def test_what_has_ended_is_not_called_late(operator: Operator, outbox: FakeOutbox, server: Server) -> None:
    outbox.records = [replace(record("0192-1", State.HELD, diagnostic="535 no"), reason="misconfigured")]
    result = operator.run("send", "ada@example.com")
    assert result.output == (
        "accepted as 0192-1\nheld by main: 535 no (misconfigured)\n"
        "Error: not sent; details: mailroom outbox show 0192-1\n"
    )


@pytest.mark.usefixtures("english")
def test_a_template_that_does_not_exist_is_refused(operator: Operator, server: Server) -> None:
    """The server would send Generic instead, as it does for new types of Logto's."""
    result = operator.run("send", "ada@example.com", "--template", "Signin")
    assert result.exit_code == 2
    assert "there is no template 'Signin'; there are: " in result.output
    assert "; did you mean SignIn?" in result.output
    assert server.requests == []


@pytest.mark.usefixtures("english")
def test_a_template_of_the_operators_own_can_be_sent(operator: Operator, outbox: FakeOutbox, server: Server) -> None:
    outbox.records = [record("0192-1")]
    kind = Path("mine/Farewell/logto")
    kind.mkdir(parents=True)
    (kind / "default.toml").write_text('subject = "Bye"\n')
    (kind / "default.txt").write_text("Bye.")
    Path("mailroom.toml").write_text(f'templates = "mine"\n{Path("mailroom.toml").read_text()}')
    assert operator.run("send", "ada@example.com", "--template", "Farewell").exit_code == 0
    assert server.requests[0][2]["type"] == "Farewell"


def test_an_invitation_has_a_link(operator: Operator, outbox: FakeOutbox, server: Server) -> None:
    """Without one the server would hold it."""
    outbox.records = [record("0192-1")]
    assert operator.run("send", "ada@example.com", "--template", "OrganizationInvitation").exit_code == 0
    assert set(server.requests[0][2]["payload"]) == {"link"}
