"""Copies an outbox from SQLite to PostgreSQL, in steps that can be repeated: what is there already is skipped.

    async with Copying.open(path, url, secret_keys=keys, clock=clock, wait_seconds=0.0) as copying:
        copied = await copying.run(on_progress)

The target gets the source's data key, because keyed hashes cannot be computed anew from what is stored; so sealed
values are copied as they are. Unsettled messages are copied only if no server uses the source, and held there, so that
no server sends them a second time from it.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import apsw
import msgspec

from mailroom.clock import Clock
from mailroom.errors import OutboxError, OutboxInUse
from mailroom.outbox import REPEAT_SECONDS
from mailroom.outbox.postgres import migrations
from mailroom.outbox.postgres.changes import HISTORY, end_superseded
from mailroom.outbox.postgres.database_pool import Connection, Database
from mailroom.outbox.postgres.database_time import read_time
from mailroom.outbox.sqlite.database import connect, expect_current, rows_of, transaction, wrapped_key
from mailroom.outbox.sqlite.lock import Lock

Result = TypeVar("Result")

HELD_COPIED: Final = "copied to another database"
"""Why the source holds a message: a server of the target sends it."""
_STEP: Final = 500
"""Rows a transaction."""
_STEP_SECONDS: Final = 60.0
_POLL_SECONDS: Final = 0.2

_COUNT: Final = """
    SELECT (SELECT count(*) FROM messages WHERE due_at IS NOT NULL AND reason <> ?),
           (SELECT count(*) FROM messages WHERE due_at IS NULL),
           (SELECT count(*) FROM once)
"""

# Codes first.
_UNSETTLED: Final = "SELECT id FROM messages WHERE due_at IS NOT NULL AND reason <> ? ORDER BY priority, number"

# What their process was sending is due at once, as after the end of its lease. Numbers stay below those that PostgreSQL
# gives: a newer code supersedes messages with lower ones.
_WAITING: Final = """
    SELECT number - 1000000000000, id, iif(state = 'sending', 'queued', state), template, priority, languages,
           created_at, expires_at, iif(state = 'sending', min(created_at, expires_at), due_at),
           iif(json_valid(attempts), attempts, '[]'), replace(reason, char(0), ''),
           replace(provider_message_id, char(0), ''), recipient_key, repeat_key, supersede_key, superseded,
           coalesce(sealed, x''), record, rendered, route
      FROM messages
     WHERE id IN (SELECT value FROM json_each(?))
"""
_INSERT_WAITING: Final = """
    WITH new AS (
        SELECT *
          FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::smallint[], $6::text[], $7::float8[],
                      $8::float8[], $9::float8[], $10::text[], $11::text[], $12::text[], $13::bytea[], $14::bytea[],
                      $15::bytea[], $16::integer[], $17::bytea[], $18::bytea[], $19::bytea[], $20::text[])
               AS row (number, id, state, template, priority, languages, created_at, expires_at, due_at, attempts,
                       reason, provider_message_id, recipient_key, repeat_key, supersede_key, superseded, sealed,
                       record, rendered, route)
         WHERE NOT EXISTS (SELECT FROM mailroom.history WHERE history.id = row.id)
    ), contents AS (
        INSERT INTO mailroom.contents
               (id, number, priority, created_at, recipient_key, repeat_key, supersede_key, sealed, record)
        SELECT id, number, priority, created_at, recipient_key, repeat_key, supersede_key, sealed, record FROM new
            ON CONFLICT DO NOTHING
    )
    INSERT INTO mailroom.messages
           (id, number, state, template, priority, languages, created_at, expires_at, due_at, attempts, reason,
            provider_message_id, supersede_key, superseded, rendered, route)
    SELECT id, number, state, template, priority, languages, created_at, expires_at, due_at, attempts::json, reason,
           provider_message_id, supersede_key, superseded <> 0, rendered, route
      FROM new
        ON CONFLICT DO NOTHING
"""
# What a server of the target has settled while the statement above waited for it, if a run before was cut off.
_DELETE_SETTLED: Final = """
    WITH settled AS (
        DELETE FROM mailroom.messages
         WHERE id = ANY ($1::text[]) AND EXISTS (SELECT FROM mailroom.history WHERE history.id = messages.id)
     RETURNING id
    )
    DELETE FROM mailroom.contents USING settled WHERE contents.id = settled.id
"""
_HOLD_COPIED: Final = """
    UPDATE messages
       SET state = 'held', reason = ?, owner = NULL, due_at = expires_at
     WHERE id IN (SELECT value FROM json_each(?))
"""

# The newest first: they are looked for the most.
_SETTLED_IDS: Final = "SELECT number, id FROM messages WHERE number < ? AND due_at IS NULL ORDER BY number DESC LIMIT ?"
_MISSING: Final = """
    SELECT id
      FROM unnest($1::text[]) AS id
     WHERE NOT EXISTS (SELECT FROM mailroom.history WHERE history.id = id.id)
       AND NOT EXISTS (SELECT FROM mailroom.messages WHERE messages.id = id.id)
"""
_SETTLED: Final = """
    SELECT id, state, template, priority, languages, created_at, expires_at, coalesce(settled_at, created_at),
           iif(json_valid(attempts), attempts, '[]'), replace(reason, char(0), ''),
           replace(provider_message_id, char(0), ''), recipient_key, record
      FROM messages
     WHERE id IN (SELECT value FROM json_each(?))
"""
_INSERT_SETTLED: Final = f"""
    INSERT INTO mailroom.history ({HISTORY})
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::smallint[], $5::text[], $6::float8[], $7::float8[],
                         $8::float8[], $9::json[], $10::text[], $11::text[], $12::bytea[], $13::bytea[])
        ON CONFLICT DO NOTHING
"""  # noqa: S608 - a constant

_ONCE: Final = "SELECT key, message_id, until FROM once WHERE key > ? ORDER BY key LIMIT ?"

# Small tables, copied whole: what the source has, and where it goes.
_BODIES: Final = """
    SELECT repeat_key, id, created_at
      FROM messages
     WHERE repeat_key IS NOT NULL AND state <> 'failed' AND created_at > ?
"""
_INSERT_BODIES: Final = """
    INSERT INTO mailroom.repeats (key, message_id, created_at)
    SELECT * FROM unnest($1::bytea[], $2::text[], $3::float8[])
        ON CONFLICT DO NOTHING
"""
_INSERT_ONCE: Final = """
    INSERT INTO mailroom.once (key, message_id, until)
    SELECT * FROM unnest($1::bytea[], $2::text[], $3::float8[])
        ON CONFLICT DO NOTHING
"""
_PAUSED: Final = "SELECT provider, since FROM paused"
_INSERT_PAUSED: Final = """
    INSERT INTO mailroom.paused (provider, since)
    SELECT * FROM unnest($1::text[], $2::float8[])
        ON CONFLICT DO NOTHING
"""
_STORED: Final = "SELECT name, secret FROM secrets"
# One that a server of the target has replaced since differs from the last one copied, and is newer than the source's.
_INSERT_STORED: Final = """
    INSERT INTO mailroom.secrets (name, secret, copied)
    SELECT name, secret, secret FROM unnest($1::text[], $2::bytea[]) AS row (name, secret)
        ON CONFLICT (name) DO UPDATE SET secret = excluded.secret, copied = excluded.copied
     WHERE secrets.secret = secrets.copied
"""


@dataclass(frozen=True, slots=True)
class Copied:
    """What a run has copied; what was there already is not counted, but for events."""

    unsettled: int
    left: int
    """Unsettled messages that were not copied, because a server uses the source."""
    settled: int
    events: int
    """Those that are handled only once."""


class Copying:
    """One run. Use `open`."""

    def __init__(self, source: apsw.Connection, target: Database, clock: Clock, *, is_served: bool) -> None:
        self._source = source
        self._target = target
        self._clock = clock
        self._is_served = is_served
        [(self._unsettled, settled, events)] = rows_of(source, _COUNT, (HELD_COPIED,))
        self.total = settled + events + (0 if is_served else self._unsettled)
        """The rows that `on_progress` will count."""

    @classmethod
    @asynccontextmanager
    async def open(
        cls, path: Path, url: str, *, secret_keys: Sequence[str], clock: Clock, wait_seconds: float
    ) -> AsyncIterator["Copying"]:
        """Open both, and give the target the source's data key; waits so long for a server to release the source.

        Raises OutboxError, and SealBroken when no secret matches.
        """
        target = await Database.create(url)
        try:
            async with _open_source(path, clock, wait_seconds) as (source, is_served):
                with _as_outbox_error(path):
                    expect_current(source)
                    wrapped = wrapped_key(source)
                if wrapped is None:
                    raise OutboxError(f"{path} is being created: it has no data key yet")
                await migrations.prepare(target, list(secret_keys), os.urandom, wrapped=wrapped)
                with _as_outbox_error(path):
                    copying = cls(source, target, clock, is_served=is_served)
                yield copying
        finally:
            await target.close()

    async def run(self, on_progress: Callable[[int], object]) -> Copied:
        """Copy what is unsettled, then what is handled once, secrets and pauses, then the history.

        `on_progress` gets the number of rows since its last call. Raises OutboxError.
        """
        unsettled = 0 if self._is_served else await self._copy_unsettled(on_progress)
        await self._copy_small_tables()
        events = await self._copy_events(on_progress)
        settled = await self._copy_settled(on_progress)
        return Copied(unsettled, self._unsettled if self._is_served else 0, settled, events)

    async def _copy_unsettled(self, on_progress: Callable[[int], object]) -> int:
        ids = [id_ for (id_,) in await self._read(_UNSETTLED, HELD_COPIED)]
        copied = 0
        for start in range(0, len(ids), _STEP):
            step = ids[start : start + _STEP]
            rows = await self._read(_WAITING, _list(step))
            copied += await self._insert(_INSERT_WAITING, rows, then=(_DELETE_SETTLED, step))
            await self._in_thread(partial(self._hold, step))
            on_progress(len(step))
        await self._target.run(_end_superseded)
        return copied

    def _hold(self, ids: Sequence[str]) -> None:
        with transaction(self._source):
            self._source.execute(_HOLD_COPIED, (HELD_COPIED, _list(ids)))

    async def _copy_small_tables(self) -> None:
        await self._insert(_INSERT_BODIES, await self._read(_BODIES, self._clock.now() - REPEAT_SECONDS))
        await self._insert(_INSERT_PAUSED, await self._read(_PAUSED))
        await self._insert(_INSERT_STORED, await self._read(_STORED))

    async def _copy_events(self, on_progress: Callable[[int], object]) -> int:
        copied, last = 0, b""
        while rows := await self._read(_ONCE, last, _STEP):
            copied += await self._insert(_INSERT_ONCE, rows)
            last = rows[-1][0]
            on_progress(len(rows))
        return copied

    async def _copy_settled(self, on_progress: Callable[[int], object]) -> int:
        copied, last = 0, 2**62
        while rows := await self._read(_SETTLED_IDS, last, _STEP):
            missing = [row["id"] for row in await self._target.rows(_MISSING, [id_ for _, id_ in rows])]
            copied += await self._insert(_INSERT_SETTLED, await self._read(_SETTLED, _list(missing)))
            last = rows[-1][0]
            on_progress(len(rows))
        return copied

    async def _read(self, sql: str, *bindings: object) -> list[tuple[Any, ...]]:
        return await self._in_thread(lambda: rows_of(self._source, sql, bindings))

    async def _insert(self, sql: str, rows: Sequence[tuple[Any, ...]], *, then: tuple[Any, ...] = ()) -> int:
        """Insert rows, and return how many were not there; `then`: the next statement of the transaction."""
        if not rows:
            return 0
        columns = list(zip(*rows, strict=True))

        async def insert(connection: Connection) -> int:
            status: str = await connection.execute(sql, *columns)
            if then:
                await connection.execute(*then)
            return int(status.rpartition(" ")[2])

        return await self._target.run(insert, seconds=_STEP_SECONDS)

    async def _in_thread(self, work: Callable[[], Result]) -> Result:
        with _as_outbox_error(Path(self._source.filename)):
            return await asyncio.to_thread(work)


@asynccontextmanager
async def _open_source(path: Path, clock: Clock, wait_seconds: float) -> AsyncIterator[tuple[apsw.Connection, bool]]:
    """Open the file, locked against servers unless one uses it (True)."""
    if not await asyncio.to_thread(path.is_file):
        raise OutboxError(f"there is no outbox at {path}")
    lock = await _lock(path, clock, wait_seconds)
    try:
        with _as_outbox_error(path):
            source = connect(path)
        try:
            yield source, lock is None
        finally:
            source.close()  # before the lock: see `Lock`
    finally:
        if lock:
            lock.release()


async def _lock(path: Path, clock: Clock, wait_seconds: float) -> Lock | None:
    """Return the lock; None: a server has it, and still had it after so many seconds."""
    give_up_at = clock.monotonic() + wait_seconds
    while True:
        with suppress(OutboxInUse):
            return await Lock.take(path, clock=clock, wait_seconds=0.0)  # its wait would be logged
        if clock.monotonic() >= give_up_at:
            return None
        await clock.sleep(_POLL_SECONDS)


@contextmanager
def _as_outbox_error(path: Path) -> Iterator[None]:
    try:
        yield
    except apsw.Error as error:
        raise OutboxError(f"{path} cannot be copied: {error}") from error


async def _end_superseded(connection: Connection) -> None:
    await end_superseded(connection, await read_time(connection))


def _list(ids: Sequence[str]) -> str:
    return msgspec.json.encode(ids).decode()
