"""The outbox in PostgreSQL: any number of processes on any number of machines serve from it.

outbox = await PostgresOutbox.open("postgresql://…", secret_keys=[secret_key], clock=SystemClock())
...
await outbox.close()
"""

import asyncio
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial

import structlog
from msgspec.structs import replace

from mailroom.clock import Clock, Instant
from mailroom.errors import CannotKeep, LimitExceeded, OutboxError
from mailroom.message import Attempt, Message, State
from mailroom.outbox import (
    ClaimLimit,
    ClaimResult,
    DedupKey,
    EndedMessage,
    Lease,
    Leased,
    PutResult,
    Settlement,
    SettleResult,
)
from mailroom.outbox.limits import RateLimit
from mailroom.outbox.postgres import changes, claims, migrations
from mailroom.outbox.postgres.batches import Batches
from mailroom.outbox.postgres.database_pool import ANSWER_SECONDS, Database
from mailroom.outbox.postgres.database_time import DatabaseTime, ReadTime, read_time
from mailroom.outbox.postgres.leases import Leases
from mailroom.outbox.postgres.postgres_provider_data import PostgresCaptured, PostgresSecrets
from mailroom.outbox.postgres.puts import SELECT_ONCE, PutRequest, Putter, remember
from mailroom.outbox.postgres.records import PostgresRecords
from mailroom.outbox.postgres.shared import PostgresShared
from mailroom.outbox.postgres.shared.postgres_breakers import PostgresBreakers
from mailroom.outbox.postgres.shared.postgres_counts import PostgresCounts
from mailroom.outbox.postgres.wakeups import Wakeups
from mailroom.outbox.rows import attempts_text, recipient_key, row_of
from mailroom.outbox.shared import Shared
from mailroom.sealing import Entropy, Seal

log = structlog.get_logger()


class PostgresOutbox(PostgresRecords):
    """See `mailroom.outbox.Outbox`. Belongs to the event loop in which `open` was called.

    Attempts and outcomes have a transaction each at any time, and puts have two, with all of them that wait; PostgreSQL
    commits these, and those of other processes, together.
    """

    def __init__(
        self, database: Database, time: DatabaseTime, *, seal: Seal, putter: Putter, clock: Clock, owner: str
    ) -> None:
        super().__init__(database, seal)
        self._time = time
        self._clock = clock
        self._owner = owner
        self._putter = putter
        self._puts: Batches[PutRequest, PutResult] = Batches(self._put_all, at_once=2)
        self._attempts: Batches[tuple[str, str], bool] = Batches(self._attempt_all)
        self._outcomes: Batches[changes.Outcome, SettleResult] = Batches(self._settle_all)
        self._leases = Leases(database, time, clock, owner)
        self._wakeups = Wakeups(database, clock, owner)
        self._starting: asyncio.Task[None] | None = None
        self._is_open = False
        self._closed = False
        self.captured = PostgresCaptured(database, seal=seal, clock=clock)
        self.secrets = PostgresSecrets(database, seal)
        self.shared: Shared | None = PostgresShared(
            PostgresCounts(database, time, seal), PostgresBreakers(database, time, owner)
        )

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        listen_url: str | None = None,
        secret_keys: Sequence[str],
        clock: Clock,
        entropy: Entropy = os.urandom,
        recipient_limit: RateLimit | None = None,
        event_limit: RateLimit | None = None,
        read_time: ReadTime = read_time,
    ) -> "PostgresOutbox":
        """Connect for serving; migrates the schema if that is due. `Outbox` describes the limits.

        `listen_url`: the same database without a PgBouncer between, so that other processes can wake this one.

        Messages that are held until a restart are queued. Raises OutboxError when the database cannot be used,
        SealBroken when none of the secrets matches (the first one seals).
        """
        database = await Database.create(url)
        try:
            seal = await migrations.prepare(database, list(secret_keys), entropy)
            time = DatabaseTime(clock, read_time)
            putter = Putter(recipient_limit, event_limit)
            outbox = cls(database, time, seal=seal, putter=putter, clock=clock, owner=entropy(8).hex())
            await outbox._leases.start()
            await outbox._start()
        except BaseException:
            await database.close()
            raise
        outbox._wakeups.start(listen_url or url)
        return outbox

    async def put(
        self,
        message: Message,
        *,
        route: str = "",
        repeat_of: bytes | None = None,
        once: Sequence[DedupKey] = (),
        supersede_key: bytes | None = None,
        lease: Lease | None = None,
        due_at: Instant | None = None,
    ) -> PutResult:
        """Store a message; durable when this returns."""
        if lease:
            await self._leases.ensure_alive()
        there = self._time.there
        if "\0" in message.template + route:
            raise ValueError("names of templates and providers have no NUL")
        repeat_key = None if repeat_of is None else self._seal.key_of("repeat", repeat_of)
        mailbox = recipient_key(self._seal, message.recipient)
        message = replace(message, created_at=there(message.created_at), expires_at=there(message.expires_at))
        row = row_of(
            message,
            seal=self._seal,
            recipient_key=mailbox,
            repeat_key=repeat_key,
            supersede_key=None if supersede_key is None else self._seal.key_of("supersede", supersede_key),
            lease=lease,
            due_at=None if due_at is None else there(due_at),
            owner=self._owner,
            route=route,
        )
        request = PutRequest(
            row,
            id=message.id,
            created_at=message.created_at,
            expires_at=message.expires_at,
            now=self._time.now(),
            priority=message.priority,
            recipient_key=mailbox,
            repeat_key=repeat_key,
            once=tuple((self._once_key(one.what), None if one.until is None else there(one.until)) for one in once),
        )
        try:
            result = await self._puts.run(request)
        except (CannotKeep, asyncio.CancelledError):
            if lease:
                self._leases.lose_put(message.id, message.created_at + lease.seconds)
            raise
        if result.to_be_sent and not (lease or due_at):
            self._wakeups.send()
        return result

    async def claim(self, limits: Sequence[ClaimLimit], *, lease_seconds: float) -> ClaimResult:
        """Lease due messages."""
        now = self._time.now()
        claim = claims.Claim(now, self._leases.lease_until(now, lease_seconds), tuple(limits), self._owner, self._seal)
        try:
            result = await claims.claim(self._database, claim, self._leases.ensure_alive)
        except BaseException:
            self._leases.lose_claim(claim.until)
            raise
        next_due = None if result.next_due is None else self._time.here(result.next_due)
        return ClaimResult(tuple(self._here(one) for one in result.leased), next_due)

    async def reroute(self, routes: Mapping[str, str]) -> None:
        """Queue leased messages again under other routes."""
        await claims.reroute(self._database, routes, self._owner)

    async def attempt(self, id: str, attempts: tuple[Attempt, ...]) -> bool:  # noqa: A002 - the field's word
        """Record that another attempt on a leased message begins; False: the lease was lost, do not dial."""
        return await self._attempts.run((id, attempts_text(attempts)))

    async def settle(self, settlement: Settlement) -> SettleResult:
        """Record what became of a leased message; moves it to the history, without payload, if it is settled."""
        if settlement.state is State.SENDING:
            raise ValueError("a message cannot be settled as sending")
        due_at, rendered = settlement.due_at, settlement.rendered
        change = changes.Outcome(
            id=settlement.id,
            state=settlement.state.value,
            attempts=attempts_text(settlement.attempts),
            reason=settlement.reason.replace("\0", ""),
            provider_message_id=settlement.provider_message_id.replace("\0", ""),
            due_at=self._time.now() if due_at is None else self._time.there(due_at),
            rendered=self._seal.seal_json(settlement.id, "rendered", rendered) if rendered else None,
        )
        return await self._outcomes.run(change)

    async def release(self, reason: str, *, now: Instant, limit: int | None = None) -> int:
        """Queue messages again that are held for this reason, oldest first; returns how many."""
        return await changes.release_in_steps(self._database, reason, self._time.there(now), limit)

    async def expire(self, *, now: Instant, limit: int) -> list[EndedMessage]:
        """Change messages to `expired`, payload erased: queued, held, or leased until now."""
        moment = self._time.there(now)
        return await self._database.run(lambda connection: changes.expire(connection, moment, limit))

    async def purge(self, *, before: Instant, now: Instant, limit: int) -> int:
        """Delete up to `limit` settled messages accepted before, and what was remembered until `now`."""
        there = self._time.there
        return await self._database.run(partial(changes.purge, before=there(before), now=there(now), limit=limit))

    async def index(self, *, limit: int) -> int:  # noqa: ARG002 - the protocol's
        """Return 0: accepting a message indexes its recipient."""
        return 0

    async def remember(self, once: DedupKey) -> None:
        """Store an event that belongs to no message; durable when this returns."""
        until = None if once.until is None else self._time.there(once.until)
        await self._database.run(partial(remember, key=self._once_key(once.what), until=until))

    async def happened(self, what: bytes) -> bool:
        """Return whether this event is stored, and still remembered."""
        rows = await self._database.rows(SELECT_ONCE, [self._once_key(what)])
        return any(row["until"] is None or row["until"] > self._time.now() for row in rows)

    async def was_changed(self) -> bool:
        """Return True: other processes write all the time, and to look what is due costs less than to ask."""
        return True

    async def woken(self) -> None:
        """Return when another process has told that messages wait."""
        await self._wakeups.wait()

    async def truncate_log(self) -> bool:
        """Return True: PostgreSQL's log is not ours."""
        return True

    async def close(self) -> None:
        """Finish the operations that wait, end the leases, and close the connections."""
        if self._closed:
            return
        self._closed = True
        await self._wakeups.close()
        if self._starting and not self._starting.done():
            self._starting.cancel()
            await asyncio.wait((self._starting,))
        for batches in (self._puts, self._attempts, self._outcomes, self.captured):
            await batches.close()
        with suppress(CannotKeep):  # others end the leases later
            await self._leases.close()
        await super().close()

    async def _start(self) -> None:
        """Queue what is held until a restart; what takes longer than an answer may goes on beside the serving."""

        async def finish() -> None:
            try:
                await changes.start(self._database, self._time.now())
            except CannotKeep as error:
                if not self._is_open:
                    raise
                log.warning("outbox.write_failed", problem=str(error))

        self._starting = asyncio.create_task(finish(), name="outbox.start")
        await asyncio.wait((self._starting,), timeout=ANSWER_SECONDS)
        self._is_open = True
        if self._starting.done():
            await self._starting

    async def _put_all(self, requests: Sequence[PutRequest]) -> list[PutResult | LimitExceeded | OutboxError]:
        return await self._database.run(partial(self._putter.put_all, requests=requests))

    async def _attempt_all(self, begun: Sequence[tuple[str, str]]) -> list[bool]:
        return await changes.attempt(self._database, begun, owner=self._owner)

    async def _settle_all(self, outcomes: Sequence[changes.Outcome]) -> list[SettleResult]:
        return await changes.settle(self._database, outcomes, owner=self._owner, now=self._time.now())

    def _here(self, leased: Leased) -> Leased:
        """Convert a message's times to those of this process's clock."""
        here, one = self._time.here, leased.message
        message = replace(one, created_at=here(one.created_at), expires_at=here(one.expires_at))
        return replace(leased, message=message)

    def _once_key(self, what: bytes) -> bytes:
        return self._seal.key_of("once", what)
