"""Reads the outbox: for the console, metrics, and commands that run beside the server."""

import asyncio
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

import apsw
import msgspec

from mailroom.clock import Instant
from mailroom.errors import OutboxError
from mailroom.message import Outcome, Priority, State, new_id
from mailroom.outbox import AttemptSummary, Depth, Record
from mailroom.outbox.rows import RECORD_COLUMNS, languages_of_text, recipient_key, record_of
from mailroom.outbox.sqlite.database import Connection, connect_readonly, rows_of
from mailroom.sealing import Seal

Result = TypeVar("Result")

_DAY_SECONDS: Final = 86400.0
_SHORTEST_ID: Final = len("01234567-89ab")
"""Characters of an id that are the time of acceptance in milliseconds (UUIDv7)."""

_GET: Final = f"SELECT {RECORD_COLUMNS} FROM messages WHERE id = ?"  # noqa: S608 - a constant

# The newest messages are not indexed yet (`operations.index`).
_OF_RECIPIENT: Final = """number IN (
           SELECT number FROM recipients WHERE recipient_key = ?1
            UNION ALL
           SELECT number FROM messages WHERE number > (SELECT indexed FROM progress) AND recipient_key = ?1)"""

_LANGUAGES: Final = f"""
    SELECT languages
      FROM messages
     WHERE {_OF_RECIPIENT} AND languages <> '[]'
     ORDER BY +id DESC
     LIMIT 1
"""  # noqa: S608 - a constant

_DEPTH: Final = """
    SELECT priority, count(*), min(created_at)
      FROM messages
     WHERE due_at IS NOT NULL AND state IN ('queued', 'sending')
     GROUP BY priority
"""

_HELD: Final = """
    SELECT reason, count(*)
      FROM messages
     WHERE state = 'held' AND (?1 IS NULL OR priority = ?1)
     GROUP BY reason
"""

_PAUSED: Final = "SELECT provider, since FROM paused ORDER BY provider"

_PREFIX: Final = "SELECT id FROM messages WHERE id >= ?1 AND id < ?1 || 'g' ORDER BY id LIMIT 2"

# It has no index: this reads all messages, after the id was not found.
_OF_PROVIDER: Final = "SELECT id FROM messages WHERE provider_message_id = ? ORDER BY id DESC LIMIT 2"

_NEIGHBOURS: Final = """
    SELECT value,
           (SELECT max(id) FROM messages WHERE id < value),
           (SELECT min(id) FROM messages WHERE id > value)
      FROM json_each(?)
"""

_IN_STATE: Final = "SELECT id FROM messages WHERE state = ? AND due_at IS NOT NULL ORDER BY number"

_COUNT_SETTLED: Final = "SELECT count(*) FROM messages WHERE id < ? AND created_at < ? AND due_at IS NULL"

# At most ?2 of the newest messages since ?1, and as many of the older ones that are not settled.
_RECENT: Final = """
    WITH recent (attempts, priority) AS (
        SELECT * FROM (SELECT attempts, priority FROM messages WHERE id >= ?1 ORDER BY id DESC LIMIT ?2)
        UNION ALL
        SELECT * FROM (SELECT attempts, priority
                         FROM messages
                        WHERE due_at IS NOT NULL AND +id < ?1  -- by due_at, not by id
                        LIMIT ?2)
    )"""

_TRIED: Final = f"""{_RECENT},
    tried (provider, outcome, started_at, words) AS (
        SELECT value ->> 'provider', value ->> 'outcome', value ->> 'started_at',
               coalesce(value ->> 'words', '')  -- what is empty may be left out
          FROM recent, json_each(attempts)
         WHERE json_valid(attempts) AND (?4 IS NULL OR priority = ?4)
    )
    SELECT provider, outcome, count(*), max(started_at), words  -- of the row with the maximum
      FROM tried
     WHERE started_at >= ?3
     GROUP BY provider, outcome
     ORDER BY max(started_at) DESC
"""  # noqa: S608 - a constant

_ACCEPTED: Final = f"""{_RECENT},
    ended (at) AS (
        SELECT (value ->> 'started_at') + coalesce(value ->> 'duration_seconds', 0)
          FROM recent, json_each(attempts)
         WHERE json_valid(attempts) AND value ->> 'provider' = ?4 AND value ->> 'outcome' IN ('accepted', 'uncertain')
    )
    SELECT max(at), count(*)
      FROM ended
     WHERE at >= ?3
     GROUP BY CAST(at / ?5 AS INTEGER)
     ORDER BY 1
"""  # noqa: S608 - a constant


class Reader:
    """A read-only connection in a thread of its own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: Connection | None = None
        self._closed = False
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="outbox-reader")

    async def run(self, read: Callable[[apsw.Connection], Result]) -> Result:
        """Return what a function reads. Raises OutboxError when the file cannot be read."""
        if self._closed:
            raise OutboxError("the outbox is closed")
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._run, read)

    async def rows(self, sql: str, bindings: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return all rows of a query. Raises OutboxError when the file cannot be read."""
        return await self.run(lambda connection: rows_of(connection, sql, bindings))

    def _run(self, read: Callable[[apsw.Connection], Result]) -> Result:
        try:
            if self._connection is not None and (self._connection.database_moved() or self._connection.log_moved()):
                self._disconnect()
            if self._connection is None:
                self._connection = connect_readonly(self._path)
            return read(self._connection)
        except apsw.Error as error:
            self._disconnect()
            raise OutboxError(f"the outbox cannot be read: {error}") from error

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close(True)

    async def close(self) -> None:
        """Close the connection and end the thread, once what is being read has been read."""
        if self._closed:
            return
        self._closed = True
        await asyncio.get_running_loop().run_in_executor(self._executor, self._disconnect)
        self._executor.shutdown()


class SqliteRecords:
    """The read-only methods of the outbox; needs no lock, and works while another process serves."""

    def __init__(self, path: Path, reader: Reader, seal: Seal) -> None:
        self._path = path
        self._reader = reader
        self._seal = seal

    async def get(self, id: str) -> Record | None:  # noqa: A002 - the field's word
        """Return one message's record."""
        rows = await self._reader.rows(_GET, (id,))
        return record_of(rows[0], self._seal) if rows else None

    async def find(
        self,
        *,
        recipient: str | None = None,
        state: State | None = None,
        before: str | None = None,
        limit: int = 50,
    ) -> list[Record]:
        """Return records, newest first; `before` is the id at which the last page ended."""
        where = ["TRUE"]
        order = "id"
        bindings: list[bytes | str] = []
        if recipient is not None:
            try:
                bindings.append(recipient_key(self._seal, recipient))
            except ValueError:  # not an address, so it has no messages
                return []
            where.append(_OF_RECIPIENT)
            order = "+id"  # sorting these few is faster than a search by id among all
        if state is not None:
            where.append("state = ?")
            bindings.append(state.value)
            # SQLite uses a partial index only if the query repeats its condition.
            if state in {State.QUEUED, State.SENDING}:
                where.append("due_at IS NOT NULL")
            elif state not in {State.SENT, State.DELIVERED}:
                where.append("state NOT IN ('queued', 'sending', 'sent', 'delivered')")
        if before is not None:
            where.append(f"{order} < ?")
            bindings.append(before)
        sql = f"SELECT {RECORD_COLUMNS} FROM messages WHERE {' AND '.join(where)} ORDER BY {order} DESC LIMIT ?"  # noqa: S608 - of constants
        rows = await self._reader.rows(sql, (*bindings, limit))
        return [record_of(row, self._seal) for row in rows]

    async def languages(self, recipient: str) -> tuple[str, ...]:
        """Return the languages of the last mail to this address that had any, or ()."""
        try:
            key = recipient_key(self._seal, recipient)
        except ValueError:  # not an address, so it has no messages
            return ()
        rows = await self._reader.rows(_LANGUAGES, (key,))
        return languages_of_text(rows[0][0]) if rows else ()

    async def depth(self) -> Mapping[Priority, Depth]:
        """Return the number and age of waiting messages, by priority."""
        rows = await self._reader.rows(_DEPTH)
        depths = {Priority(priority): Depth(count, oldest) for priority, count, oldest in rows}
        return {priority: depths.get(priority, Depth(0, None)) for priority in Priority}

    async def held(self, *, priority: Priority | None = None) -> Mapping[str, int]:
        """Return how many messages are held, by reason; `priority`: only these."""
        return {reason: count for reason, count in await self._reader.rows(_HELD, (priority,))}  # noqa: C416 - dict() loses the types

    async def paused(self) -> Mapping[str, Instant]:
        """Return the providers that an operator has paused, and since when."""
        return {provider: since for provider, since in await self._reader.rows(_PAUSED)}  # noqa: C416 - likewise

    async def resolve(self, prefix: str) -> str:
        """Return the id that begins so, or has this provider's id. Raises OutboxError when none has, or several."""
        ids: list[str] = [id_ for (id_,) in await self._reader.rows(_PREFIX, (prefix.lower(),))] if prefix else []
        if prefix and not ids:
            ids = [id_ for (id_,) in await self._reader.rows(_OF_PROVIDER, (prefix,))]
        if not ids:
            raise OutboxError(f"there is no message {prefix}; records are deleted after `retention`")
        if len(ids) > 1:
            raise OutboxError(f"more than one id begins with {prefix}: write more of it")
        return ids[0]

    async def short_ids(self, ids: Sequence[str]) -> Mapping[str, str]:
        """Return for each id its shortest prefix that no other id has; at least its time of acceptance."""
        rows = await self._reader.rows(_NEIGHBOURS, (msgspec.json.encode(ids).decode(),))
        return {id_: _shorten(id_, [other for other in others if other]) for id_, *others in rows}

    async def in_state(self, state: State) -> list[str]:
        """Return the ids of all messages that wait in this state, oldest first."""
        return [id_ for (id_,) in await self._reader.rows(_IN_STATE, (state.value,))]

    async def count_settled(self, *, before: Instant) -> int:
        """Return how many settled messages were accepted before."""
        [(count,)] = await self._reader.rows(_COUNT_SETTLED, (new_id(max(0.0, before), bytes(10)), before))
        return int(count)

    async def tried(
        self, *, since: Instant, accepted: Instant, priority: Priority | None = None, limit: int = -1
    ) -> list[AttemptSummary]:
        """Return the numbers of attempts that began at `since` or later, by provider and outcome, newest first.

        Counts messages accepted at `accepted` or later, and older ones that are not settled yet: attempts have no
        index, and reading all messages would take too long. `priority`: only these; `limit`: at most so many of the
        newest messages, and as many of the older ones.
        """
        rows = await self._reader.rows(_TRIED, (new_id(max(0.0, accepted), bytes(10)), limit, since, priority))
        return [
            AttemptSummary(provider, Outcome(outcome) if outcome else None, count, last_at, words)
            for provider, outcome, count, last_at, words in rows
        ]

    async def accepted(self, provider: str, *, since: Instant, slice_seconds: float) -> list[tuple[Instant, int]]:
        """Return how many mails a provider has accepted since then, or may have: time and number for each slice.

        Reads messages of the period and of the day before it, and older ones that are not settled yet.
        """
        oldest = new_id(max(0.0, since - _DAY_SECONDS), bytes(10))
        return [
            (at, count)
            for at, count in await self._reader.rows(_ACCEPTED, (oldest, -1, since, provider, slice_seconds))
        ]

    async def free_bytes(self) -> int | None:
        """Return the free octets of the outbox's file system; None: unknown."""
        try:
            return (await asyncio.to_thread(shutil.disk_usage, self._path.parent)).free
        except OSError:
            return None

    async def close(self) -> None:
        """Close the file."""
        await self._reader.close()


def _shorten(id_: str, others: Sequence[str]) -> str:
    """Return the shortest prefix of an id that others do not begin with."""
    prefixes = (id_[:length] for length in range(_SHORTEST_ID, len(id_) + 1))
    return next(prefix for prefix in prefixes if not any(other.startswith(prefix) for other in others))
