"""Stores new messages, and recognizes repeats and what is over a limit, across processes.

All messages of a batch are compared by a few statements under locks, decided in order, and inserted by one statement.
Compare with `sqlite/inserts.py`, which knows in memory what only one process can know.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any, Final

import asyncpg
import msgspec

from mailroom.clock import Instant
from mailroom.errors import LimitExceeded, OutboxError
from mailroom.message import Priority, State, new_id
from mailroom.outbox import HELD_FLOOD, REPEAT_SECONDS, PutResult
from mailroom.outbox.limits import RateLimit
from mailroom.outbox.postgres.database_pool import Connection
from mailroom.outbox.postgres.periods import in_any_period
from mailroom.outbox.rows import COLUMNS

_INSERT: Final = f"""
    WITH new AS (
        SELECT nextval('mailroom.numbers') AS number, row.*
          FROM unnest($1::text[], $2::text[], $3::text[], $4::smallint[], $5::text[], $6::float8[], $7::float8[],
                      $8::float8[], $9::text[], $10::text[], $11::bytea[], $12::bytea[], $13::bytea[], $14::bytea[],
                      $15::bytea[], $16::text[], $17::text[])
            AS row ({COLUMNS}, reason)
    ), contents AS (
        INSERT INTO mailroom.contents
               (id, number, priority, created_at, recipient_key, repeat_key, supersede_key, sealed, record)
        SELECT id, number, priority, created_at, recipient_key, repeat_key, supersede_key, sealed, record FROM new
    )
    INSERT INTO mailroom.messages
           (id, number, state, template, priority, languages, created_at, expires_at, due_at, owner, attempts,
            supersede_key, route, reason)
    SELECT id, number, state, template, priority, languages, created_at, expires_at, due_at, owner, attempts::json,
           supersede_key, route, reason
      FROM new
"""  # noqa: S608 - a constant

# A body that repeats within the time keeps its row, which is locked until the end of the transaction that stored it.
# Sorted, so that two processes lock in the same order.
_TAKE_BODIES: Final = f"""
    INSERT INTO mailroom.repeats AS stored (key, message_id, created_at)
    SELECT * FROM unnest($1::bytea[], $2::text[], $3::float8[]) AS new (key, message_id, created_at) ORDER BY key
        ON CONFLICT (key) DO UPDATE SET message_id = excluded.message_id, created_at = excluded.created_at
     WHERE abs(excluded.created_at - stored.created_at) >= {REPEAT_SECONDS}
 RETURNING key
"""  # noqa: S608 - a constant

_REPEATED: Final = "SELECT key, message_id FROM mailroom.repeats WHERE key = ANY($1::bytea[])"

_FORGET_BODIES: Final = """
    DELETE FROM mailroom.repeats
     WHERE key = ANY ($1::bytea[]) AND message_id = ($2::text[])[array_position($1::bytea[], key)]
"""

# In ascending order: two processes that lock several never wait for each other.
_LOCK: Final = "SELECT pg_advisory_xact_lock($1, key) FROM unnest($2::int4[]) AS key"
_RECIPIENTS: Final = 1
_ONCE: Final = 2
_EVENTS: Final = 3

SELECT_ONCE: Final = "SELECT key, message_id, until FROM mailroom.once WHERE key = ANY($1::bytea[])"

_INSERT_ONCE: Final = """
    INSERT INTO mailroom.once (key, message_id, until)
    SELECT * FROM unnest($1::bytea[], $2::text[], $3::float8[])
        ON CONFLICT (key) DO UPDATE SET message_id = excluded.message_id, until = excluded.until
"""

_CODES: Final = f"""
    SELECT recipient_key, created_at
      FROM mailroom.contents
     WHERE recipient_key = ANY($1::bytea[]) AND created_at > $2 AND created_at <= $3 AND priority = 0
     UNION ALL
    SELECT recipient_key, created_at
      FROM mailroom.history
     WHERE {in_any_period("$4")} AND recipient_key = ANY($1::bytea[]) AND created_at > $2 AND created_at <= $3
       AND priority = 0 AND state <> 'failed'
"""  # noqa: S608 - a constant

_COUNT_EVENTS: Final = "SELECT count(*) FROM mailroom.counted_events WHERE at > $1 AND at <= $2"
_ADD_EVENTS: Final = "INSERT INTO mailroom.counted_events (at) SELECT unnest($1::float8[])"


_ID_SECONDS: Final = 3 * 86400.0
"""An id has the time of another clock than `created_at`: the machine's, which may be wrong."""


class PutRequest(msgspec.Struct, frozen=True, eq=False):
    """The arguments of a `put`, encoded for the database."""

    row: tuple[Any, ...]
    """See `mailroom.outbox.rows.COLUMNS`."""
    id: str
    created_at: Instant
    expires_at: Instant
    now: Instant
    """The database's time."""
    priority: Priority
    recipient_key: bytes
    repeat_key: bytes | None
    once: tuple[tuple[bytes, Instant | None], ...]
    """Keys that must not be stored yet, and until when each is stored."""


@dataclass(frozen=True, slots=True)
class Putter:
    """Stores batches of messages within the limits."""

    recipients: RateLimit | None
    events: RateLimit | None

    async def put_all(
        self, connection: Connection, requests: Sequence[PutRequest]
    ) -> list[PutResult | LimitExceeded | OutboxError]:
        """Store messages; a LimitExceeded is for the caller to raise."""
        repeated = await _take_bodies(connection, requests)
        once = await _read_once(connection, requests)
        codes = await self._read_codes(connection, requests)
        events_left = await self._count_events_left(connection, requests)
        results: dict[PutRequest, PutResult | LimitExceeded] = {}
        new: list[PutRequest] = []
        for request in requests:
            first = repeated.get(request)
            if isinstance(first, PutRequest):  # in this batch
                result = results[first]
                results[request] = (
                    msgspec.structs.replace(result, fresh=False) if isinstance(result, PutResult) else result
                )
                continue
            if first is None:
                first = _find_once(once, request)
            if first is not None:
                results[request] = PutResult(first, fresh=False)
            elif error := self._check_recipient(codes, request):
                results[request] = error
            else:
                is_held = request.priority is Priority.EVENT and events_left <= 0
                events_left -= request.priority is Priority.EVENT
                once.update({key: (request.id, until) for key, until in request.once})
                results[request] = PutResult(request.id, fresh=True, is_held=is_held)
                new.append(request)
        await _insert(connection, [(request, results[request]) for request in new])
        await self._add_events(connection, [(request, results[request]) for request in new])
        await _forget_refused(connection, requests, results, repeated)
        return [results[request] for request in requests]

    async def _read_codes(self, connection: Connection, requests: Sequence[PutRequest]) -> dict[bytes, list[Instant]]:
        """Return when each recipient's codes were accepted, and lock these recipients."""
        keys = {request.recipient_key for request in requests if request.priority is Priority.CODE}
        codes: dict[bytes, list[Instant]] = defaultdict(list)
        if self.recipients and keys:
            await _lock(connection, _RECIPIENTS, keys)
            now = max(request.now for request in requests)
            since = now - self.recipients.seconds
            first = new_id(max(0.0, since - _ID_SECONDS), bytes(10))
            for key, at in await connection.fetch(_CODES, sorted(keys), since, now, first):
                codes[key].append(at)
        return codes

    def _check_recipient(self, codes: dict[bytes, list[Instant]], request: PutRequest) -> LimitExceeded | None:
        """Count a code; return the error, and do not count it, if its recipient's limit is reached."""
        if self.recipients is None or request.priority is not Priority.CODE:
            return None
        since = request.now - self.recipients.seconds
        counted = sorted(at for at in codes[request.recipient_key] if at > since)
        if len(counted) >= self.recipients.count:
            oldest = counted[-self.recipients.count]
            return LimitExceeded("recipient", retry_after=max(1, ceil(oldest - since)))
        codes[request.recipient_key].append(request.created_at)
        return None

    async def _count_events_left(self, connection: Connection, requests: Sequence[PutRequest]) -> float:
        if self.events is None or all(request.priority is not Priority.EVENT for request in requests):
            return float("inf")
        await _lock(connection, _EVENTS, [b"\0\0\0\0"])
        now = max(request.now for request in requests)
        count: int = await connection.fetchval(_COUNT_EVENTS, now - self.events.seconds, now)
        return self.events.count - count

    async def _add_events(self, connection: Connection, stored: list[tuple[PutRequest, Any]]) -> None:
        counted = [one.created_at for one, result in stored if one.priority is Priority.EVENT and not result.is_held]
        if self.events and counted:
            await connection.execute(_ADD_EVENTS, counted)


async def _take_bodies(connection: Connection, requests: Sequence[PutRequest]) -> dict[PutRequest, "str | PutRequest"]:
    """Store the bodies of requests; return those that repeat one: with its message's id, or with the request itself."""
    firsts: dict[bytes, PutRequest] = {}
    repeated: dict[PutRequest, str | PutRequest] = {}
    for request in requests:
        if request.repeat_key and (first := firsts.setdefault(request.repeat_key, request)) is not request:
            repeated[request] = first
    if not firsts:
        return repeated
    keys = list(firsts)
    columns = keys, [one.id for one in firsts.values()], [one.created_at for one in firsts.values()]
    taken = {key for (key,) in await connection.fetch(_TAKE_BODIES, *columns)}
    if len(taken) < len(keys):
        for key, id_ in await connection.fetch(_REPEATED, [key for key in keys if key not in taken]):
            repeated[firsts[key]] = id_
    return repeated


async def _forget_refused(
    connection: Connection,
    requests: Sequence[PutRequest],
    results: dict[PutRequest, PutResult | LimitExceeded],
    repeated: dict[PutRequest, str | PutRequest],
) -> None:
    """Delete the bodies of what was not stored, so that a later request with one is no repeat."""
    refused = [
        request
        for request in requests
        if request.repeat_key and request not in repeated and not getattr(results[request], "fresh", False)
    ]
    if refused:
        await connection.execute(
            _FORGET_BODIES, [request.repeat_key for request in refused], [request.id for request in refused]
        )


async def _read_once(connection: Connection, requests: Sequence[PutRequest]) -> dict[bytes, tuple[str, Instant | None]]:
    """Return what is stored of the events of these requests, and lock them."""
    keys = {key for request in requests for key, _ in request.once}
    if not keys:
        return {}
    await _lock(connection, _ONCE, keys)
    return {key: (id_, until) for key, id_, until in await connection.fetch(SELECT_ONCE, sorted(keys))}


def _find_once(once: dict[bytes, tuple[str, Instant | None]], request: PutRequest) -> str | None:
    """Return the id that is stored with an event of this request; None: they are all new."""
    for key, _ in request.once:
        id_, until = once.get(key, ("", 0.0))
        if until is None or until > request.created_at:
            return id_
    return None


async def _insert(connection: Connection, stored: list[tuple[PutRequest, Any]]) -> None:
    if not stored:
        return
    rows = [_held(one) if result.is_held else (*one.row, "") for one, result in stored]
    try:
        await connection.execute(_INSERT, *zip(*rows, strict=True))
    except asyncpg.UniqueViolationError:
        if len(stored) == 1:
            raise OutboxError(f"{stored[0][0].id} is stored already: an id is used once") from None
        raise  # each is stored separately
    once = [(key, one.id, until) for one, _ in stored for key, until in one.once]
    if once:
        await connection.execute(_INSERT_ONCE, *zip(*{row[0]: row for row in once}.values(), strict=True))


_STATE: Final = COLUMNS.split(", ").index("state")
_DUE_AT: Final = COLUMNS.split(", ").index("due_at")
_OWNER: Final = COLUMNS.split(", ").index("owner")
_ATTEMPTS: Final = COLUMNS.split(", ").index("attempts")


def _held(request: PutRequest) -> tuple[Any, ...]:
    """Return the row of an event that is held because of the limit."""
    row = list(request.row)
    row[_STATE], row[_DUE_AT], row[_OWNER], row[_ATTEMPTS] = State.HELD.value, request.expires_at, None, "[]"
    return (*row, HELD_FLOOD)


async def _lock(connection: Connection, kind: int, keys: Iterable[bytes]) -> None:
    """Lock keys until the transaction ends; the next statement sees what their last holder has committed."""
    numbers = sorted({int.from_bytes(key[:4], "big", signed=True) for key in keys})
    await connection.execute(_LOCK, kind, numbers)


async def remember(connection: Connection, key: bytes, until: Instant | None) -> None:
    """Store an event that belongs to no message."""
    await connection.execute(_INSERT_ONCE, [key], [""], [until])
