"""What operators change by commands: in the database, with or without a server that uses it.

    async with await open_for_operator(path, secret_keys=keys) as outbox:
        await outbox.retry(["0192…"])

A server notices the change within a second, see `Outbox.was_changed`.
"""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypeVar

import apsw
import msgspec

from mailroom.clock import Instant
from mailroom.errors import OutboxError
from mailroom.message import State
from mailroom.outbox import OperatorResult
from mailroom.outbox.sqlite import operations
from mailroom.outbox.sqlite.database import connect, rows_of, transaction
from mailroom.outbox.sqlite.queries import SqliteRecords, open_readonly

T = TypeVar("T")

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

_PAUSE: Final = "INSERT OR IGNORE INTO paused (provider, since) VALUES (?, ?)"
_RESUME: Final = "DELETE FROM paused WHERE provider = ?"
_PREFIX: Final = "SELECT id FROM messages WHERE id >= ?1 AND id < ?1 || 'g' ORDER BY id LIMIT 2"
_IN_STATE: Final = "SELECT id FROM messages WHERE state = ? AND due_at IS NOT NULL ORDER BY number"


class SqliteOperator:
    """See `mailroom.outbox.OperatorOutbox`."""

    def __init__(self, path: Path, records: SqliteRecords) -> None:
        self._path = path
        self.records = records

    async def resolve(self, prefix: str) -> str:
        """Return the id that begins so. Raises OutboxError when none does, or more than one."""
        rows = await self._write(lambda connection: rows_of(connection, _PREFIX, (prefix.lower(),)))
        ids: list[str] = [id_ for (id_,) in rows]
        if not ids:
            raise OutboxError(f"there is no message {prefix}; records are deleted after `retention`")
        if len(ids) > 1:
            raise OutboxError(f"more than one id begins with {prefix}: write more of it")
        return ids[0]

    async def in_state(self, state: State) -> list[str]:
        """Return the ids of all messages that wait in this state, oldest first."""
        return await self._write(lambda connection: [id_ for (id_,) in rows_of(connection, _IN_STATE, (state.value,))])

    async def retry(self, ids: Sequence[str], *, now: Instant) -> OperatorResult:
        """Let queued and held messages be due now; those that have expired, or are sent or settled, are refused."""
        return await self._write(lambda connection: _change(connection, _RETRY, (_list(ids), now), ids))

    async def cancel(self, ids: Sequence[str], *, now: Instant) -> OperatorResult:
        """End queued and held messages unsent; what is being sent cannot be recalled."""
        return await self._write(lambda connection: _change(connection, _CANCEL, (now, _list(ids)), ids))

    async def prune(self, *, before: Instant, now: Instant, limit: int) -> int:
        """Delete up to `limit` settled messages accepted before; return how many rows went, 0: nothing is left."""
        return await self._write(lambda connection: operations.purge(connection, before, now, limit))

    async def pause(self, provider: str, *, now: Instant) -> bool:
        """Pause a provider; False: it is paused already."""
        return await self._write(lambda connection: _execute(connection, _PAUSE, (provider, now)))

    async def resume(self, provider: str) -> bool:
        """Resume a provider; False: it was not paused."""
        return await self._write(lambda connection: _execute(connection, _RESUME, (provider,)))

    async def close(self) -> None:
        """Close the file."""
        await self.records.close()

    async def _write(self, change: Callable[[apsw.Connection], T]) -> T:
        return await asyncio.to_thread(self._run, change)

    def _run(self, change: Callable[[apsw.Connection], T]) -> T:
        try:
            connection = connect(self._path)
            try:
                with transaction(connection):
                    return change(connection)
            finally:
                connection.close()
        except apsw.Error as error:
            raise OutboxError(f"the outbox cannot be written: {error}") from error


async def open_for_operator(path: Path, *, secret_keys: Sequence[str]) -> SqliteOperator:
    """Open the outbox for an operator's changes. Raises OutboxError, SealBroken."""
    return SqliteOperator(path, await open_readonly(path, secret_keys=secret_keys))


def _change(connection: apsw.Connection, sql: str, bindings: tuple[object, ...], ids: Sequence[str]) -> OperatorResult:
    before = {id_: State(state) for id_, state in rows_of(connection, _STATES, (_list(ids),))}
    changed = tuple(id_ for (id_,) in rows_of(connection, sql, bindings))
    return OperatorResult(changed, {id_: state for id_, state in before.items() if id_ not in changed})


def _execute(connection: apsw.Connection, sql: str, bindings: tuple[object, ...]) -> bool:
    connection.execute(sql, bindings)
    return connection.changes() > 0


def _list(ids: Sequence[str]) -> str:
    return msgspec.json.encode(ids).decode()
