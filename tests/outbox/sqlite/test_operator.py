"""Tests of operators' changes, beside a server that uses the same file."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from mailroom.errors import OutboxError
from mailroom.message import Message, State
from mailroom.outbox import HELD_EXHAUSTED, Lease, Settlement
from mailroom.outbox.operator_outbox import OperatorResult
from mailroom.outbox.sqlite.engine import SqliteOutbox
from mailroom.outbox.sqlite.operator import SqliteOperator, open_for_operator
from tests.clock import START, FakeClock
from tests.outbox.contract import claim, message

SECRET = "a-secret-key-of-the-tests"


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[tuple[SqliteOutbox, SqliteOperator]]:
    """Open the file as a server and as an operator's command."""
    path = folder / "mailroom.db"
    outbox = await SqliteOutbox.open(path, secret_keys=[SECRET], clock=FakeClock(), wait_seconds=0)
    operator = await open_for_operator(path, secret_keys=[SECRET])
    try:
        yield outbox, operator
    finally:
        await operator.close()
        await outbox.close()


async def put(outbox: SqliteOutbox, state: State, lifetime: float = 500.0) -> Message:
    """Put a message that goes to this state."""
    one = message(START, lifetime=lifetime)
    await outbox.put(one, lease=None if state is State.QUEUED else Lease("main", 300))
    if state not in {State.QUEUED, State.SENDING}:
        await outbox.settle(Settlement(one.id, state, (), reason=HELD_EXHAUSTED))
    return one


async def state_of(outbox: SqliteOutbox, one: Message) -> State:
    """Return a message's state."""
    record = await outbox.get(one.id)
    assert record is not None
    return record.state


async def test_retry_lets_queued_and_held_messages_be_due_now(tmp_path: Path) -> None:
    """Others are refused with their states, expired ones too; unknown ids are neither."""
    async with serving(tmp_path) as (outbox, operator):
        held, sending, sent = [await put(outbox, state) for state in (State.HELD, State.SENDING, State.SENT)]
        queued, expired = await put(outbox, State.QUEUED), await put(outbox, State.HELD, lifetime=10)
        ids = [one.id for one in (held, queued, sending, sent, expired)]
        result = await operator.retry([*ids, "unknown"], now=START + 20)
        assert set(result.changed) == {held.id, queued.id}
        assert result.refused == {sending.id: State.SENDING, sent.id: State.SENT, expired.id: State.HELD}
        assert {one.message.id for one in (await claim(outbox, START)).leased} == {held.id, queued.id}


async def test_cancel_ends_what_is_not_being_sent(tmp_path: Path) -> None:
    """The payload is erased; what is on the wire stays."""
    async with serving(tmp_path) as (outbox, operator):
        queued, held, sending = [await put(outbox, state) for state in (State.QUEUED, State.HELD, State.SENDING)]
        result = await operator.cancel([queued.id, held.id, sending.id], now=START)
        assert result == OperatorResult((queued.id, held.id), {sending.id: State.SENDING})
        assert await state_of(outbox, queued) is State.CANCELLED
        assert await state_of(outbox, sending) is State.SENDING
        assert await outbox._reader.rows("SELECT count(*) FROM messages WHERE sealed IS NULL") == [(2,)]


async def test_an_id_may_be_shortened_to_a_unique_prefix(tmp_path: Path) -> None:
    """A prefix of several ids, or of none, is an error that says so."""
    async with serving(tmp_path) as (outbox, operator):
        one, other = await put(outbox, State.QUEUED), await put(outbox, State.QUEUED)
        assert await operator.resolve(one.id) == one.id
        unique = next(one.id[:n] for n in range(1, 37) if one.id[:n] != other.id[:n])
        assert await operator.resolve(unique.upper()) == one.id
        with pytest.raises(OutboxError, match="more than one id begins with 01"):
            await operator.resolve("01")
        for unknown in ("ff", ""):
            with pytest.raises(OutboxError, match=f"no message {unknown};"):
                await operator.resolve(unknown)
        short = await operator.short_ids([one.id, other.id])
        assert [await operator.resolve(short[id_]) for id_ in (one.id, other.id)] == [one.id, other.id]


async def test_a_short_id_is_no_shorter_than_its_time(tmp_path: Path) -> None:
    """So that later messages do not make it ambiguous; messages of the same millisecond make it longer."""
    async with serving(tmp_path) as (outbox, operator):
        ids = [f"01a218d5-5c6{end}-000000000001" for end in ("5-7000-8000", "5-7000-8001", "6-7000-8000")]
        for id_ in ids:
            await outbox.put(msgspec.structs.replace(message(START), id=id_))
        assert await operator.short_ids(ids) == {ids[0]: ids[0][:23], ids[1]: ids[1][:23], ids[2]: ids[2][:13]}


async def test_prune_deletes_settled_messages_only(tmp_path: Path) -> None:
    async with serving(tmp_path) as (outbox, operator):
        sent, queued = await put(outbox, State.SENT), await put(outbox, State.QUEUED)
        assert await operator.count_settled(before=START + 1) == 1
        assert await operator.prune(before=START + 1, limit=10) == 1
        assert (await outbox.get(sent.id), await state_of(outbox, queued)) == (None, State.QUEUED)


async def test_a_server_notices_what_an_operator_changes(tmp_path: Path) -> None:
    """And not what it changes itself."""
    async with serving(tmp_path) as (outbox, operator):
        assert await outbox.was_changed()
        await put(outbox, State.SENT)
        assert not await outbox.was_changed()
        assert await operator.pause("main", now=START)
        assert await outbox.was_changed()
        assert await outbox.paused() == {"main": START}
        assert not await operator.pause("main", now=START)
        assert await operator.resume("main")
        assert not await operator.resume("main")
        assert await outbox.paused() == {}


async def test_the_messages_in_a_state_are_listed_oldest_first(tmp_path: Path) -> None:
    async with serving(tmp_path) as (outbox, operator):
        held = [await put(outbox, State.HELD) for _ in range(3)]
        await put(outbox, State.QUEUED)
        assert await operator.in_state(State.HELD) == [one.id for one in held]
