"""With a hundred thousand messages that wait, no statement reads or changes all of them.

Counted in rows that PostgreSQL has read and changed, not in time.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import pytest

from mailroom.message import Priority, State
from mailroom.outbox import (
    HELD_MISCONFIGURED,
    HELD_OPERATOR,
    HELD_RENDERING,
    RELEASED_AT_START,
    ClaimLimit,
    EndedMessage,
    PutResult,
    Settlement,
)
from mailroom.outbox.postgres import changes, postgres_engine
from mailroom.outbox.postgres.postgres_engine import PostgresOutbox
from tests.clock import START, FakeClock
from tests.outbox.contract import claim, claim_one, message
from tests.outbox.limits_contract import event
from tests.outbox.postgres.conftest import Open
from tests.outbox.postgres.reads import rows_read
from tests.postgres_server import PostgresServer

_MANY: Final = 100_000
_FEW: Final = 200
"""Rows that a statement may read for each that it returns, and for each route."""

_INSERT: Final = """
    WITH added AS (
        INSERT INTO mailroom.messages (id, number, state, template, route, priority, languages, created_at, expires_at,
                                       due_at, owner, attempts, reason, supersede_key, superseded)
        SELECT '{prefix}' || lpad(number::text, 12, '0'), nextval('mailroom.numbers'), '{state}', 'Generic', '{route}',
               {priority}, '[]', {created_at}, {expires_at}, {due_at}, {owner}, '[]', '{reason}', {supersede_key},
               {superseded}
          FROM generate_series(1, {count}) AS number
     RETURNING *
    )
    INSERT INTO mailroom.contents (id, number, priority, created_at, recipient_key, supersede_key, sealed, record)
    SELECT id, number, priority, created_at, '\\x00', supersede_key, '\\x00', '\\x00' FROM added;
    ANALYZE mailroom.messages, mailroom.contents
"""
_PAGES: Final = """
    SELECT sum(idx_blks_hit + idx_blks_read)
      FROM pg_statio_user_indexes
     WHERE schemaname = 'mailroom' AND relname IN ('messages', 'contents')
"""


def _insert(server: PostgresServer, count: int = _MANY, **columns: Any) -> None:
    """Insert messages that cannot be opened."""
    defaults = {
        "prefix": "backlog-",
        "state": "queued",
        "route": "",
        "priority": int(Priority.EVENT),
        "created_at": START - 10,
        "expires_at": START + 86400,
        "due_at": START - 10,
        "owner": "NULL",
        "reason": "",
        "supersede_key": "NULL",
        "superseded": "false",
    }
    server.psql(_INSERT.format(count=count, **defaults | columns))


async def _pages_read(outbox: PostgresOutbox) -> int:
    """Return how many pages of indexes of the messages were read so far."""
    await outbox._database.rows("SELECT pg_stat_force_next_flush()")
    [(count,)] = await outbox._database.rows(_PAGES)
    return int(count)


async def _count(outbox: PostgresOutbox, where: str) -> int:
    [(count,)] = await outbox._database.rows(f"SELECT count(*) FROM mailroom.messages WHERE {where}")
    return int(count)


@pytest.mark.parametrize(
    "waiting",
    [
        {"route": "paused"},
        {"state": "held", "due_at": START + 86400, "reason": HELD_OPERATOR},
        {"due_at": START + 3600},
    ],
    ids=["of another route", "held", "later"],
)
async def test_a_claim_reads_no_backlog(open_outbox: Open, postgres: PostgresServer, waiting: dict[str, Any]) -> None:
    """Of a route that is paused, of what is held, or of what is not due yet."""
    outbox = await open_outbox()
    _insert(postgres, **waiting)
    code, welcome = message(), event()
    await outbox.put(welcome)
    await outbox.put(code)
    before = await rows_read(outbox)
    limit = ClaimLimit(("paused",), 10, 10, exclude=True)
    leased = (await outbox.claim([limit], lease_seconds=300)).leased
    next_due = (await outbox.claim([limit], lease_seconds=300)).next_due
    assert await rows_read(outbox) - before < _FEW
    assert [one.message.id for one in leased] == [code.id, welcome.id]
    assert next_due == pytest.approx(START + 300)


async def test_a_claim_reads_as_many_as_it_may_lease(open_outbox: Open, postgres: PostgresServer) -> None:
    """The search for newer codes of each recipient reads none of others."""
    outbox = await open_outbox()
    _insert(postgres, priority=0, supersede_key="decode(lpad(to_hex(number), 32, '0'), 'hex')")
    before = await rows_read(outbox)
    await outbox.claim([ClaimLimit(("",), 10, 10)], lease_seconds=300)
    assert await _count(outbox, "state = 'held'") == 10  # they cannot be opened
    assert await rows_read(outbox) - before < _FEW + 100


async def test_plans_of_when_the_tables_were_small_read_no_backlog(open_outbox: Open, postgres: PostgresServer) -> None:
    """A connection keeps a statement's plan from its sixth use on."""
    outbox = await open_outbox()

    async def pass_all_states() -> None:
        one = message()
        await outbox.put(one)
        for state in (State.QUEUED, State.HELD, State.SENT):
            leased = await claim_one(outbox, START)
            await outbox.settle(Settlement(one.id, state, leased.attempts, due_at=START, reason=HELD_RENDERING))
            await outbox.release(HELD_RENDERING, now=START)
        await outbox.expire(now=START, limit=100)
        await outbox.purge(before=START - 10, now=START, limit=100)
        await outbox._leases.beat()

    for _ in range(8):
        await pass_all_states()
    _insert(postgres, due_at=START + 3600)
    _insert(postgres, prefix="held-", state="held", due_at=START + 86400, reason=HELD_OPERATOR)
    before = await rows_read(outbox)
    await pass_all_states()
    assert await rows_read(outbox) - before < _FEW


async def test_routes_that_the_settings_no_longer_name_are_claimed(open_outbox: Open) -> None:
    """And each route in the order in which messages are due."""
    outbox = await open_outbox()
    ids = []
    for seconds, route in enumerate(("b,c", "", "a", "gone", "a")):
        one = message(START - 10 + seconds)
        ids.append(one.id)
        await outbox.put(one, route=route)
    claimed = await outbox.claim([ClaimLimit(("a",), 10, 10, exclude=True)], lease_seconds=300)
    assert [one.message.id for one in claimed.leased] == [ids[0], ids[1], ids[3]]
    assert [one.message.id for one in (await claim(outbox, START)).leased] == [ids[2], ids[4]]


async def test_expiring_reads_no_backlog(open_outbox: Open, postgres: PostgresServer) -> None:
    """Neither of what is due, as of a provider that is paused, nor of what is held: no page of it in an index."""
    outbox = await open_outbox()
    _insert(postgres, due_at=f"{START - 10} - number / 1e5")
    _insert(postgres, prefix="held-", state="held", due_at=START + 86400, reason=HELD_OPERATOR)
    _insert(postgres, 1, prefix="over-", expires_at=START - 1)
    _insert(postgres, 1, prefix="left-", state="sending", owner="'gone'", expires_at=START - 1, due_at=START - 1)
    rows, pages = await rows_read(outbox), await _pages_read(outbox)
    assert len(await outbox.expire(now=START, limit=100)) == 2
    assert await rows_read(outbox) - rows < _FEW
    assert await _pages_read(outbox) - pages < _FEW


async def test_leases_of_a_dead_process_end_in_steps(
    open_outbox: Open, postgres: PostgresServer, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its row stays until the last, so that another process goes on if this one dies, too."""
    outbox = await open_outbox()
    _insert(postgres, 20_000, state="sending", owner="'dead'", due_at=START + 300)
    _insert(postgres, prefix="waiting-")
    postgres.psql(f"INSERT INTO mailroom.owners VALUES ('dead', {START - 1})")
    monkeypatch.setattr(changes, "STEP", 6000)
    run, steps = outbox._database.run, 0

    async def fail_after_two_steps(work: object, **more: float) -> object:
        nonlocal steps
        if work == outbox._leases._end_dead:
            steps += 1
            if steps == 3:
                raise ConnectionError
        return await run(work, **more)  # type: ignore[arg-type]  # passed on

    monkeypatch.setattr(outbox._database, "run", fail_after_two_steps)
    clock.set(START + 1)
    with pytest.raises(ConnectionError):
        await outbox._leases.beat()
    assert await _count(outbox, "owner = 'dead'") == 20_000 - 2 * 6000
    clock.set(START + 2)
    await outbox._leases.beat()
    assert steps == 5
    assert await _count(outbox, "state = 'sending'") == 0
    assert not await outbox._database.rows("SELECT 1 FROM mailroom.owners WHERE owner = 'dead'")


async def test_ending_a_few_leases_reads_no_backlog(
    open_outbox: Open, postgres: PostgresServer, clock: FakeClock
) -> None:
    outbox = await open_outbox()
    _insert(postgres)
    _insert(postgres, 20, prefix="leased-", state="sending", owner="'dead'", due_at=START + 300)
    postgres.psql(f"INSERT INTO mailroom.owners VALUES ('dead', {START - 1})")
    outbox._leases.lose_claim(START + 300)
    outbox._leases.lose_put("none", START + 300)
    clock.set(START + 1)
    before = await rows_read(outbox)
    await outbox._leases.beat()
    assert await rows_read(outbox) - before < 2 * _FEW
    assert await _count(outbox, "state = 'sending'") == 0


async def test_a_start_changes_any_number_of_messages_in_steps(
    open_outbox: Open, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Held until a restart, superseded, or accepted in what is the future since the clock was set back."""
    await (await open_outbox()).close()
    for number, reason in enumerate(RELEASED_AT_START):
        _insert(postgres, 5000, prefix=f"held{number}-", state="held", due_at=START + 86400, reason=reason)
    _insert(postgres, 5000, prefix="superseded-", superseded="true")
    _insert(postgres, 5000, prefix="future-", created_at=START + 50, due_at=START + 50)
    monkeypatch.setattr(changes, "STEP", 1000)
    ended: list[int] = []
    end = changes._ended

    def count(rows: Sequence[Any]) -> tuple[EndedMessage, ...]:
        ended.append(len(rows))
        return end(rows)

    monkeypatch.setattr(changes, "_ended", count)
    outbox = await open_outbox()
    assert outbox._starting
    await outbox._starting
    assert max(ended) == 1000
    assert await _count(outbox, "state = 'held' OR superseded") == 0
    assert await _count(outbox, f"created_at > {START}") == 0


async def test_a_start_that_takes_long_goes_on_beside_the_serving(
    open_outbox: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mail is accepted and claimed meanwhile; closing ends it."""
    started, goes_on = asyncio.Event(), asyncio.Event()

    async def start(*_: object) -> None:
        started.set()
        await goes_on.wait()

    monkeypatch.setattr(changes, "start", start)
    monkeypatch.setattr(postgres_engine, "ANSWER_SECONDS", 0.001)
    outbox = await open_outbox()
    await started.wait()
    one = message()
    await outbox.put(one)
    assert [leased.message.id for leased in (await claim(outbox, START)).leased] == [one.id]
    assert outbox._starting
    assert not outbox._starting.done()
    await outbox.close()
    assert outbox._starting.cancelled()


async def test_releasing_has_steps_and_a_limit(
    open_outbox: Open, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = await open_outbox()
    _insert(postgres, 5000, state="held", due_at=START + 86400, reason=HELD_MISCONFIGURED)
    monkeypatch.setattr(changes, "STEP", 1000)
    run, transactions = outbox._database.run, 0

    async def count(work: object, **more: float) -> object:
        nonlocal transactions
        transactions += 1
        return await run(work, **more)  # type: ignore[arg-type]  # passed on

    monkeypatch.setattr(outbox._database, "run", count)
    assert await outbox.release(HELD_MISCONFIGURED, now=START, limit=1500) == 1500
    assert transactions == 2
    assert await outbox.release(HELD_MISCONFIGURED, now=START) == 3500
    assert transactions == 6


async def test_one_poisoned_operation_costs_few_transactions(
    open_outbox: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a full batch all others are stored, by halves of it, and only that one is refused."""
    outbox = await open_outbox()
    messages = [message(recipient=f"reader{number}@example.com") for number in range(128)]
    await outbox.put(messages[77])
    run, transactions = outbox._database.run, 0

    async def count(work: object, **more: float) -> object:
        nonlocal transactions
        transactions += 1
        return await run(work, **more)  # type: ignore[arg-type]  # passed on

    monkeypatch.setattr(outbox._database, "run", count)
    results = await asyncio.gather(*(outbox.put(one) for one in messages), return_exceptions=True)
    assert [number for number, result in enumerate(results) if isinstance(result, Exception)] == [77]
    assert [result.id for result in results if isinstance(result, PutResult)] == [
        one.id for one in messages if one is not messages[77]
    ]
    assert transactions == 1 + 2 * 7
