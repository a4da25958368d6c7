"""The outbox for operators' commands, from any machine that reaches the database. Compare with `sqlite/operator.py`.

outbox = await open_operator(url, secret_keys=keys)
await outbox.retry(["0192…"])
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from mailroom.clock import Instant
from mailroom.errors import OutboxError
from mailroom.message import State
from mailroom.outbox import HELD_OPERATOR, RELEASED_AT_START
from mailroom.outbox.operator_outbox import OperatorResult
from mailroom.outbox.postgres import changes, migrations
from mailroom.outbox.postgres.database_pool import Connection, Database
from mailroom.outbox.postgres.postgres_provider_data import PostgresSecrets
from mailroom.outbox.postgres.records import PostgresRecords
from mailroom.outbox.postgres.shared.postgres_breakers import read_open
from mailroom.outbox.postgres.wakeups import NOTIFY
from mailroom.outbox.shared import OpenBreaker

Result = TypeVar("Result")

_PATIENCE_SECONDS: Final = 10.0
"""An operator has more of it than a request."""

_STATES: Final = """
    SELECT id, state FROM mailroom.messages WHERE id = ANY($1::text[])
     UNION ALL
    SELECT id, state FROM mailroom.history WHERE id = ANY($1::text[])
"""

# In the past by any clock, so that it is due at once.
_RETRY: Final = """
    UPDATE mailroom.messages
       SET state = 'queued', due_at = least(created_at, expires_at), reason = ''
     WHERE id = ANY($2::text[]) AND state IN ('queued', 'held') AND expires_at > $1
 RETURNING id
"""

# What is being sent is refused, unless the process that sent it is gone: by the database's clock, if ours is ahead.
_HOLD: Final = f"""
    UPDATE mailroom.messages
       SET state = 'held',
           reason = CASE WHEN state = 'held' AND reason NOT IN ({", ".join(f"'{one}'" for one in RELEASED_AT_START)})
                         THEN reason ELSE '{HELD_OPERATOR}' END,
           owner = NULL,
           due_at = expires_at
     WHERE id = ANY($2::text[])
       AND (state IN ('queued', 'held') OR state = 'sending' AND owner NOT IN (
            SELECT owner FROM mailroom.owners WHERE alive_until > least($1, extract(epoch FROM clock_timestamp()))))
 RETURNING id
"""  # noqa: S608 - a constant

_PAUSE: Final = "INSERT INTO mailroom.paused (provider, since) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING 1"
_RESUME: Final = "DELETE FROM mailroom.paused WHERE provider = $1 RETURNING 1"


class PostgresOperator(PostgresRecords):
    """The outbox for an operator's command: reads, and changes rows in transactions of its own."""

    @property
    def secrets(self) -> PostgresSecrets:
        """The secrets that providers got while they ran."""
        return PostgresSecrets(self._database, self._seal)

    async def open_breakers(self) -> Mapping[str, OpenBreaker]:
        """Return the providers that all processes skip."""
        return await self._database.run(read_open)

    async def retry(self, ids: Sequence[str], *, now: Instant) -> OperatorResult:
        """Let queued and held messages be due now; those that have expired, or are sent or settled, are refused."""
        return await self._write(partial(_change, _RETRY, now, ids))

    async def cancel(self, ids: Sequence[str], *, now: Instant) -> OperatorResult:
        """End queued and held messages unsent; what is being sent cannot be recalled."""
        return await self._write(partial(_change, changes.CANCEL, now, ids))

    async def hold(self, ids: Sequence[str], *, now: Instant) -> OperatorResult:
        """Hold queued messages, and those whose process died while they were sent."""
        return await self._write(partial(_change, _HOLD, now, ids))

    async def backup(self, target: Path, on_progress: Callable[[float], None]) -> None:  # noqa: ARG002 - the protocol's
        """Raise OutboxError: PostgreSQL has its own tools for that."""
        raise OutboxError("back up PostgreSQL by its own tools: pg_dump --schema mailroom, or continuous archiving")

    async def prune(self, *, before: Instant, limit: int) -> int:
        """Delete up to `limit` settled messages accepted before; return how many, 0: there are none left."""
        return await self._write(lambda connection: changes.delete_settled(connection, before, limit))

    async def pause(self, provider: str, *, now: Instant) -> bool:
        """Pause a provider; False: it is paused already."""
        return bool(await self._write(lambda connection: connection.fetch(_PAUSE, provider, now)))

    async def resume(self, provider: str) -> bool:
        """Resume a provider; False: it was not paused."""
        return bool(await self._write(lambda connection: connection.fetch(_RESUME, provider)))

    async def _write(self, change: Callable[[Connection], Awaitable[Result]]) -> Result:
        async def change_and_notify(connection: Connection) -> Result:
            result = await change(connection)
            await connection.execute(NOTIFY, "")
            return result

        return await self._database.run(change_and_notify)


async def open_operator(url: str, *, secret_keys: Sequence[str]) -> PostgresOperator:
    """Open the outbox for a command, also while servers use it.

    Raises OutboxError when it cannot be read, SealBroken when no secret matches.
    """
    database = await Database.create(url, seconds=_PATIENCE_SECONDS)
    try:
        return PostgresOperator(database, await migrations.unlock(database, list(secret_keys)))
    except BaseException:
        await database.close()
        raise


async def _change(sql: str, now: Instant, ids: Sequence[str], connection: Connection) -> OperatorResult:
    rows: Sequence[Any] = await connection.fetch(_STATES, list(ids))
    before = {id_: State(state) for id_, state in rows}
    changed = tuple(row["id"] for row in await connection.fetch(sql, now, list(ids)))
    return OperatorResult(changed, {id_: state for id_, state in before.items() if id_ not in changed})
