"""The outbox in a SQLite file: for one machine, with one process that serves from it.

outbox = await SqliteOutbox.open(path, secret_keys=[secret_key], clock=SystemClock())
...
await outbox.close()
"""

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import apsw
import structlog

from mailroom.clock import Clock, Instant
from mailroom.errors import OutboxError, OutboxInUse
from mailroom.message import Attempt, Message, State
from mailroom.outbox import (
    ClaimLimit,
    ClaimResult,
    DedupKey,
    EndedMessage,
    Lease,
    PutResult,
    Settlement,
    SettleResult,
)
from mailroom.outbox.deferred import WAIT_SECONDS
from mailroom.outbox.limits import RateLimit
from mailroom.outbox.rows import attempts_text, recipient_key, row_of
from mailroom.outbox.sqlite import operations
from mailroom.outbox.sqlite.backup import backup
from mailroom.outbox.sqlite.database import (
    Connection,
    connect,
    create,
    create_or_unlock_seal,
    migrate,
    migrates_from,
    not_usable,
    truncate_log,
    wrapped_key,
    wrapped_key_at,
)
from mailroom.outbox.sqlite.files import Files
from mailroom.outbox.sqlite.inserts import SELECT_ONCE, Inserter, InsertRequest, delete, remember
from mailroom.outbox.sqlite.lock import Lock
from mailroom.outbox.sqlite.provider_data import SqliteCaptured, SqliteSecrets
from mailroom.outbox.sqlite.queries import Reader, SqliteRecords
from mailroom.outbox.sqlite.writer import Writer
from mailroom.sealing import Entropy, Seal

log = structlog.get_logger()


class SqliteOutbox(SqliteRecords):
    """See `mailroom.outbox.Outbox`. Belongs to the event loop in which `open` was called."""

    shared = None

    def __init__(
        self,
        path: Path,
        lock: Lock,
        writer: Writer,
        reader: Reader,
        *,
        seal: Seal,
        inserter: Inserter,
        clock: Clock,
        owner: str,
    ) -> None:
        super().__init__(path, reader, seal)
        self._lock = lock
        self._writer = writer
        self._insert = inserter.insert
        self._clock = clock
        self._owner = owner
        self._data_version: object = None
        self.captured = SqliteCaptured(writer, reader, seal=seal, clock=clock)
        self.secrets = SqliteSecrets(reader, writer.call, seal)

    @classmethod
    async def open(
        cls,
        path: Path,
        *,
        secret_keys: Sequence[str],
        clock: Clock,
        entropy: Entropy = os.urandom,
        wait_seconds: float | None = WAIT_SECONDS,
        recipient_limit: RateLimit | None = None,
        event_limit: RateLimit | None = None,
    ) -> "SqliteOutbox":
        """Open the file for serving; creates it if it is missing. `Outbox` describes the limits.

        The previous process has ended: its leases end, and messages that are held until a restart are queued.
        Raises OutboxInUse when another process still serves after `wait_seconds` (None: waits without limit),
        SealBroken when none of the secrets matches (the first one seals), OutboxError when the file cannot be used.
        """
        await asyncio.to_thread(create, path)
        lock = await Lock.take(path, clock=clock, wait_seconds=wait_seconds)
        try:
            read_inserter = partial(Inserter.read, recipients=recipient_limit, events=event_limit)
            prepared = await asyncio.to_thread(_prepare, path, secret_keys, entropy, clock.now(), read_inserter)
        except BaseException:
            lock.release()
            raise
        connection, identity, seal, inserter = prepared

        def admit() -> None:
            if lock.holds(path):
                return
            if wrapped_key_at(path) != identity:
                raise OutboxError("it is not the outbox that was served before")
            if not lock.hold():
                raise OutboxInUse(lock.refusal())

        return cls(
            path,
            lock,
            Writer(Files(path, connection, admit=admit)),
            Reader(path),
            seal=seal,
            inserter=inserter,
            clock=clock,
            owner=entropy(8).hex(),
        )

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
        repeat_key = None if repeat_of is None else self._seal.key_of("repeat", repeat_of)
        mailbox = recipient_key(self._seal, message.recipient)
        session_key = None if supersede_key is None else self._seal.key_of("supersede", supersede_key)
        row = row_of(
            message,
            seal=self._seal,
            recipient_key=mailbox,
            repeat_key=repeat_key,
            supersede_key=session_key,
            lease=lease,
            due_at=due_at,
            owner=self._owner,
            route=route,
        )
        request = InsertRequest(
            row,
            id=message.id,
            created_at=message.created_at,
            now=self._clock.now(),
            priority=message.priority,
            recipient_key=mailbox,
            repeat_key=repeat_key,
            supersede_key=session_key,
            once=tuple((self._once_key(one.what), one.until) for one in once),
        )
        return await self._writer.run(self._insert, request, undo=delete)

    async def claim(self, limits: Sequence[ClaimLimit], *, lease_seconds: float) -> ClaimResult:
        """Lease due messages."""
        now = self._clock.now()
        claim = operations.Claim(now, now + lease_seconds, tuple(limits), self._owner, self._seal)
        return await self._writer.call(lambda connection: operations.claim(connection, claim))

    async def reroute(self, routes: Mapping[str, str]) -> None:
        """Queue leased messages again under other routes."""
        await self._writer.call(lambda connection: operations.reroute(connection, routes, self._owner))

    async def attempt(self, id: str, attempts: tuple[Attempt, ...]) -> bool:  # noqa: A002 - the field's word
        """Record that another attempt on a leased message begins; False: the lease was lost, do not dial."""
        return await self._writer.run(operations.attempt, (id, attempts_text(attempts), self._owner))

    async def settle(self, settlement: Settlement) -> SettleResult:
        """Record what became of a leased message; erases the payload if the state is a settled one."""
        if settlement.state is State.SENDING:
            raise ValueError("a message cannot be settled as sending")
        now = self._clock.now()
        change = (
            settlement.id,
            self._owner,
            settlement.state.value,
            attempts_text(settlement.attempts),
            now if settlement.due_at is None else settlement.due_at,
            settlement.reason,
            settlement.provider_message_id,
            now if settlement.state.settled else None,
            self._seal.seal_json(settlement.id, "rendered", settlement.rendered) if settlement.rendered else None,
        )
        return await self._writer.run(operations.settle, (now, change))

    async def release(self, reason: str, *, now: Instant, limit: int | None = None) -> int:
        """Queue messages again that are held for this reason, oldest first; returns how many."""
        return await self._writer.call(lambda connection: operations.release(connection, reason, now, limit))

    async def expire(self, *, now: Instant, limit: int) -> list[EndedMessage]:
        """Change messages to `expired`, payload erased: queued, held, or leased until now."""
        return await self._writer.call(lambda connection: operations.expire(connection, now, limit))

    async def purge(self, *, before: Instant, now: Instant, limit: int) -> int:
        """Delete up to `limit` settled messages accepted before, and what was remembered until `now`."""
        return await self._writer.call(lambda connection: operations.purge(connection, before, now, limit))

    async def index(self, *, limit: int) -> int:
        """Index up to `limit` messages by their recipients; returns how many. 0: all of them are indexed."""
        return await self._writer.call(lambda connection: operations.index(connection, limit))

    async def remember(self, once: DedupKey) -> None:
        """Store an event that belongs to no message; durable when this returns."""
        key = self._once_key(once.what)
        await self._writer.call(lambda connection: remember(connection, key, once.until))

    async def happened(self, what: bytes) -> bool:
        """Return whether this event is stored, and still remembered."""
        return bool(await self._reader.rows(SELECT_ONCE, (self._once_key(what), self._clock.now())))

    async def was_changed(self) -> bool:
        """Return whether another process has written since the last call; the first call returns True."""
        version = await self._writer.data_version()
        changed, self._data_version = version != self._data_version, version
        return changed

    async def woken(self) -> None:
        """Never return: one process serves from the file."""
        await asyncio.get_running_loop().create_future()

    async def truncate_log(self) -> bool:
        """Empty SQLite's log, which still has the payloads of settled messages; False: another process reads it."""
        return await self._writer.truncate_log()

    async def close(self) -> None:
        """Finish the operations that wait, and close the file."""
        await super().close()
        await self._writer.close()
        self._lock.release()

    def _once_key(self, what: bytes) -> bytes:
        return self._seal.key_of("once", what)


def _back_up(path: Path, schema: int) -> None:
    """Copy the file beside itself before it is migrated. Raises OutboxError."""
    copy = path.with_name(f"{path.name}.schema-{schema}")
    backup(path, copy, lambda _: None)
    log.warning("outbox.backed_up", file=str(copy), remedy="delete it as soon as this version works: it has payloads")


def _prepare(
    path: Path,
    secret_keys: Sequence[str],
    entropy: Entropy,
    now: Instant,
    read_inserter: Callable[[apsw.Connection, Instant], Inserter],
) -> tuple[Connection, bytes | None, Seal, Inserter]:
    try:
        connection = connect(path)
        try:
            if schema := migrates_from(connection):
                _back_up(path, schema)
            migrate(connection)
            seal = create_or_unlock_seal(connection, secret_keys, entropy)
            operations.start(connection, now)
            inserter = read_inserter(connection, now)
            identity = wrapped_key(connection)
            truncate_log(connection)
            connection.log_moved()  # stores the identity with which later calls compare
        except BaseException:
            connection.close(True)
            raise
    except apsw.Error as error:
        raise not_usable(path, error) from error
    return connection, identity, seal, inserter
