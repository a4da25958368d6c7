"""The outbox for operators' commands: they write to the database, with or without a server that uses it.

    async with await open_for_operator(path, secret_keys=keys) as outbox:
        await outbox.retry(["0192…"])

A server notices the change within a second, see `Outbox.was_changed`.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeVar

import apsw
import msgspec

from mailroom.clock import Instant
from mailroom.errors import OutboxError
from mailroom.message import State
from mailroom.outbox import HELD_OPERATOR, RELEASED_AT_START
from mailroom.outbox.operator_outbox import OperatorResult
from mailroom.outbox.shared import OpenBreaker
from mailroom.outbox.sqlite import operations
from mailroom.outbox.sqlite.backup import backup
from mailroom.outbox.sqlite.database import connect, expect_current, rows_of, transaction, unlock_seal
from mailroom.outbox.sqlite.lock import is_served
from mailroom.outbox.sqlite.provider_data import SqliteSecrets
from mailroom.outbox.sqlite.queries import Reader, SqliteRecords
from mailroom.sealing import Seal

T = TypeVar("T")

_BUSY_MILLISECONDS: Final = 10_000
"""How long to wait for a server that writes all the time; an operator has more patience than a request."""

_STATES: Final = "SELECT id, state FROM messages WHERE id IN (SELECT value FROM json_each(?))"

# In the past by any clock, so that it is due at once.
_RETRY: Final = """
    UPDATE messages
       SET state = 'queued', due_at = min(created_at, expires_at), reason = ''
     WHERE id IN (SELECT value FROM json_each(?)) AND state IN ('queued', 'held') AND expires_at > ?
 RETURNING id
"""

_CANCEL: Final = """
    UPDATE messages
       SET state = 'cancelled', settled_at = ?, due_at = NULL, owner = NULL, sealed = NULL, rendered = NULL,
           reason = 'cancelled by an operator'
     WHERE id IN (SELECT value FROM json_each(?)) AND state IN ('queued', 'held')
 RETURNING id
"""

_HOLD: Final = f"""
    UPDATE messages
       SET state = 'held',
           reason = CASE WHEN state = 'held' AND reason NOT IN ({", ".join(f"'{one}'" for one in RELEASED_AT_START)})
                         THEN reason ELSE '{HELD_OPERATOR}' END,
           owner = NULL,
           due_at = expires_at
     WHERE id IN (SELECT value FROM json_each(?)) AND state IN ('queued', 'held', ?)
 RETURNING id
"""  # noqa: S608 - constants

_PAUSE: Final = "INSERT OR IGNORE INTO paused (provider, since) VALUES (?, ?)"
_RESUME: Final = "DELETE FROM paused WHERE provider = ?"


class SqliteOperator(SqliteRecords):
    """The outbox for an operator's command: reads, and changes rows in transactions of its own."""

    @property
    def secrets(self) -> SqliteSecrets:
        """The secrets that providers got while they ran."""
        return SqliteSecrets(self._reader, self._write, self._seal)

    async def open_breakers(self) -> Mapping[str, OpenBreaker]:
        """Return none: only the serving process knows."""
        return {}

    async def retry(self, ids: Sequence[str], *, now: Instant) -> OperatorResult:
        """Let queued and held messages be due now; those that have expired, or are sent or settled, are refused."""
        return await self._write(lambda connection: _change(connection, _RETRY, (_list(ids), now), ids))

    async def cancel(self, ids: Sequence[str], *, now: Instant) -> OperatorResult:
        """End queued and held messages unsent; what is being sent cannot be recalled."""
        return await self._write(lambda connection: _change(connection, _CANCEL, (now, _list(ids)), ids))

    async def hold(self, ids: Sequence[str], *, now: Instant) -> OperatorResult:  # noqa: ARG002 - the others' signature
        """Hold what waits, also for a restart; if no process serves, also those whose sending was interrupted."""
        interrupted = State.QUEUED if is_served(self._path) else State.SENDING
        bindings = (_list(ids), interrupted.value)
        return await self._write(lambda connection: _change(connection, _HOLD, bindings, ids))

    async def backup(self, target: Path, on_progress: Callable[[float], None]) -> None:
        """Copy the database to a file, as it is at this moment. `on_progress`: see `backup`."""
        await asyncio.to_thread(backup, self._path, target, on_progress)

    async def prune(self, *, before: Instant, limit: int) -> int:
        """Delete up to `limit` settled messages accepted before; return how many, 0: there are none left."""
        return await self._write(lambda connection: operations.delete_settled(connection, before, limit))

    async def pause(self, provider: str, *, now: Instant) -> bool:
        """Pause a provider; False: it is paused already."""
        return await self._write(lambda connection: _execute(connection, _PAUSE, (provider, now)))

    async def resume(self, provider: str) -> bool:
        """Resume a provider; False: it was not paused."""
        return await self._write(lambda connection: _execute(connection, _RESUME, (provider,)))

    async def _write(self, change: Callable[[apsw.Connection], T]) -> T:
        return await asyncio.to_thread(self._run, change)

    def _run(self, change: Callable[[apsw.Connection], T]) -> T:
        try:
            connection = connect(self._path)
            connection.set_busy_timeout(_BUSY_MILLISECONDS)
            try:
                with transaction(connection):
                    return change(connection)
            finally:
                connection.close()
        except apsw.Error as error:
            raise OutboxError(f"the outbox cannot be written: {error}") from error


async def open_for_operator(path: Path, *, secret_keys: Sequence[str]) -> SqliteOperator:
    """Open the outbox for a command, also while a server uses it.

    Raises OutboxError when it cannot be read, SealBroken when no secret matches.
    """
    reader = Reader(path)

    def unlock(connection: apsw.Connection) -> Seal:
        expect_current(connection)
        return unlock_seal(connection, secret_keys)

    try:
        return SqliteOperator(path, reader, await reader.run(unlock))
    except BaseException:
        await reader.close()
        raise


def _change(connection: apsw.Connection, sql: str, bindings: tuple[object, ...], ids: Sequence[str]) -> OperatorResult:
    before = {id_: State(state) for id_, state in rows_of(connection, _STATES, (_list(ids),))}
    changed = tuple(id_ for (id_,) in rows_of(connection, sql, bindings))
    return OperatorResult(changed, {id_: state for id_, state in before.items() if id_ not in changed})


def _execute(connection: apsw.Connection, sql: str, bindings: tuple[object, ...]) -> bool:
    connection.execute(sql, bindings)
    return connection.changes() > 0


def _list(ids: Sequence[str]) -> str:
    return msgspec.json.encode(ids).decode()
