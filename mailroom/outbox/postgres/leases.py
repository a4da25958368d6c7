"""Keeps this process's leases alive, and ends those of processes that are dead or cut off.

Each process prolongs its row in `owners` every few seconds. When a row was not prolonged in time, any other process
deletes it, and the messages leased to it are due again: a code does not wait for the end of its lease. A process that
was cut off and returns has a row again, and settles nothing that was taken from it, because the owner differs.
"""

import asyncio
from functools import partial
from typing import Final

import structlog

from mailroom.clock import Clock, Instant
from mailroom.errors import CannotKeep
from mailroom.outbox import REPEAT_SECONDS
from mailroom.outbox.postgres import changes
from mailroom.outbox.postgres.database_pool import Connection, Database
from mailroom.outbox.postgres.database_time import DatabaseTime

_BEAT_SECONDS: Final = 1.5
ALIVE_SECONDS: Final = 6.0
"""Longer than a few missed beats; shorter than a reader waits for a code."""
_LONGEST_WINDOW_SECONDS: Final = 3600.0
"""`webhook.max_per_hour`"""
_STEP: Final = 5000

_PROLONG: Final = """
    INSERT INTO mailroom.owners (owner, alive_until) VALUES ($1, $2)
        ON CONFLICT (owner) DO UPDATE SET alive_until = excluded.alive_until
"""

# In the future: the database's clock was set back, and the row would live on.
_REAP: Final = """
    DELETE FROM mailroom.owners
     WHERE owner IN (
           SELECT owner
             FROM mailroom.owners
            WHERE owner <> $1 AND alive_until NOT BETWEEN $2 AND $3
              FOR UPDATE SKIP LOCKED)
 RETURNING owner
"""

_END_LEASES: Final = """
    UPDATE mailroom.messages
       SET state = 'queued', due_at = least($2, created_at, expires_at), owner = NULL
     WHERE owner = ANY($1::text[]) AND state = 'sending'
 RETURNING number
"""

# A put or a claim whose answer was lost with its connection: nobody sends what it has leased.
_END_LOST: Final = """
    UPDATE mailroom.messages
       SET state = 'queued', due_at = least($2, created_at, expires_at), owner = NULL
     WHERE owner = $1 AND state = 'sending' AND (id = ANY($3::text[]) OR due_at = ANY($4::float8[]))
"""

_FORGET_OWNER: Final = "DELETE FROM mailroom.owners WHERE owner = $1"

_FORGET_BODIES: Final = """
    DELETE FROM mailroom.repeats
     WHERE key IN (SELECT key FROM mailroom.repeats WHERE created_at < $1 LIMIT $2 FOR UPDATE SKIP LOCKED)
"""
_FORGET_EVENTS: Final = "DELETE FROM mailroom.counted_events WHERE at < $1"

log = structlog.get_logger()


class Leases:
    """The leases of this process, by its random name."""

    def __init__(self, database: Database, time: DatabaseTime, clock: Clock, owner: str) -> None:
        self._database = database
        self._time = time
        self._clock = clock
        self._owner = owner
        self._lost_puts: set[str] = set()
        self._lost_claims: set[Instant] = set()
        self._beaten_at: Instant | None = None
        self._alive_until: Instant = 0.0
        self._reviving = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Register this process, and prolong its leases from now on. Raises CannotKeep."""
        await self.beat()
        self._task = asyncio.create_task(self._beat_forever(), name="outbox.leases")

    def lose_put(self, id_: str) -> None:
        """End the lease of a message that may have been stored although its caller was refused."""
        self._lost_puts.add(id_)

    def lose_claim(self, until: Instant) -> None:
        """End the leases of a claim that may have been committed although its result was lost."""
        self._lost_claims.add(until)

    async def beat(self) -> None:
        """Prolong the leases of this process, and end those of others that did not. Raises CannotKeep."""
        puts, claims = set(self._lost_puts), set(self._lost_claims)
        self._alive_until = await self._database.run(partial(self._beat, puts, claims))
        self._lost_puts -= puts
        self._lost_claims -= claims

    async def ensure_alive(self) -> None:
        """Beat first if others may take this process for dead, before it leases anything. Raises CannotKeep.

        It may have been stopped or cut off, and its row deleted. If it died before its next beat, nobody would end
        leases of an owner that has no row.
        """
        if self._time.now() < self._alive_until:
            return
        async with self._reviving:
            if self._time.now() >= self._alive_until:
                await self.beat()

    async def close(self) -> None:
        """End this process's leases: what it did not settle is due for others."""
        if self._task:
            self._task.cancel()
            await asyncio.wait((self._task,))
        await self._database.run(self._leave)

    async def _beat_forever(self) -> None:
        while True:
            await self._clock.sleep(_BEAT_SECONDS)
            try:
                await self.beat()
            except CannotKeep as error:
                log.warning("outbox.write_failed", problem=str(error))
            except Exception:  # the loop must not end
                log.exception("outbox.beat_failed")

    async def _beat(self, lost_puts: set[str], lost_claims: set[Instant], connection: Connection) -> Instant:
        """Do it in one transaction; return until when this process is taken for alive."""
        await self._time.measure(connection)
        now = self._time.now()
        await connection.execute(_PROLONG, self._owner, now + ALIVE_SECONDS)
        if lost_puts or lost_claims:
            await connection.execute(_END_LOST, self._owner, now, list(lost_puts), list(lost_claims))
        # After an outage of the database everybody has missed beats, so the first one ends no leases.
        is_steady = self._beaten_at is not None and 0 <= now - self._beaten_at < ALIVE_SECONDS
        self._beaten_at = now
        if is_steady and (dead := await connection.fetch(_REAP, self._owner, now, now + 4 * ALIVE_SECONDS)):
            owners = [row["owner"] for row in dead]
            taken = await connection.fetch(_END_LEASES, owners, now)
            await changes.end_superseded(connection, now)
            log.warning("outbox.leases_ended", processes=len(owners), messages=len(taken))
        await connection.execute(_FORGET_BODIES, now - 2 * REPEAT_SECONDS, _STEP)
        await connection.execute(_FORGET_EVENTS, now - 2 * _LONGEST_WINDOW_SECONDS)
        return now + ALIVE_SECONDS

    async def _leave(self, connection: Connection) -> None:
        await connection.fetch(_END_LEASES, [self._owner], self._time.now())
        await connection.execute(_FORGET_OWNER, self._owner)
