"""`mailroom outbox list|find|show`."""

import dataclasses
import json
import re
import time

import click
import pytest

from mailroom.errors import OutboxError
from mailroom.message import Outcome, State
from mailroom.outbox import AttemptSummary
from tests.cli.conftest import FakeOutbox, Operator, Server, record


def ids(output: str) -> list[str]:
    """Return the ids of a `--json` list."""
    return [row["id"] for row in json.loads(output)]


def test_messages_are_listed_newest_first_in_pages(operator: Operator, outbox: FakeOutbox) -> None:
    outbox.records = [record(f"0192-{number}") for number in range(5)]
    first = ids(operator.run("outbox", "list", "--limit", "3", "--json").output)
    assert first == ["0192-4", "0192-3", "0192-2"]
    assert ids(operator.run("outbox", "list", "--before", first[-1], "--json").output) == ["0192-1", "0192-0"]
    assert outbox.closed == 2


def test_a_list_that_is_limited_says_so(operator: Operator, outbox: FakeOutbox) -> None:
    outbox.records = [record(f"0192-{number}") for number in range(3)]
    assert "There may be older ones: --before 0192-1\n" in operator.run("outbox", "list", "--limit", "2").output
    assert "There may be older ones" not in operator.run("outbox", "list").output


def test_messages_can_be_listed_by_state(operator: Operator, outbox: FakeOutbox) -> None:
    outbox.records = [record("0192-1"), record("0192-2", State.HELD)]
    assert ids(operator.run("outbox", "list", "--state", "held", "--json").output) == ["0192-2"]
    assert operator.run("outbox", "list", "--state", "lost").exit_code == 2


LONG = dataclasses.replace(
    record("01a218d5-5c65-7000-8000-000000000001", State.SUPPRESSED, recipient="a" * 64 + "@example.com"),
    template="OrganizationInvitation",
    reason="its lifetime ended while it was held: " + "r" * 40,
)


def test_each_message_is_one_line_if_the_output_is_no_terminal(operator: Operator, outbox: FakeOutbox) -> None:
    outbox.records = [LONG]
    _, line = operator.run("outbox", "list").output.splitlines()
    assert re.match(
        r"01a218d5-5c65  11-1\d \d\d:\d\d:20  suppressed  1      OrganizationInvitation to a{64}@example.com", line
    )
    assert line.rstrip().endswith(LONG.reason)


def test_a_list_is_complete_at_80_columns(operator: Operator, outbox: FakeOutbox, terminal: None) -> None:
    """What is too long is continued below, in its column."""
    outbox.records = [LONG, record("01a218d5-5c66-7000-8000-000000000002")]
    lines = click.unstyle(operator.run("outbox", "list").output).splitlines()
    assert max(map(len, lines)) <= 80
    assert "01a218d5-5c66  11-1" in lines[1]
    assert lines[1].rstrip().endswith("sent        1      SignIn to ada@example.com")
    message = " ".join(line[50:].strip() for line in lines[2:])
    assert message.replace(" ", "") == f"{LONG.template}to{LONG.recipient}:{LONG.reason}".replace(" ", "")
    assert not [line for line in lines[3:] if line[:50].strip()]


def test_lists_and_messages_show_what_is_paused(operator: Operator, outbox: FakeOutbox) -> None:
    outbox.records = [record("01a218d5-5c65-7000-8000-000000000001")]
    outbox.paused_since = {"main": 1_700_000_000.0}
    for words in ("list", "show 01a218d5"):
        assert "main is paused since 11-1" in operator.run("outbox", *words.split()).output


def test_an_id_may_be_shortened(operator: Operator, outbox: FakeOutbox) -> None:
    """Also the one at which the last page ended."""
    outbox.records = [record(f"01a218d5-5c6{number}-7000-8000-000000000001") for number in range(3)]
    shown = operator.run("outbox", "show", "01a218d5-5c61", "--json").output
    assert json.loads(shown)["id"] == outbox.records[1].id
    assert ids(operator.run("outbox", "list", "--before", "01a218d5-5c61", "--json").output) == [outbox.records[0].id]
    result = operator.run("outbox", "list", "--before", "01a218d6")
    assert (result.exit_code, "there is no message 01a218d6" in result.output) == (1, True)


def test_find_lists_one_recipients_messages_and_fails_if_there_are_none(operator: Operator, outbox: FakeOutbox) -> None:
    outbox.records = [record("0192-1"), record("0192-2", recipient="bob@example.com")]
    assert ids(operator.run("outbox", "find", "bob@example.com", "--json").output) == ["0192-2"]
    result = operator.run("outbox", "find", "eve@example.com", "--json")
    assert (result.exit_code, json.loads(result.output)) == (1, [])


BIDI = "\u202e\u2066\u200f"
HOSTILE = f"\x1b[2J\x07\x7f\x9b31m{BIDI}\r\nFAKE LINE\u2028[red]ok[/red] :smile: [link=https://evil.example]x[/link]"


def test_foreign_text_is_escaped(operator: Operator, outbox: FakeOutbox) -> None:
    """In names, diagnostics, addresses, payloads: control characters and line breaks are escaped, markup stays text."""
    outbox.records = [
        dataclasses.replace(
            record("0192-1", recipient=f"{HOSTILE}@example.com", diagnostic=HOSTILE),
            template=HOSTILE,
            reason=HOSTILE,
            provider_message_id=HOSTILE,
            languages=(HOSTILE,),
            payload={HOSTILE: HOSTILE, "user": {"name": HOSTILE}},
        )
    ]
    outbox.held_counts = {HOSTILE: 1}
    outbox.attempts = [AttemptSummary("main", Outcome.REJECTED, 1, time.time(), HOSTILE)]
    outbox.paused_since = {HOSTILE: 1.0}
    for command in ("outbox show 0192-1", "outbox list", "status", "providers"):
        for json_option in ((), ("--json",)):
            result = operator.run(*command.split(), *json_option)
            assert result.exit_code == (command == "status"), "no server runs"
            assert [char for char in result.output if not char.isprintable() and char != "\n"] == []
            assert not any(line.lstrip().startswith("FAKE") for line in result.output.splitlines())
            assert "[red]ok[/red] :smile: [link=https://evil.example]x[/link]" in result.output
    report = json.loads(operator.run("outbox", "show", "0192-1", "--json").output)
    assert report["payload"] == {HOSTILE: HOSTILE, "user": {"name": HOSTILE}}, "the same JSON, written in ASCII"


def test_foreign_text_in_an_error_is_escaped(operator: Operator, server: Server) -> None:
    """Any server may listen at that address."""
    server.status, server.body = 400, HOSTILE.encode()
    result = operator.run("send", "ada@example.com")
    assert result.exit_code == 1
    assert result.output.endswith("\n")
    assert result.output[:-1].isprintable()


def test_show_prints_attempts_and_no_secrets(operator: Operator, outbox: FakeOutbox) -> None:
    outbox.records = [record("0192-1", diagnostic="250 \x1b]0;owned\x07 [red]ok[/red]")]
    shown = operator.run("outbox", "show", "0192-1").output
    assert "\\x1b]0;owned\\x07 [red]ok[/red]" in shown
    assert "\x1b]" not in shown
    assert '"code": "•••"' in shown
    report = json.loads(operator.run("outbox", "show", "0192-1", "--json").output)
    assert report["attempts"] == [
        {
            "provider": "main",
            "started_at": "2023-11-14T22:13:20Z",
            "duration_seconds": 0.25,
            "outcome": "accepted",
            "diagnostic": "250 \x1b]0;owned\x07 [red]ok[/red]",
        }
    ]
    assert (report["state"], report["languages"], report["due_at"]) == ("sent", ["fr-CA"], None)


def test_showing_an_unknown_message_fails(operator: Operator) -> None:
    result = operator.run("outbox", "show", "0192-1")
    assert result.exit_code == 1
    assert "there is no message 0192-1" in result.output


def test_an_outbox_that_cannot_be_opened_is_reported(
    operator: Operator, outbox: FakeOutbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def resolve(_id: str) -> None:
        raise OutboxError("the outbox cannot be read: it is not there")

    monkeypatch.setattr(outbox, "resolve", resolve)
    result = operator.run("outbox", "show", "0192-1")
    assert result.exit_code == 1
    assert result.output == "Error: data/mailroom.db: the outbox cannot be read: it is not there\n"
    assert outbox.closed == 1
