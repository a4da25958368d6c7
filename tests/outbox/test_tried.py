"""Tests of counting attempts by provider and outcome."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mailroom.message import Attempt, Outcome, Priority, State
from mailroom.outbox import AttemptSummary, Lease, Settlement
from mailroom.outbox.sqlite.engine import SqliteOutbox
from mailroom.outbox.sqlite.operator import open_for_operator
from mailroom.outbox.sqlite.queries import SqliteRecords
from tests.clock import START, FakeClock
from tests.outbox.contract import message

SECRET = "a-secret-key-of-the-tests"
HOUR = 3600.0


@pytest.fixture
async def outbox(tmp_path: Path) -> AsyncIterator[SqliteOutbox]:
    outbox = await SqliteOutbox.open(tmp_path / "mailroom.db", secret_keys=[SECRET], clock=FakeClock(), wait_seconds=0)
    yield outbox
    await outbox.close()


@pytest.fixture
async def records(outbox: SqliteOutbox, tmp_path: Path) -> AsyncIterator[SqliteRecords]:
    records = await open_for_operator(tmp_path / "mailroom.db", secret_keys=[SECRET])
    yield records
    await records.close()


async def put_and_settle(outbox: SqliteOutbox, at: float, *attempts: Attempt, state: State = State.SENT) -> None:
    """Put a message that was accepted at this moment, and settle it with these attempts."""
    one = message(at, lifetime=7 * 24 * HOUR)
    await outbox.put(one, lease=Lease("main", 300))
    due_at = None if state.settled else at + 600
    assert (await outbox.settle(Settlement(one.id, state, attempts, due_at=due_at))).is_recorded


async def test_attempts_are_counted_by_provider_and_outcome(outbox: SqliteOutbox, records: SqliteRecords) -> None:
    """With the last one's diagnostic."""
    await put_and_settle(outbox, START, Attempt("main", START, 0.1, Outcome.ACCEPTED, "first"))
    await put_and_settle(
        outbox,
        START + 10,
        Attempt("main", START + 10, 0.1, Outcome.UNAVAILABLE, "451 later"),
        Attempt("backup", START + 11, 0.1, Outcome.ACCEPTED, "250 ok"),
    )
    await put_and_settle(outbox, START + 20, Attempt("main", START + 20, 0.1, Outcome.ACCEPTED, "last"))
    await put_and_settle(outbox, START + 30, Attempt("main", START + 25))
    assert await records.tried(since=START, accepted=START - 24 * HOUR) == [
        AttemptSummary("main", None, 1, START + 25, ""),
        AttemptSummary("main", Outcome.ACCEPTED, 2, START + 20, "last"),
        AttemptSummary("backup", Outcome.ACCEPTED, 1, START + 11, "250 ok"),
        AttemptSummary("main", Outcome.UNAVAILABLE, 1, START + 10, "451 later"),
    ]


async def test_attempts_before_since_are_not_counted(outbox: SqliteOutbox, records: SqliteRecords) -> None:
    await put_and_settle(
        outbox,
        START,
        Attempt("main", START, 0.1, Outcome.UNAVAILABLE, "451"),
        Attempt("main", START + HOUR, 0.1, Outcome.ACCEPTED, "250"),
    )
    assert await records.tried(since=START + 1, accepted=START) == [
        AttemptSummary("main", Outcome.ACCEPTED, 1, START + HOUR, "250")
    ]


async def test_an_older_message_counts_while_it_is_not_settled(outbox: SqliteOutbox, records: SqliteRecords) -> None:
    """An invitation that is retried for days counts; an old settled message does not."""
    late = START + 48 * HOUR
    again = Attempt("main", late, 0.1, Outcome.UNAVAILABLE, "451 later")
    await put_and_settle(outbox, START, again, state=State.QUEUED)
    await put_and_settle(outbox, START, Attempt("main", late, 0.1, Outcome.ACCEPTED, "250"))
    assert await records.tried(since=late, accepted=late - 24 * HOUR) == [
        AttemptSummary("main", Outcome.UNAVAILABLE, 1, late, "451 later")
    ]


async def test_attempts_of_a_priority_and_of_the_newest_messages_are_counted(
    outbox: SqliteOutbox, records: SqliteRecords
) -> None:
    """The limit holds for the messages since `accepted`, and once more for older ones that are not settled."""
    for number in range(3):
        at = START + number
        await put_and_settle(outbox, at, Attempt("main", at, 0.1, Outcome.UNAVAILABLE), state=State.QUEUED)
    for since, accepted, limit, count in ((START, START, 2, 2), (START, START + 3, 2, 2), (START, START + 2, 1, 2)):
        rows = await records.tried(since=since, accepted=accepted, limit=limit)
        assert [row.count for row in rows] == [count]
    assert (await records.tried(since=START, accepted=START, limit=1))[0].last_at == START + 2
    counts = [await records.tried(since=START, accepted=START, priority=one) for one in Priority]
    assert [[row.count for row in rows] for rows in counts] == [[3], [], []]


async def test_counting_attempts_does_not_read_the_whole_table(outbox: SqliteOutbox, records: SqliteRecords) -> None:
    from mailroom.outbox.sqlite import queries  # noqa: PLC0415 - by name

    plan = await records._reader.rows(f"EXPLAIN QUERY PLAN {queries._TRIED}", ("", -1, 0.0, None))
    steps = "\n".join(str(row[3]) for row in plan)
    assert "SCAN messages\n" not in steps + "\n", steps
    assert "sqlite_autoindex_messages_1 (id>?)" in steps
    assert "USING INDEX messages_due" in steps
