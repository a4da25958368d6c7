"""Keeps this process's leases alive, and ends those of processes that are dead or cut off.

Each process prolongs its row in `owners` every few seconds. When a row was not prolonged in time, any other process
ends the leases of it, in steps, and then deletes it: a code does not wait for the end of its lease. A process that was
cut off and returns has a row again, and settles nothing that was taken from it, because the owner differs.
"""

import asyncio
from functools import partial
from math import nextafter
from typing import Final

import structlog

from mailroom.clock import Clock, Instant
from mailroom.errors import CannotKeep
from mailroom.outbox import REPEAT_SECONDS
from mailroom.outbox.postgres import changes
from mailroom.outbox.postgres.database_pool import ANSWER_SECONDS, Connection, Database
from mailroom.outbox.postgres.database_time import DatabaseTime

_BEAT_SECONDS: Final = 1.5
ALIVE_SECONDS: Final = 6.0
"""Longer than a few missed beats; shorter than a reader waits for a code."""
_LONGEST_WINDOW_SECONDS: Final = 3600.0
"""`webhook.max_per_hour`"""
_STEP: Final = 5000
_LOST_SECONDS: Final = 2 * ANSWER_SECONDS
"""How long after a put or a claim was given up its COMMIT may still take effect."""

_PROLONG: Final = """
    INSERT INTO mailroom.owners (owner, alive_until) VALUES ($1, $2)
        ON CONFLICT (owner) DO UPDATE SET alive_until = excluded.alive_until
"""

# In the future: the database's clock was set back, and the row would live on.
_DEAD: Final = """
    SELECT owner
      FROM mailroom.owners
     WHERE owner <> $1 AND alive_until NOT BETWEEN $2 AND $3
       FOR UPDATE SKIP LOCKED
"""

_END_LEASES: Final = """
    UPDATE mailroom.messages
       SET state = 'queued', due_at = least($2, created_at, expires_at), owner = NULL
     WHERE id = ANY (ARRAY (
           SELECT id
             FROM mailroom.messages
            WHERE owner = ANY($1::text[]) AND state = 'sending'
            ORDER BY due_at
            LIMIT $3
              FOR UPDATE SKIP LOCKED))
 RETURNING id
"""

# A put or a claim whose answer was lost with its connection: nobody sends what it has leased. By the end of the lease,
# too: this process may claim the message again, and has another lease then.
_END_LOST_PUTS: Final = """
    UPDATE mailroom.messages
       SET state = 'queued', due_at = least($2, created_at, expires_at), owner = NULL
     WHERE id = ANY ($3::text[]) AND due_at = ($4::float8[])[array_position($3::text[], id)] AND owner = $1
"""

_END_LOST_CLAIMS: Final = """
    UPDATE mailroom.messages
       SET state = 'queued', due_at = least($2, created_at, expires_at), owner = NULL
     WHERE due_at = ANY($3::float8[]) AND owner = $1 AND state = 'sending'
"""

# The row is what other processes know of an owner's leases, so it stays while there are any.
_FORGET_OWNERS: Final = """
    DELETE FROM mailroom.owners
     WHERE owner = ANY($1::text[])
       AND owner NOT IN (SELECT owner FROM mailroom.messages WHERE state = 'sending' AND owner IS NOT NULL)
"""

_FORGET_BODIES: Final = """
    DELETE FROM mailroom.repeats
     WHERE key = ANY (ARRAY (SELECT key FROM mailroom.repeats WHERE created_at < $1 LIMIT $2 FOR UPDATE SKIP LOCKED))
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
        # With the time until when they are looked for.
        self._lost_puts: dict[tuple[str, Instant], Instant] = {}
        self._lost_claims: dict[Instant, Instant] = {}
        self._claimed_at: Instant | None = None
        self._claims = 0
        self._beaten_at: Instant | None = None
        self._is_steady = False
        self._alive_until: Instant = 0.0
        self._reviving = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Register this process, and prolong its leases from now on. Raises CannotKeep."""
        await self.beat()
        self._task = asyncio.create_task(self._beat_forever(), name="outbox.leases")

    def lease_until(self, now: Instant, seconds: float) -> Instant:
        """Return when the leases of a claim end: no two claims of this process have the same end."""
        self._claims = self._claims + 1 if now == self._claimed_at else 0
        self._claimed_at = now
        until = now + seconds
        for _ in range(self._claims):
            until = nextafter(until, now)
        return until

    def lose_put(self, id_: str, until: Instant) -> None:
        """End the lease of a message that may have been stored, or may yet be, although its caller was refused."""
        self._lost_puts[id_, until] = self._time.now() + _LOST_SECONDS

    def lose_claim(self, until: Instant) -> None:
        """End the leases of a claim that may have been committed, or may yet be, although its result was lost."""
        self._lost_claims[until] = self._time.now() + _LOST_SECONDS

    async def beat(self) -> None:
        """Prolong the leases of this process, and end those of others that did not. Raises CannotKeep."""
        await self._prolong()
        await self._end_lost()
        await self._database.run(partial(changes.end_superseded, now=self._time.now()))
        # After an outage of the database everybody has missed beats, so the first one ends no leases.
        while self._is_steady and await self._database.run(self._end_dead) == changes.STEP:
            await self._prolong()
        await self._database.run(self._forget)

    async def ensure_alive(self) -> None:
        """Beat first if others may take this process for dead, before it leases anything. Raises CannotKeep.

        It may have been stopped or cut off, and its row deleted. If it died before its next beat, nobody would end
        leases of an owner that has no row.
        """
        if self._time.now() < self._alive_until:
            return
        async with self._reviving:
            if self._time.now() >= self._alive_until:
                await self._prolong()

    async def close(self) -> None:
        """End this process's leases: what it did not settle is due for others."""
        if self._task:
            self._task.cancel()
            await asyncio.wait((self._task,))
        while await self._database.run(self._end_own) == changes.STEP:
            pass

    async def _beat_forever(self) -> None:
        while True:
            await self._clock.sleep(_BEAT_SECONDS)
            try:
                await self.beat()
            except CannotKeep as error:
                log.warning("outbox.write_failed", problem=str(error))
            except Exception:  # the loop must not end
                log.exception("outbox.beat_failed")

    async def _prolong(self) -> None:
        """Do it in a short transaction of its own: this process is taken for dead without it."""
        self._alive_until = await self._database.run(self._write_alive)

    async def _write_alive(self, connection: Connection) -> Instant:
        await self._time.measure(connection)
        now = self._time.now()
        await connection.execute(_PROLONG, self._owner, now + ALIVE_SECONDS)
        self._is_steady = self._beaten_at is not None and 0 <= now - self._beaten_at < ALIVE_SECONDS
        self._beaten_at = now
        return now + ALIVE_SECONDS

    async def _end_lost(self) -> None:
        """End the leases that nobody uses, again with each beat: their COMMIT may be under way for a while."""
        puts, claims, now = dict(self._lost_puts), dict(self._lost_claims), self._time.now()
        if puts:
            ids, ends = zip(*puts, strict=True)
            await self._database.run(lambda one: one.execute(_END_LOST_PUTS, self._owner, now, ids, ends))
        if claims:
            await self._database.run(lambda one: one.execute(_END_LOST_CLAIMS, self._owner, now, list(claims)))
        for put, until in puts.items():
            if until <= now:
                self._lost_puts.pop(put, None)
        for claim, until in claims.items():
            if until <= now:
                self._lost_claims.pop(claim, None)

    async def _end_dead(self, connection: Connection) -> int:
        """End leases of processes that are dead, one step of them; return how many.

        Their rows are locked meanwhile, so that one that returns waits, and deleted by the last step.
        """
        now = self._time.now()
        dead = [row["owner"] for row in await connection.fetch(_DEAD, self._owner, now, now + 4 * ALIVE_SECONDS)]
        return await self._end_leases(connection, dead, now) if dead else 0

    async def _end_own(self, connection: Connection) -> int:
        return await self._end_leases(connection, [self._owner], self._time.now())

    async def _end_leases(self, connection: Connection, owners: list[str], now: Instant) -> int:
        ended = len(await connection.fetch(_END_LEASES, owners, now, changes.STEP))
        if ended < changes.STEP:
            await connection.execute(_FORGET_OWNERS, owners)
        if owners != [self._owner]:
            log.warning("outbox.leases_ended", processes=len(owners), messages=ended)
        return ended

    async def _forget(self, connection: Connection) -> None:
        now = self._time.now()
        await connection.execute(_FORGET_BODIES, now - 2 * REPEAT_SECONDS, _STEP)
        await connection.execute(_FORGET_EVENTS, now - 2 * _LONGEST_WINDOW_SECONDS)
