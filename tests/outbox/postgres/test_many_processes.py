"""Several processes, each with an outbox of its own, share one database."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from mailroom.clock import SystemClock
from mailroom.errors import CannotKeep, LimitExceeded, OutboxError
from mailroom.message import State
from mailroom.outbox import HELD_OPERATOR, DedupKey, Lease, Settlement
from mailroom.outbox.limits import RateLimit
from mailroom.outbox.postgres import claims
from mailroom.outbox.postgres.database_pool import Connection
from mailroom.outbox.postgres.leases import ALIVE_SECONDS
from mailroom.outbox.postgres.postgres_engine import PostgresOutbox
from mailroom.outbox.postgres.postgres_operator import PostgresOperator, open_operator
from tests.clock import START, FakeClock
from tests.outbox.contract import claim, claim_one, message, up_to
from tests.outbox.limits_contract import event, put_all
from tests.outbox.postgres.conftest import SECRET, Open
from tests.outbox.postgres.reads import wait_for_locks
from tests.postgres_server import PostgresServer


async def _stop(outbox: PostgresOutbox) -> None:
    """Let it prolong its leases no more, as a process that is killed, stopped or cut off."""
    assert outbox._leases._task
    outbox._leases._task.cancel()
    await asyncio.wait((outbox._leases._task,))


# Claims and leases


async def test_concurrent_claims_of_several_processes_return_different_messages(open_outbox: Open) -> None:
    outboxes = [await open_outbox() for _ in range(4)]
    wanted = [message() for _ in range(200)]
    await put_all(outboxes[0], wanted)
    claims = await asyncio.gather(*(one.claim([up_to(30)], lease_seconds=300) for one in outboxes for _ in range(4)))
    ids = [leased.message.id for result in claims for leased in result.leased]
    assert sorted(ids) == sorted(one.id for one in wanted)


async def test_leases_of_a_dead_process_end(open_outbox: Open, clock: FakeClock) -> None:
    """Seconds after its last sign of life, not after the lease's 300; the living keep theirs."""
    dead, alive, other = await open_outbox(), await open_outbox(), await open_outbox()
    lost, kept = message(), message()
    await dead.put(lost, lease=Lease("main", 300))
    await alive.put(kept, lease=Lease("main", 300))
    await _stop(dead)
    for seconds in range(1, int(ALIVE_SECONDS) + 1):
        clock.set(START + seconds)
        await alive._leases.beat()
        await other._leases.beat()
        assert (await claim(other, START + seconds)).leased == ()
    clock.set(START + ALIVE_SECONDS + 1)
    await alive._leases.beat()
    assert [one.message.id for one in (await claim(other, clock.now())).leased] == [lost.id]


async def test_a_process_that_returns_and_dies_leaves_no_lease_behind(open_outbox: Open, clock: FakeClock) -> None:
    """It was taken for dead; what it leases before its next beat is ended as soon as what it leased before."""
    returning, other = await open_outbox(), await open_outbox()
    await _stop(returning)
    for seconds in range(1, int(ALIVE_SECONDS) + 2):
        clock.set(START + seconds)
        await other._leases.beat()
    claimed, born = message(clock.now()), message(clock.now())
    await other.put(claimed)
    await claim_one(returning, clock.now())
    await returning.put(born, lease=Lease("main", 300))
    for _ in range(int(ALIVE_SECONDS) + 2):
        clock.set(clock.now() + 1)
        await other._leases.beat()
    assert {one.message.id for one in (await claim(other, clock.now())).leased} == {claimed.id, born.id}


async def test_a_process_that_was_cut_off_settles_nothing_that_was_taken_from_it(
    open_outbox: Open, clock: FakeClock
) -> None:
    """Nor begins an attempt; what it accepts after its return is its own again."""
    cut_off, other = await open_outbox(), await open_outbox()
    one = message()
    await cut_off.put(one, lease=Lease("main", 300))
    await _stop(cut_off)
    for seconds in (5, 10):
        clock.set(START + seconds)
        await other._leases.beat()
    leased = await claim_one(other, clock.now())
    assert not await cut_off.attempt(one.id, ())
    assert not (await cut_off.settle(Settlement(one.id, State.SENT, ()))).is_recorded
    assert (await other.settle(Settlement(one.id, State.SENT, leased.attempts))).is_recorded
    await cut_off._leases.beat()
    new = message(clock.now())
    await cut_off.put(new, lease=Lease("main", 300))
    assert (await cut_off.settle(Settlement(new.id, State.SENT, ()))).is_recorded


async def test_after_an_outage_of_the_database_nobody_loses_leases(open_outbox: Open, clock: FakeClock) -> None:
    """Everybody has missed beats: the first to return is not to end the leases of the others."""
    first, second = await open_outbox(), await open_outbox()
    one = message()
    await second.put(one, lease=Lease("main", 300))
    clock.set(START + 60)
    await first._leases.beat()
    await second._leases.beat()
    await first._leases.beat()
    assert (await second.settle(Settlement(one.id, State.SENT, ()))).is_recorded


async def test_closing_ends_the_leases_at_once(open_outbox: Open) -> None:
    """A restart costs no message its time."""
    first, second = await open_outbox(), await open_outbox()
    one = message()
    await first.put(one, lease=Lease("main", 300))
    await first.close()
    assert (await claim_one(second, START)).message.id == one.id


async def test_a_lease_whose_put_was_refused_ends(open_outbox: Open, clock: FakeClock) -> None:
    """The connection broke after the commit: nobody is sending it."""
    outbox = await open_outbox()
    one = message()
    await outbox.put(one, lease=Lease("main", 300))
    outbox._leases.lose_put(one.id, START + 300)
    await outbox._leases.beat()
    assert (await claim_one(outbox, START)).message.id == one.id


async def test_leases_of_a_claim_whose_result_was_lost_end(open_outbox: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    outbox = await open_outbox()
    await outbox.put(message())
    rows = outbox._database.rows

    async def commit_and_fail(*arguments: object) -> None:
        await rows(*arguments)  # type: ignore[arg-type]  # passed on
        raise CannotKeep("the connection broke")

    monkeypatch.setattr(outbox._database, "rows", commit_and_fail)
    with pytest.raises(CannotKeep):
        await outbox.claim([up_to(1)], lease_seconds=300)
    monkeypatch.undo()
    assert (await claim(outbox, START)).leased == ()
    await outbox._leases.beat()
    assert len((await claim(outbox, START)).leased) == 1


async def test_a_claim_after_a_pause_leases_as_a_process_that_is_alive(
    open_outbox: Open, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process was stopped between two leases of a claim, and taken for dead: nobody would end its later leases."""
    outbox, other = await open_outbox(), await open_outbox()
    code, welcome = message(), event()
    for one in (code, welcome):
        await outbox.put(one)
    rows, leases = outbox._database.rows, 0

    async def pause_after_the_first(sql: str, *arguments: object) -> object:
        nonlocal leases
        result = await rows(sql, *arguments)
        leases += sql == claims._LEASE
        if leases == 1:
            for _ in range(5):
                clock.set(clock.now() + ALIVE_SECONDS / 3)
                await other._leases.beat()
        return result

    monkeypatch.setattr(outbox._database, "rows", pause_after_the_first)
    claimed = await outbox.claim([up_to(9)], lease_seconds=300)
    assert [one.message.id for one in claimed.leased] == [code.id, welcome.id]
    monkeypatch.undo()
    assert await outbox._database.rows("SELECT 1 FROM mailroom.owners WHERE owner = $1", outbox._owner)
    assert not await outbox.attempt(code.id, ())
    assert await outbox.attempt(welcome.id, ())


async def test_processes_that_settle_crosswise_do_not_end_each_other(
    open_outbox: Open, postgres: PostgresServer, url: str
) -> None:
    """Each sends the newer code of one reader and the older code of another: PostgreSQL ends one, which is repeated."""
    postgres.psql("ALTER DATABASE postgres SET deadlock_timeout = '100ms'")
    try:
        first, second = await open_outbox(), await open_outbox()
        sent: list[tuple[PostgresOutbox, str]] = []
        turns = ((second, b"k1"), (first, b"k2"), (first, b"k1"), (second, b"k2"), (first, b""), (second, b""))
        for outbox, key in turns:
            one = message(START + len(sent))
            await outbox.put(one, lease=Lease("main", 300), supersede_key=key or None)
            sent.append((outbox, one.id))
        locking = await asyncpg.connect(url)
        await locking.execute("BEGIN")
        await locking.fetch("SELECT FROM mailroom.messages WHERE id = ANY($1) FOR UPDATE", [id_ for _, id_ in sent[4:]])
        settling = [asyncio.create_task(outbox.settle(Settlement(id_, State.SENT, ()))) for outbox, id_ in sent]
        await wait_for_locks(locking, 2)
        await locking.execute("COMMIT")
        assert all(result.is_recorded for result in await asyncio.gather(*settling))
        await locking.close()
    finally:
        postgres.psql("ALTER DATABASE postgres RESET deadlock_timeout")


# Repeats, events, limits


async def test_a_repeated_body_is_stored_once_by_all_processes(open_outbox: Open) -> None:
    """Also if they get it at the same time."""
    outboxes = [await open_outbox() for _ in range(4)]
    results = await asyncio.gather(*(one.put(message(), repeat_of=b"body") for one in outboxes * 5))
    assert [result.fresh for result in results].count(True) == 1
    assert len({result.id for result in results}) == 1
    assert len(await outboxes[0].find()) == 1


async def test_a_once_event_is_stored_once_by_all_processes(open_outbox: Open) -> None:
    outboxes = [await open_outbox() for _ in range(4)]
    once = [DedupKey(b"welcome:user1"), DedupKey(b"body")]
    results = await asyncio.gather(*(one.put(event(), once=once) for one in outboxes * 5))
    assert [result.fresh for result in results].count(True) == 1
    assert len({result.id for result in results}) == 1


@pytest.mark.parametrize("ahead_seconds", [86400.0, -86400.0])
async def test_the_limit_of_a_recipient_holds_whatever_the_clock_of_a_machine_says(
    open_outbox: Open, clock: FakeClock, ahead_seconds: float
) -> None:
    """Ids have the machine's time, and the history is searched by the database's."""

    async def read_time(_: Connection) -> float:
        return clock.now() + ahead_seconds

    outbox = await open_outbox(recipient_limit=RateLimit(3, 600), read_time=read_time)
    for number in range(3):
        clock.set(START + number)
        one = message(START + number)
        await outbox.put(one, lease=Lease("main", 300))
        await outbox.settle(Settlement(one.id, State.SENT, ()))
    with pytest.raises(LimitExceeded):
        await outbox.put(message(START + 3))


async def test_the_limit_of_a_recipient_holds_across_processes(open_outbox: Open) -> None:
    outboxes = [await open_outbox(recipient_limit=RateLimit(7, 600)) for _ in range(4)]
    puts = [one.put(message(recipient=f"user{i % 3}@example.com")) for i in range(60) for one in outboxes]
    results = await asyncio.gather(*puts, return_exceptions=True)
    assert sum(isinstance(result, LimitExceeded) for result in results) == 240 - 21
    assert len(await outboxes[0].find(limit=1000)) == 21


async def test_the_limit_of_events_holds_across_processes(open_outbox: Open) -> None:
    outboxes = [await open_outbox(event_limit=RateLimit(5, 3600)) for _ in range(4)]
    results = await asyncio.gather(*(one.put(event()) for _ in range(10) for one in outboxes))
    assert [result.is_held for result in results].count(False) == 5


# Clocks


async def test_the_clock_of_the_database_decides(open_outbox: Open, clock: FakeClock) -> None:
    """Machines whose clocks differ by an hour agree on what is due, leased and expired."""
    late, early = FakeClock(START - 3600), FakeClock(START + 3600)
    behind, ahead = await open_outbox(clock=late), await open_outbox(clock=early)
    kept = message(START - 3600, lifetime=100)
    await behind.put(kept)
    [leased] = (await ahead.claim([up_to(9)], lease_seconds=30)).leased
    assert (leased.message.created_at, leased.message.expires_at) == (START + 3600, START + 3700)
    result = await behind.claim([up_to(9)], lease_seconds=30)
    assert (result.leased, result.next_due) == ((), START - 3600 + 30)
    assert await behind.expire(now=START - 3600 + 99, limit=9) == []
    assert [ended.id for ended in await ahead.expire(now=START + 3600 + 100, limit=9)] == [kept.id]


async def test_the_difference_of_the_clocks_is_measured(url: str) -> None:
    """The real database's clock, and ours that is wrong by years."""
    outbox = await PostgresOutbox.open(url, secret_keys=[SECRET], clock=FakeClock(START - 10**8))
    assert abs(outbox._time.now() - SystemClock().now()) < 2
    await outbox.close()


# Wake-ups


@asynccontextmanager
async def _listening(url: str) -> AsyncIterator[PostgresOutbox]:
    outbox = await PostgresOutbox.open(url, secret_keys=[SECRET], clock=SystemClock())
    async with asyncio.timeout(10):
        await outbox.woken()  # it listens
    yield outbox
    await outbox.close()


async def test_a_process_is_woken_by_messages_that_wait_and_by_operators(url: str) -> None:
    """Not by its own, nor by those that are sent at once."""
    async with _listening(url) as first, _listening(url) as second, asyncio.timeout(10):
        await first.put(message(SystemClock().now()), lease=Lease("main", 300))
        await first.put(message(SystemClock().now()))
        await second.woken()
        assert not first._wakeups._woken.is_set()
        operator = await open_operator(url, secret_keys=[SECRET])
        await operator.pause("main", now=START)
        await asyncio.gather(first.woken(), second.woken())
        await operator.close()


# Operators


@asynccontextmanager
async def _operator(url: str) -> AsyncIterator[PostgresOperator]:
    operator = await open_operator(url, secret_keys=[SECRET])
    yield operator
    await operator.close()


async def test_an_operator_retries_cancels_and_prunes(open_outbox: Open, url: str) -> None:
    """Messages that wait; those that are sent or settled are refused, with their state."""
    outbox = await open_outbox()
    held, waiting, sending, sent = (message(START + number) for number in range(4))
    for one in (held, waiting):
        await outbox.put(one)
    for one in (sending, sent):
        await outbox.put(one, lease=Lease("main", 300))
    await outbox.settle(Settlement(sent.id, State.SENT, ()))
    for leased in (await claim(outbox, START + 4)).leased:
        state = State.HELD if leased.message.id == held.id else State.QUEUED
        await outbox.settle(Settlement(leased.message.id, state, (), due_at=START + 500, reason="why"))
    ids = [held.id, waiting.id, sending.id, sent.id, message().id]
    async with _operator(url) as operator:
        assert await operator.in_state(State.HELD) == [held.id]
        retried = await operator.retry(ids, now=START + 5)
        assert set(retried.changed) == {held.id, waiting.id}
        assert retried.refused == {sending.id: State.SENDING, sent.id: State.SENT}
        assert {one.message.id for one in (await claim(outbox, START + 5, limit=1)).leased} == {held.id}
        cancelled = await operator.cancel(ids, now=START + 6)
        assert cancelled.changed == (waiting.id,)
        record = await outbox.get(waiting.id)
        assert record
        assert (record.state, record.reason) == (State.CANCELLED, "cancelled by an operator")
        assert await operator.count_settled(before=START + 100) == 2
        assert await operator.prune(before=START + 100, limit=10) == 2
        assert await outbox.get(sent.id) is None


async def test_an_operator_holds_what_no_living_process_sends(open_outbox: Open, url: str, clock: FakeClock) -> None:
    """`mailroom outbox hold-all`, after a restore; a backup is PostgreSQL's own business."""
    dead, alive = await open_outbox(), await open_outbox()
    waiting, interrupted, sending = message(), message(), message()
    await alive.put(waiting)
    await dead.put(interrupted, lease=Lease("main", 300))
    await alive.put(sending, lease=Lease("main", 300))
    await _stop(dead)
    clock.set(START + 60)
    await alive._leases.beat()  # after an outage: it ends nobody's leases
    async with _operator(url) as operator:
        result = await operator.hold([waiting.id, interrupted.id, sending.id], now=START + 60)
        assert set(result.changed) == {waiting.id, interrupted.id}
        assert result.refused == {sending.id: State.SENDING}
        assert await alive.held() == {HELD_OPERATOR: 2}
        with pytest.raises(OutboxError, match="pg_dump"):
            await operator.backup(Path("backup"), lambda _: None)


async def test_an_operator_pauses_and_resumes(open_outbox: Open, url: str) -> None:
    outbox = await open_outbox()
    async with _operator(url) as operator:
        assert [await operator.pause("main", now=at) for at in (START, START + 1)] == [True, False]
        assert await outbox.was_changed()
        assert await outbox.paused() == {"main": START}
        assert [await operator.resume("main") for _ in range(2)] == [True, False]
        assert await outbox.paused() == {}


async def test_ids_can_be_shortened_whether_settled_or_not(open_outbox: Open, url: str) -> None:
    outbox = await open_outbox()
    sent, waiting = message(), message()
    await outbox.put(sent, lease=Lease("main", 300))
    await outbox.settle(Settlement(sent.id, State.SENT, ()))
    await outbox.put(waiting)
    async with _operator(url) as operator:
        short = await operator.short_ids([sent.id, waiting.id])
        assert len(set(short.values())) == 2
        for id_, prefix in short.items():
            assert await operator.resolve(prefix) == id_
