"""The outbox in a SQLite file: for one machine, with one process that serves from it."""

import asyncio
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import apsw

from mailroom.clock import Clock, Instant
from mailroom.errors import OutboxError, OutboxInUse
from mailroom.message import Attempt, Message, State
from mailroom.outbox import (
    CapturedMails,
    ClaimLimit,
    ClaimResult,
    DedupKey,
    ExpiredMessage,
    Lease,
    PutResult,
    Settlement,
)
from mailroom.outbox.sqlite import operations
from mailroom.outbox.sqlite.captured import SqliteCaptured
from mailroom.outbox.sqlite.database import (
    SCHEMA,
    Connection,
    connect,
    connect_readonly,
    create,
    migrate,
    not_usable,
    own_seal,
    truncate_log,
    wrapped_at,
    wrapped_key,
)
from mailroom.outbox.sqlite.dedup import RecentBodies
from mailroom.outbox.sqlite.files import Files
from mailroom.outbox.sqlite.inserts import Put, forget
from mailroom.outbox.sqlite.lock import Lock
from mailroom.outbox.sqlite.operations import Claim, Release
from mailroom.outbox.sqlite.queries import Reader, SqliteRecords
from mailroom.outbox.sqlite.rows import InsertRequest, Keys, attempts_text, row_of
from mailroom.outbox.sqlite.writer import Writer
from mailroom.sealing import Entropy, Seal

WAIT_SECONDS: Final = 12.0
"""Longer than a predecessor's `shutdown_timeout`."""


class SqliteOutbox(SqliteRecords):
    """See `mailroom.outbox.Outbox`. Belongs to the loop in which it was opened; made by `open`."""

    captured: CapturedMails

    def __init__(
        self,
        path: Path,
        lock: Lock,
        writer: Writer,
        reader: Reader,
        *,
        keys: Keys,
        repeats: RecentBodies,
        clock: Clock,
        owner: str,
    ) -> None:
        super().__init__(path, reader, keys)
        self._lock = lock
        self._writer = writer
        self._put = Put(repeats)
        self._clock = clock
        self._owner = owner
        self.captured = SqliteCaptured(writer, reader, seal=keys.seal, clock=clock)

    @classmethod
    async def open(
        cls,
        path: Path,
        *,
        secret_keys: Sequence[str],
        clock: Clock,
        entropy: Entropy = os.urandom,
        wait_seconds: float | None = WAIT_SECONDS,
        schema: Path = SCHEMA,
        vfs: str | None = None,
    ) -> "SqliteOutbox":
        """Open the file as the one process that serves from it, and make it if it is missing.

        Whoever held it before is dead then: its leases are due again, and so is what was held for a restart.
        Raises OutboxInUse when another process still serves after `wait_seconds` (None: waits without limit),
        SealBroken when none of the secrets fits (the first one seals), OutboxError when the file cannot be used.
        `schema` and `vfs` are other migrations and another disk, for tests.
        """
        await asyncio.to_thread(create, path)
        lock = await Lock.take(path, clock=clock, wait_seconds=wait_seconds)
        try:
            opened = partial(connect, path, vfs=vfs)
            connection, seal, repeats, wrapped = await asyncio.to_thread(
                _prepared, opened, path=path, schema=schema, secret_keys=secret_keys, entropy=entropy, now=clock.now()
            )
        except BaseException:
            lock.release()
            raise

        def admit() -> None:
            if lock.is_on_database():
                return
            if wrapped_at(path, vfs=vfs) != wrapped:
                raise OutboxError("it is not the outbox that was served before")
            if not lock.hold():
                raise OutboxInUse(lock.refusal())

        return cls(
            path,
            lock,
            Writer(Files(path, vfs=vfs, admit=admit), connection),
            Reader(partial(connect_readonly, path, vfs=vfs)),
            keys=Keys(seal),
            repeats=repeats,
            clock=clock,
            owner=entropy(8).hex(),
        )

    async def put(
        self,
        message: Message,
        *,
        repeat_of: bytes | None = None,
        once: Sequence[DedupKey] = (),
        lease: Lease | None = None,
    ) -> PutResult:
        """Keep a message; durable when this returns.

        Raises CannotKeep, and ValueError for what the doors should have refused: a recipient that is no
        address, text that UTF-8 cannot carry.
        """
        repeat_key = None if repeat_of is None else self._keys.repeat(repeat_of)
        row = row_of(message, keys=self._keys, repeat_key=repeat_key, lease=lease, owner=self._owner)
        names = tuple((self._keys.once(one.what), one.until) for one in once)
        putting = InsertRequest(row, message.id, message.created_at, repeat_key, names)
        return await self._writer.run(self._put, putting, undo=forget)

    async def claim(self, limits: Sequence[ClaimLimit], *, lease_seconds: float) -> ClaimResult:
        """Lease due messages for so many seconds: codes first, then by due time, at most `limits`."""
        now = self._clock.now()
        claim = Claim(now, now + lease_seconds, tuple(limits), self._owner, self._keys.seal)
        return await self._writer.run(operations.claim, claim, late=True)

    async def attempt(self, id: str, attempts: tuple[Attempt, ...]) -> bool:  # noqa: A002 - the field's word
        """Record that another attempt on a leased message begins; False: the lease was lost, do not dial."""
        return await self._writer.run(operations.attempt, (id, attempts_text(attempts), self._owner))

    async def settle(self, settlement: Settlement) -> bool:
        """Record what became of a leased message; erases the payload if the state is a settled one."""
        if settlement.state is State.SENDING:
            raise ValueError("a message that is settled is not sending any more")
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
        )
        return await self._writer.run(operations.settle, change)

    async def release(self, reason: str, *, now: Instant, limit: int | None = None) -> int:
        """Queue messages again that are held for this reason, oldest first; returns how many."""
        return await self._writer.run(operations.release, Release(reason, now, limit))

    async def expire(self, *, now: Instant, limit: int) -> list[ExpiredMessage]:
        """End messages, queued, held or leased until now, that are worth nothing any more."""
        return await self._writer.run(operations.expire, (now, limit))

    async def purge(self, *, before: Instant, now: Instant, limit: int) -> int:
        """Delete up to `limit` settled messages accepted before, and what was remembered until `now`."""
        return await self._writer.run(operations.purge, (before, now, limit))

    async def index(self, *, limit: int) -> int:
        """Make up to `limit` messages quick to find by their recipients; returns how many. 0: all of them are."""
        return await self._writer.run(operations.index, limit)

    async def remember(self, once: DedupKey) -> None:
        """Note that this happened, where no message belongs to it; durable when this returns."""
        await self._writer.run(operations.remember, (self._keys.once(once.what), once.until))

    async def happened(self, what: bytes) -> bool:
        """Tell whether this was noted, and not to be forgotten by now."""
        return bool(await self._reader.rows(operations.HAPPENED, (self._keys.once(what), self._clock.now())))

    async def truncate_log(self) -> bool:
        """Empty SQLite's log, which still has the payloads of settled messages; False: another process reads it."""
        return await self._writer.truncate_log()

    async def close(self) -> None:
        """Finish what was begun and let go of the file."""
        await super().close()
        await self._writer.close()
        self._lock.release()


def _prepared(
    connect: Callable[[], Connection],
    *,
    path: Path,
    schema: Path,
    secret_keys: Sequence[str],
    entropy: Entropy,
    now: Instant,
) -> tuple[Connection, Seal, RecentBodies, bytes | None]:
    try:
        connection = connect()
        try:
            migrate(connection, schema)
            seal = own_seal(connection, secret_keys, entropy=entropy)
            operations.begin(connection, now)
            repeats = RecentBodies.read(connection, now)
            wrapped = wrapped_key(connection)
            truncate_log(connection)
            connection.log_moved()  # the first answer is what later ones are compared with
        except BaseException:
            connection.close(True)
            raise
    except apsw.Error as error:
        raise not_usable(path, error) from error
    return connection, seal, repeats, wrapped
