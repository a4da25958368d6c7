"""A SQLite outbox is copied to PostgreSQL, at once or in several runs, and everything in it stays readable."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import asyncpg
import pytest

from mailroom.errors import OutboxError, SealBroken
from mailroom.message import State
from mailroom.outbox import DedupKey, Lease, Record, Settlement, copying
from mailroom.outbox.copying import HELD_COPIED, Copied, Copying
from mailroom.outbox.postgres import changes
from mailroom.outbox.postgres.postgres_engine import PostgresOutbox
from mailroom.outbox.sqlite.engine import SqliteOutbox
from mailroom.outbox.sqlite.operator import open_for_operator
from tests.clock import START, FakeClock
from tests.outbox.contract import claim, claim_one, message
from tests.outbox.make_database import BODY, SECRET, WEBHOOK, WELCOME, address, fill
from tests.outbox.postgres.conftest import Open
from tests.outbox.postgres.reads import wait_for_locks
from tests.postgres_server import PostgresServer


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where the SQLite outbox is."""
    return tmp_path / "mailroom.db"


async def _serve(path: Path, clock: FakeClock) -> SqliteOutbox:
    return await SqliteOutbox.open(path, secret_keys=[SECRET], clock=clock, wait_seconds=0)


async def _copy(
    path: Path, url: str, clock: FakeClock, secret: str = SECRET, tell: Callable[[int], object] = lambda _: None
) -> Copied:
    async with Copying.open(path, url, secret_keys=[secret], clock=clock, wait_seconds=0) as copying:
        return await copying.run(tell)


async def _copy_interrupted(path: Path, url: str, clock: FakeClock) -> None:
    """Copy until what waits is in the target, and the source is to be told."""

    def fail(*_: object) -> None:
        raise OutboxError("interrupted")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Copying, "_hold", fail)
        with pytest.raises(OutboxError, match="interrupted"):
            await _copy(path, url, clock)


async def _by_recipient(outbox: SqliteOutbox | PostgresOutbox) -> dict[str, Record]:
    return {record.recipient: record for record in await outbox.find(limit=100)}


async def test_messages_of_every_state_are_copied(path: Path, url: str, open_outbox: Open, clock: FakeClock) -> None:
    """With attempts, reasons and ids, sealed values readable; what was being sent is due at once."""
    source = await _serve(path, clock)
    await fill(source)
    before = await _by_recipient(source)
    await source.close()
    advanced: list[int] = []

    copied = await _copy(path, url, clock, tell=advanced.append)

    unsettled = {who for who, record in before.items() if not record.state.settled}
    assert copied == Copied(len(unsettled), 0, len(before) - len(unsettled), 2)
    assert sum(advanced) == len(before) + 2
    target = await open_outbox(secret_keys=["a new key", SECRET])
    after = await _by_recipient(target)
    assert after.keys() == before.keys()
    for who, record in after.items():
        one = before[who]
        assert (record.id, record.attempts, record.payload, record.languages) == (
            one.id, one.attempts, one.payload, one.languages,
        )  # fmt: skip
        assert record.provider_message_id == one.provider_message_id
        if record.state.settled:
            assert (record.state, record.reason, record.settled_at) == (one.state, one.reason, one.settled_at)
    (found,) = await target.find(recipient=address("queued").upper())
    leased = {one.message.id: one for one in (await claim(target, START + 100)).leased}
    assert leased[found.id].message.payload["code"] == "314159"
    assert before[address("sending")].id in leased


async def test_repeats_and_events_are_recognized_after_the_copy(
    path: Path, url: str, open_outbox: Open, clock: FakeClock
) -> None:
    """Their keyed hashes are the same, because the data key is."""
    source = await _serve(path, clock)
    await fill(source)
    await source.close()
    await _copy(path, url, clock)
    target = await open_outbox(secret_keys=[SECRET])
    assert await target.happened(WELCOME)
    assert not (await target.put(message(), once=[DedupKey(WEBHOOK, START + 99)])).fresh
    assert not (await target.put(message(), repeat_of=BODY)).fresh


async def test_a_second_run_copies_nothing_twice(path: Path, url: str, open_outbox: Open, clock: FakeClock) -> None:
    """Not even what the target has sent since; the source holds what was copied, also after a restart of its server."""
    source = await _serve(path, clock)
    one = message()
    await source.put(one)
    await source.close()
    assert (await _copy(path, url, clock)).unsettled == 1
    source = await _serve(path, clock)
    assert (await claim(source, START + 1)).leased == ()
    record = await source.get(one.id)
    assert record
    assert (record.state, record.reason) == (State.HELD, HELD_COPIED)
    await source.close()
    assert await _copy(path, url, clock) == Copied(0, 0, 0, 0)


async def test_a_run_that_was_interrupted_is_resumed(path: Path, url: str, open_outbox: Open, clock: FakeClock) -> None:
    """After it wrote to the target, before it noted that in the source."""
    source = await _serve(path, clock)
    await fill(source)
    await source.close()

    await _copy_interrupted(path, url, clock)
    rest = await _copy(path, url, clock)
    assert rest.unsettled == 0
    assert rest.settled > 0
    operator = await open_for_operator(path, secret_keys=[SECRET])
    count = len(await operator.find(limit=100))
    await operator.close()
    assert len(await _by_recipient(await open_outbox(secret_keys=[SECRET]))) == count


async def test_what_a_server_still_sends_is_left_for_a_later_run(
    path: Path, url: str, open_outbox: Open, clock: FakeClock
) -> None:
    """Meanwhile a server may run on the target: nothing that it stores is overtaken by what comes later."""
    source = await _serve(path, clock)
    await fill(source)
    older = message(START + 1)
    await source.put(older, supersede_key=b"a session")
    first = await _copy(path, url, clock)
    assert first.unsettled == 0
    assert first.left > 0
    target = await open_outbox(secret_keys=[SECRET])
    newer = message(START + 2)
    await target.put(newer, supersede_key=b"a session", lease=Lease("main", 300))
    await source.close()

    second = await _copy(path, url, clock)

    assert (second.unsettled, second.left, second.settled) == (first.left, 0, 0)
    ids = {one.message.id for one in (await claim(target, START + 3)).leased}
    assert older.id not in ids  # the newer one goes first
    await target.settle(Settlement(newer.id, State.SENT, ()))
    record = await target.get(older.id)
    assert record
    assert record.state is State.SUPERSEDED


async def test_secrets_and_pauses_are_copied(path: Path, url: str, open_outbox: Open, clock: FakeClock) -> None:
    """A refresh token that a server on the target has replaced is newer than the source's."""
    source = await _serve(path, clock)
    await source.secrets.put("main token", "first")
    await _copy(path, url, clock)
    await source.secrets.put("main token", "second")
    operator = await open_for_operator(path, secret_keys=[SECRET])
    assert await operator.pause("backup", now=START)
    await operator.close()
    await _copy(path, url, clock)
    target = await open_outbox(secret_keys=[SECRET])
    assert await target.secrets.get("main token") == "second"
    assert dict(await target.paused()) == {"backup": START}
    await target.secrets.put("main token", "third")
    await source.close()
    await _copy(path, url, clock)
    assert await target.secrets.get("main token") == "third"


async def test_a_secret_that_is_replaced_between_two_runs_is_copied_by_the_second(
    path: Path, url: str, open_outbox: Open, clock: FakeClock
) -> None:
    """Although servers use the target by then: they have the first one, which its endpoint accepts no longer."""
    source = await _serve(path, clock)
    for name in ("main token", "backup token"):
        await source.secrets.put(name, "first")
    await _copy(path, url, clock)
    target = await open_outbox(secret_keys=[SECRET])
    for name in ("main token", "backup token"):
        await source.secrets.put(name, "second")
    await target.secrets.put("backup token", "the target's")
    await source.close()
    await _copy(path, url, clock)
    assert await target.secrets.get("main token") == "second"
    assert await target.secrets.get("backup token") == "the target's"
    await target.secrets.put("main token", "third")
    await _copy(path, url, clock)
    assert await target.secrets.get("main token") == "third"


async def test_another_outbox_is_no_target(path: Path, url: str, open_outbox: Open, clock: FakeClock) -> None:
    """Nor is a secret that does not match the source."""
    source = await _serve(path, clock)
    await source.put(message())
    await source.close()
    with pytest.raises(SealBroken):
        await _copy(path, url, clock, secret="another secret")
    await open_outbox(secret_keys=[SECRET])
    with pytest.raises(OutboxError, match="use an empty one"):
        await _copy(path, url, clock)
    source = await _serve(path, clock)
    await claim_one(source, START + 1)  # it was left as it is
    await source.close()


def test_a_file_that_is_missing_is_not_created(tmp_path: Path, url: str, clock: FakeClock) -> None:
    with pytest.raises(OutboxError, match="there is no outbox at"):
        asyncio.run(_copy(tmp_path / "none.db", url, clock))
    assert not list(tmp_path.iterdir())


async def test_a_second_run_does_not_bring_back_what_is_being_settled(
    path: Path, url: str, open_outbox: Open, clock: FakeClock
) -> None:
    """The first run was cut off before the source held its messages; a server of the target sends them."""
    source = await _serve(path, clock)
    one = message()
    await source.put(one)
    await source.close()

    await _copy_interrupted(path, url, clock)
    target = await open_outbox(secret_keys=[SECRET])
    leased = await claim_one(target, START)
    settling = await asyncpg.connect(url)
    await settling.execute("BEGIN")
    await settling.fetch(changes._MOVE, [one.id], ["sent"], ["[]"], [""], [""], target._owner, START)
    copying = asyncio.create_task(_copy(path, url, clock))
    await wait_for_locks(settling)
    await settling.execute("COMMIT")
    await settling.close()
    await copying
    assert (await claim(target, START)).leased == ()
    assert [(record.id, record.state) for record in await target.find()] == [(leased.message.id, State.SENT)]


async def test_every_table_is_copied_or_left_on_purpose(postgres: PostgresServer, url: str, open_outbox: Open) -> None:
    """A new table has to be added to `copying.py`, or here."""
    left = {"schema", "owners", "counted_events", "captured", "keys", "counts", "breakers"}
    copied = {"messages", "contents", "history", "once", "repeats", "paused", "secrets"}
    await open_outbox()
    sql = "SELECT tablename FROM pg_tables WHERE schemaname = 'mailroom'"
    tables = set((await asyncio.to_thread(postgres.psql, sql)).split())
    assert tables == left | copied
    sql = (
        "SELECT attname FROM pg_attribute"
        " WHERE attrelid IN ('mailroom.messages'::regclass, 'mailroom.contents'::regclass)"
        "   AND attnum > 0 AND NOT attisdropped"
    )
    columns = set((await asyncio.to_thread(postgres.psql, sql)).split())
    assert {name for name in columns if name not in copying._INSERT_WAITING} == {"owner"}
