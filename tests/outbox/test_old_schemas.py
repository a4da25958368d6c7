"""Tests that databases of earlier versions can be used (`make_database.py` wrote them)."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mailroom.message import Attempt, Outcome, State
from mailroom.outbox import (
    HELD_EXHAUSTED,
    HELD_LINK,
    HELD_MISCONFIGURED,
    HELD_REFUSED,
    HELD_RENDERING,
    DedupKey,
    Record,
)
from mailroom.outbox.sqlite.engine import SqliteOutbox
from tests.clock import START, FakeClock
from tests.outbox.contract import claim, message
from tests.outbox.make_database import BODY, CODE, DAY, RAW, SECRET, SETTLED, WEBHOOK, WELCOME, address, fill

FILES = sorted(Path(__file__).parent.glob("schema-*.db"))
SETTLED_STATES = {one for one in State if one.settled}


@pytest.fixture(params=[*FILES, None], ids=lambda file: file.stem if file else "today")
async def outbox(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SqliteOutbox]:
    """Open each file 20 s after the process that wrote it was killed; and a file of the current version."""
    path = tmp_path / "mailroom.db"
    if request.param:
        shutil.copy(request.param, path)
    else:
        writing = await SqliteOutbox.open(path, secret_keys=[SECRET], clock=FakeClock(), wait_seconds=0)
        await fill(writing)
        await writing.close()
    outbox = await SqliteOutbox.open(
        path, secret_keys=["a new key", SECRET], clock=FakeClock(START + 20), wait_seconds=0
    )
    yield outbox
    await outbox.close()


async def records(outbox: SqliteOutbox) -> dict[str, Record]:
    """Return the records in the file, by recipient."""
    return {record.recipient: record for record in await outbox.find(limit=100)}


def test_each_schema_since_2_has_a_database_file() -> None:
    """A new schema needs a new file: `python -m tests.outbox.make_database`."""
    steps = (Path(__file__).parents[2] / "mailroom" / "outbox" / "sqlite" / "schema").glob("sqlite-*.sql")
    schemas = {int(step.stem.removeprefix("sqlite-")) for step in steps} - {1}
    assert {int(file.stem.removeprefix("schema-")) for file in FILES} == schemas


async def test_messages_of_every_state_are_read(outbox: SqliteOutbox) -> None:
    """With attempts, reasons and ids; leased messages, and those held until a restart, are queued."""
    found = await records(outbox)
    for name, settlement in SETTLED.items():
        record = found.pop(address(name))
        restarted = settlement.reason in {HELD_MISCONFIGURED, HELD_REFUSED, HELD_RENDERING}
        assert record.state is (State.QUEUED if restarted else settlement.state), name
        assert record.reason == ("" if restarted else settlement.reason)
        assert record.attempts == settlement.attempts
        assert record.provider_message_id == settlement.provider_message_id
        assert (record.settled_at is not None) is settlement.state.settled
        assert record.languages == ("fr-CA", "fr")
        assert record.payload["application"] == CODE["application"]
        assert record.payload["code"] != CODE["code"]
    states = {recipient: record.state for recipient, record in found.items()}
    assert states == {address(name): State.QUEUED for name in ("queued", "sending", "invited", "welcomed")} | {
        address("expired"): State.EXPIRED
    }
    assert found[address("sending")].attempts == (Attempt("main", START),)
    assert {record.state for record in (await records(outbox)).values()} >= SETTLED_STATES
    assert await outbox.held() == {HELD_EXHAUSTED: 1, HELD_LINK: 1}


async def test_waiting_messages_can_be_claimed(outbox: SqliteOutbox) -> None:
    """Codes first; each payload is as it was put."""
    claimed = await claim(outbox, START + 40)
    recipients = [one.message.recipient for one in claimed.leased]
    codes = ("queued", "sending", "retried", "held for misconfiguration", "held, refused", "held for its template")
    assert set(recipients[:6]) == {address(name) for name in codes}
    assert recipients[6:] == [address("invited"), address("welcomed")]
    for one in claimed.leased[:6]:
        assert one.message.payload == CODE
        assert one.message.ip == "203.0.113.9"
        assert one.message.created_at == START
    assert claimed.leased[6].message.payload["link"].startswith("https://acme.example/accept")
    assert await outbox.release(HELD_EXHAUSTED, now=START + 40) == 1
    (held,) = (await claim(outbox, START + 41)).leased
    assert held.message.payload == CODE
    assert held.attempts[0].outcome is Outcome.UNCERTAIN


async def test_repeats_are_recognized(outbox: SqliteOutbox) -> None:
    """A body for a minute, a webhook for a week, a welcome for ever."""
    found = await records(outbox)
    again = await outbox.put(message(START + 20), repeat_of=BODY)
    assert (again.id, again.fresh) == (found[address("queued")].id, False)
    for what, at, fresh in ((WEBHOOK, 6 * DAY, False), (WEBHOOK, 8 * DAY, True), (WELCOME, 9999 * DAY, False)):
        kept = await outbox.put(message(START + at), once=[DedupKey(what)])
        assert kept.fresh is fresh
        assert fresh or kept.id == found[address("welcomed")].id


async def test_messages_are_found_by_recipient_and_captured_mails_are_read(outbox: SqliteOutbox) -> None:
    """Indexed or not yet."""
    for name in ("queued", "cancelled"):
        (record,) = await outbox.find(recipient=address(name).title())
        assert record.recipient == address(name)
        assert await outbox.languages(address(name)) == ("fr-CA", "fr")
    (mail,) = await outbox.captured.newest(10)
    assert (mail.recipient, mail.subject, mail.size) == (address("captured"), "314159 is your code", len(RAW))
    assert await outbox.captured.raw(mail.id) == RAW


async def test_secrets_are_read(outbox: SqliteOutbox, request: pytest.FixtureRequest) -> None:
    """Since schema 4; in older files there are none, and they can be stored."""
    has_secrets = "schema-2" not in request.node.name and "schema-3" not in request.node.name
    assert await outbox.secrets.get("main token") == ("the next consent" if has_secrets else None)
    await outbox.secrets.put("main token", "another")
    assert await outbox.secrets.get("main token") == "another"


async def test_messages_can_be_indexed_expired_and_purged(outbox: SqliteOutbox) -> None:
    """Until no message is left."""
    assert await outbox.index(limit=100)
    assert await outbox.expire(now=START + 31 * 365 * DAY, limit=100)
    assert await outbox.purge(before=START + 1, now=START + 31 * 365 * DAY, limit=100)
    assert await outbox.find(limit=100) == []
