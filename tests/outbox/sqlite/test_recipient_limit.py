"""How SQLite's outbox applies the recipient's limit: fast where it is not reached, exact where it may be."""

import asyncio
import os
import re
from collections import Counter
from random import Random
from typing import Any

import apsw
import pytest

from mailroom.errors import LimitExceeded
from mailroom.message import State
from mailroom.outbox import Lease, Settlement
from mailroom.outbox.limits import RateLimit
from mailroom.outbox.sqlite import recipient_limit
from mailroom.outbox.sqlite.engine import SqliteOutbox
from mailroom.outbox.sqlite.recipient_limit import RecipientCounts
from tests.clock import START, FakeClock
from tests.outbox.contract import message
from tests.outbox.sqlite.conftest import Open

_LIMIT = RateLimit(5, 600)


def statements_of(outbox: SqliteOutbox) -> list[str]:
    """Return a list that will have the SQL of every statement that the writer executes."""
    writing = outbox._writer._files.connection
    assert writing is not None
    statements: list[str] = []

    def traced(cursor: Any, sql: str, bindings: Any) -> bool:
        statements.append(sql.strip())
        return True

    writing.exec_trace = traced
    return statements


async def test_below_the_limit_nothing_is_read(open_outbox: Open) -> None:
    """Not for a thousand recipients, of whom each has nearly as many codes as are allowed."""
    outbox = await open_outbox(recipient_limit=_LIMIT)
    statements = statements_of(outbox)
    for _ in range(4):
        await asyncio.gather(*(outbox.put(message(recipient=f"user{i}@example.com")) for i in range(1000)))
    assert {sql.split()[0] for sql in statements} == {"BEGIN", "INSERT", "COMMIT"}


async def test_with_full_counters_the_limit_is_still_exact(
    open_outbox: Open,
    clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All recipients share the counters, so each is counted by SQL: none is refused by mistake, and none gets more."""
    monkeypatch.setattr(recipient_limit, "_WIDTH", 1)
    outbox = await open_outbox(recipient_limit=_LIMIT)
    chance = Random(3)
    stored: list[tuple[float, str]] = []
    for step in range(400):
        clock.set(START + 5 * step)
        recipient = f"user{int(chance.paretovariate(1)) % 20}@example.com"
        recent = sum(1 for at, who in stored if who == recipient and at > clock.now() - 600)
        try:
            await outbox.put(message(clock.now(), recipient=recipient))
        except LimitExceeded:
            assert recent == _LIMIT.count
        else:
            assert recent < _LIMIT.count
            stored.append((clock.now(), recipient))


def test_the_counters_are_never_too_low() -> None:
    """At random, with so few counters that they are shared by many, over several windows."""
    chance = Random(4)
    keys = [os.urandom(16) for _ in range(300)]
    for _ in range(3):
        counts, events, now = RecipientCounts(100), list[tuple[float, bytes]](), 1000.0
        for _ in range(3000):
            now += chance.expovariate(10)
            key = keys[int(chance.paretovariate(0.7)) % len(keys)]
            counts.add(key, now)
            events.append((now, key))
        exact = Counter(key for at, key in events if at > now - 100)
        assert all(not counts.add(key, now, below=number) for key, number in exact.items())


def test_the_counters_are_nearly_exact() -> None:
    """With 200,000 recipients hardly any has to be counted by SQL."""
    counts = RecipientCounts(600)
    for _ in range(200_000):
        counts.add(os.urandom(16), 1000.0)
    doubtful = sum(not counts.add(os.urandom(16), 1000.0, below=10) for _ in range(1000))
    assert doubtful < 10


@pytest.mark.parametrize("sql", ["_OLDEST_COUNTED", "_RECENT"])
async def test_counting_does_not_read_the_whole_table(open_outbox: Open, sql: str) -> None:
    """Only the recipient's latest messages, and those that are not indexed yet."""
    outbox = await open_outbox()
    text = getattr(recipient_limit, sql)

    def plan(connection: apsw.Connection, arguments: Any) -> list[str]:
        rows = connection.execute(
            f"EXPLAIN QUERY PLAN {text}", (None,) * len(set(re.findall(r"\?\d", text)))
        ).fetchall()
        return ["\n".join(str(row[3]) for row in rows)]

    found = await outbox._writer.run(plan, None)
    assert "SCAN messages" not in found
    assert ("SEARCH recipients USING PRIMARY KEY (recipient_key=? AND number>?)" in found) is (sql == "_OLDEST_COUNTED")


async def test_a_refused_code_indexes_what_was_not_indexed(open_outbox: Open) -> None:
    """So that further ones are refused quickly, however much was stored lately."""
    outbox = await open_outbox(recipient_limit=_LIMIT)
    await asyncio.gather(*(outbox.put(message(recipient=f"user{i}@example.com")) for i in range(300)))
    for _ in range(5):
        await outbox.put(message())
    with pytest.raises(LimitExceeded):
        await outbox.put(message())
    assert await outbox.index(limit=1000) == 0


async def test_a_clock_that_was_set_back_locks_nobody_out(open_outbox: Open, clock: FakeClock) -> None:
    """Codes with a time in the future, from before a restart, do not count until then."""
    before = await open_outbox(recipient_limit=_LIMIT)
    for _ in range(5):
        one = message()
        await before.put(one, lease=Lease("main", 300))
        await before.settle(Settlement(one.id, State.SENT, ()))
    await before.close()
    clock.set(START - 86400)
    after = await open_outbox(recipient_limit=_LIMIT)
    assert (await after.put(message(START - 86400))).fresh
