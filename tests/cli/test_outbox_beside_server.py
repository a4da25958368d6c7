"""Commands while a server runs, which has the outbox open for writing and holds its lock."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from click.testing import CliRunner, Result

from mailroom.cli.context import mailroom
from mailroom.clock import SystemClock
from mailroom.message import Message, Priority, new_id
from mailroom.outbox.sqlite.engine import SqliteOutbox

KEY = "0123456789012345678901234567890123456789"


@contextmanager
def served(messages: int) -> Iterator[list[str]]:
    """Store messages as the server does, and leave the outbox open."""
    clock = SystemClock()
    ids = [new_id(clock.now() + number, bytes(10)) for number in range(messages)]

    async def keep() -> SqliteOutbox:
        outbox = await SqliteOutbox.open(Path("data/mailroom.db"), secret_keys=[KEY], clock=clock)
        now = clock.now()
        for id_ in ids:
            payload = {"code": "271828", "locale": "fr-CA"}
            await outbox.put(Message(id_, "SignIn", Priority.CODE, "ada@example.com", payload, now, now + 600))
        return outbox

    with asyncio.Runner() as runner:
        outbox = runner.run(keep())
        try:
            yield ids
        finally:
            runner.run(outbox.close())


def run(*words: str) -> Result:
    """Run a command with the real outbox."""
    return CliRunner().invoke(mailroom, words)


def test_messages_can_be_read_while_the_server_runs() -> None:
    with served(2) as (older, newer):
        listed = json.loads(run("outbox", "list", "--json").output)
        found = json.loads(run("outbox", "find", "Ada@EXAMPLE.com", "--json").output)
        shown = run("outbox", "show", older)
        status = json.loads(run("status", "--json").output)
    assert [row["id"] for row in listed] == [newer, older]
    assert found == listed
    assert older in shown.output
    assert "ada@example.com" in shown.output
    assert "fr-CA" in shown.output
    assert "271828" not in shown.output + str(listed)
    assert status["waiting"]["code"]["messages"] == 2


def test_a_wrong_secret_key_is_reported() -> None:
    with served(1):
        Path("mailroom.toml").write_text(Path("mailroom.toml").read_text().replace(KEY, "another" * 5))
        result = run("outbox", "list")
    assert result.exit_code == 1
    assert result.output.startswith("Error: data/mailroom.db: ")
    assert "secret_key" in result.output


def test_a_missing_outbox_is_reported() -> None:
    result = run("status")
    assert result.exit_code == 1
    assert result.output.startswith("Error: data/mailroom.db: ")
    assert not Path("data").exists(), "reading creates no files"


def test_providers_are_listed_without_an_outbox() -> None:
    result = run("providers")
    assert result.exit_code == 0
    assert "Their state is not known: " in result.output
