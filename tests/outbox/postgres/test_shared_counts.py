"""Counts over all processes: sums, and how many of a limit may be taken."""

import asyncio
from random import Random

import pytest

from mailroom.courier.channels.rates import RollingLimit
from mailroom.errors import CannotKeep
from mailroom.outbox.postgres.postgres_engine import PostgresOutbox
from mailroom.outbox.shared import SharedCounts, Slice
from mailroom.providers import Rate
from tests.clock import START, FakeClock
from tests.outbox.postgres.conftest import Open
from tests.postgres_server import PostgresServer

NUMBER = 1_790_000


def counts_of(outbox: PostgresOutbox) -> SharedCounts:
    assert outbox.shared
    return outbox.shared.counts


@pytest.fixture
async def both(open_outbox: Open) -> list[SharedCounts]:
    """Return the counts of two processes."""
    return [counts_of(await open_outbox()) for _ in range(2)]


async def test_each_process_gets_the_sums_of_all(both: list[SharedCounts]) -> None:
    one, other = both
    first, second = Slice("quota:main", NUMBER), Slice("quota:main", NUMBER + 1)
    assert await one.add({first: 3}, until=START + 60) == {first: 3}
    assert await other.add({first: 4, second: 0}, until=START + 60) == {first: 7, second: 0}
    assert await one.add({first: 0, second: 2}, until=START + 60) == {first: 7, second: 2}
    assert await other.add({Slice("quota:backup", NUMBER): 0}, until=START + 60) == {Slice("quota:backup", NUMBER): 0}
    assert await one.add({}, until=START + 60) == {}


async def test_nothing_is_lost_when_processes_add_at_the_same_time(both: list[SharedCounts]) -> None:
    """Each in another order: whoever locks one row waits for no other one's."""
    slices = [Slice(f"limits.ip:203.0.113.{number}", NUMBER) for number in range(50)]
    for _ in range(5):
        await asyncio.gather(
            both[0].add(dict.fromkeys(slices, 1), until=START + 60),
            both[1].add(dict.fromkeys(reversed(slices), 1), until=START + 60),
        )
    assert await both[0].add(dict.fromkeys(slices, 0), until=START + 60) == dict.fromkeys(slices, 10)


async def test_what_is_counted_is_not_in_the_database(both: list[SharedCounts], postgres: PostgresServer) -> None:
    """It may be an address."""
    await both[0].add({Slice("limits.ip:203.0.113.7", NUMBER): 1}, until=START + 60)
    await both[0].take("rate:main", 1, limit=5, seconds=1)
    stored = await asyncio.to_thread(postgres.psql, "SELECT what FROM mailroom.counts")
    assert len(stored.split()) == 2
    assert "203.0" not in stored
    assert "main" not in stored


async def test_counts_are_deleted_when_they_have_ended(open_outbox: Open, postgres: PostgresServer) -> None:
    outbox = await open_outbox()
    counts = counts_of(outbox)
    await counts.add({Slice("a", number): 1 for number in range(5)}, until=START + 60)
    await counts.add({Slice("b", 1): 1}, until=START + 61)
    assert await outbox.purge(before=START, now=START + 59, limit=3) == 0
    assert await outbox.purge(before=START, now=START + 60, limit=3) == 3
    assert await outbox.purge(before=START, now=START + 60, limit=3) == 2
    assert await asyncio.to_thread(postgres.psql, "SELECT count(*) FROM mailroom.counts") == "1\n"


async def test_a_limit_holds_for_all_processes_together(both: list[SharedCounts], clock: FakeClock) -> None:
    one, other = both
    assert await one.take("rate:main", 10, limit=14, seconds=1) == (10, START)
    taken, ready_at = await other.take("rate:main", 10, limit=14, seconds=1)
    assert taken == 4
    assert START + 1 <= ready_at <= START + 1 + 1 / 48
    assert await one.take("rate:main", 1, limit=14, seconds=1) == (0, ready_at)
    assert await one.take("rate:backup", 1, limit=14, seconds=1) == (1, START)
    await clock.advance(ready_at - START + 0.001)
    assert (await one.take("rate:main", 20, limit=14, seconds=1))[0] == 14


@pytest.mark.parametrize(("limit", "seconds"), [(14, 1.0), (5, 60.0), (300, 3600.0)])
async def test_no_window_has_more_than_the_limit(
    both: list[SharedCounts], clock: FakeClock, limit: int, seconds: float
) -> None:
    """As in one process, whose `RollingLimit` says what may be taken, and from when on there is more."""
    random, alone = Random(7), RollingLimit(Rate(limit, seconds))
    taken: list[tuple[float, int]] = []
    for _ in range(150):
        wanted, now = random.randrange(1, limit), clock.now()
        expected = min(wanted, alone.left(now))
        alone.add(now, expected)
        number, ready_at = await random.choice(both).take("rate:main", wanted, limit=limit, seconds=seconds)
        assert number == expected
        assert ready_at == pytest.approx(alone.ready_at(now))
        taken.append((now, number))
        for end, _ in taken:
            assert sum(count for at, count in taken if end - seconds < at <= end) <= limit
        await clock.advance(random.choice([0.0, seconds / 200, seconds / 3, ready_at - now]))


async def test_processes_that_take_at_the_same_time_do_not_exceed_the_limit(both: list[SharedCounts]) -> None:
    taken = await asyncio.gather(*(both[one % 2].take("rate:main", 3, limit=20, seconds=60) for one in range(12)))
    assert sum(number for number, _ in taken) == 20


async def test_what_was_taken_before_the_clock_was_set_back_does_not_count(
    both: list[SharedCounts], clock: FakeClock
) -> None:
    await both[0].take("rate:main", 5, limit=5, seconds=1)
    clock.set(START - 3600)
    assert (await both[1].take("rate:main", 5, limit=5, seconds=1))[0] == 5


async def test_a_database_that_is_away_is_told_as_such(open_outbox: Open, postgres: PostgresServer) -> None:
    counts = counts_of(await open_outbox())
    await asyncio.to_thread(postgres.psql, "ALTER TABLE mailroom.counts RENAME TO elsewhere")
    with pytest.raises(CannotKeep):
        await counts.add({Slice("a", 1): 1}, until=START)
    with pytest.raises(CannotKeep):
        await counts.take("a", 1, limit=1, seconds=1)
