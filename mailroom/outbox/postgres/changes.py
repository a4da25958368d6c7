"""Changes stored messages: attempt, settle, release, expire, purge. Compare with `sqlite/operations.py`.

A change that settles a message moves its row to the history in the same statement.
"""

from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final

import msgspec

from mailroom.clock import Instant
from mailroom.errors import CannotKeep
from mailroom.message import Priority, State, new_id
from mailroom.outbox import RELEASED_AT_START, EndedMessage, SettleResult
from mailroom.outbox.postgres.database_pool import Connection, Database

STEP: Final = 2000
"""Messages that one statement changes at most when there may be any number of them: well under a second."""

# The owner is the fence: a process whose lease was taken over changes nothing any more; only leased messages have one.
# Ids are compared with an array, never joined, here and in other statements: PostgreSQL keeps the plan of a join from
# when the table was small, which reads all of it, or compares each row with each: 24 instead of 8 µs a message.
_ATTEMPT: Final = """
    UPDATE mailroom.messages
       SET attempts = ($2::text[])[array_position($1::text[], id)]::json
     WHERE id = ANY ($1::text[]) AND owner = $3 AND NOT superseded
 RETURNING id
"""

_KEEP: Final = """
    UPDATE mailroom.messages
       SET (state, attempts, reason, provider_message_id, owner, due_at, rendered) = (
           SELECT ($2::text[])[n], ($3::text[])[n]::json, ($4::text[])[n], ($5::text[])[n], NULL,
                  CASE ($2::text[])[n] WHEN 'queued' THEN least(($6::float8[])[n], expires_at) ELSE expires_at END,
                  coalesce(($7::bytea[])[n], rendered)
             FROM array_position($1::text[], id) AS n)
     WHERE id = ANY ($1::text[]) AND owner = $8
 RETURNING id, superseded
"""

HISTORY: Final = (
    "id, state, template, priority, languages, created_at, expires_at, settled_at, attempts, reason,"
    " provider_message_id, recipient_key, record"
)

_ERASED: Final = """
    erased AS (
        DELETE FROM mailroom.contents
         USING gone
         WHERE contents.id = gone.id
     RETURNING gone.*, recipient_key, record, repeat_key
    )"""

# A later request is no repeat of what failed. What is sent supersedes older messages with the same key, and nothing
# else that was settled does; `OFFSET 0` looks up each key in the index: a join read all waiting messages whenever
# statistics were old, 11 ms instead of 0.2 with 12,000 of them. By id, so that processes lock in the same order.
_MOVE: Final = f"""
    WITH deleted AS (
        DELETE FROM mailroom.messages
         WHERE id = ANY ($1::text[]) AND owner = $6
     RETURNING messages.*, array_position($1::text[], id) AS n
    ), gone AS (
        SELECT id, ($2::text[])[n] AS state, template, priority, languages, created_at, expires_at,
               $7::float8 AS settled_at, ($3::text[])[n]::json AS attempts, ($4::text[])[n] AS reason,
               ($5::text[])[n] AS provider_message_id, supersede_key, number
          FROM deleted
    ), {_ERASED}, moved AS (
        INSERT INTO mailroom.history ({HISTORY}) SELECT {HISTORY} FROM erased
    ), forgotten AS (
        DELETE FROM mailroom.repeats
         USING erased
         WHERE state = 'failed' AND repeats.key = erased.repeat_key AND repeats.message_id = erased.id
    ), marked AS (
        UPDATE mailroom.messages
           SET superseded = true
         WHERE NOT superseded AND id = ANY (ARRAY (
               SELECT older.id
                 FROM gone
                CROSS JOIN LATERAL (
                      SELECT id
                        FROM mailroom.contents
                       WHERE supersede_key = gone.supersede_key AND contents.number < gone.number
                      OFFSET 0) AS older
                WHERE gone.state = 'sent'
                ORDER BY older.id))
     RETURNING id
    )
    SELECT id, EXISTS (SELECT FROM marked) FROM gone
"""  # noqa: S608 - a constant

# Messages that end while they wait; {state}, {reason} and {which} differ.
_END: Final = f"""
    WITH gone AS (
        DELETE FROM mailroom.messages WHERE id = ANY (ARRAY ({{which}})) RETURNING *
    ), {_ERASED}, moved AS (
        INSERT INTO mailroom.history ({HISTORY})
        SELECT id, '{{state}}', template, priority, languages, created_at, expires_at, $1, attempts, {{reason}},
               provider_message_id, recipient_key, record
          FROM erased
    )
    SELECT id, template, priority FROM gone
"""  # noqa: S608 - a constant

_END_SUPERSEDED: Final = _END.format(
    state="superseded",
    reason="'a newer code was sent'",
    which="SELECT id FROM mailroom.messages WHERE superseded AND state IN ('queued', 'held')"
    " ORDER BY number LIMIT $2 FOR UPDATE SKIP LOCKED",
)

_EXPIRE: Final = _END.format(
    state="expired",
    reason="'its lifetime ended while it ' || CASE state WHEN 'held' THEN 'was held: ' || reason ELSE 'waited' END",
    which="SELECT id FROM (SELECT id FROM mailroom.messages"
    " WHERE state IN ('queued', 'held') AND expires_at <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED) AS waiting"
    " UNION ALL "
    "SELECT id FROM (SELECT id FROM mailroom.messages"
    " WHERE state = 'sending' AND due_at <= $1 AND expires_at <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED) AS leased"
    " LIMIT $2",
)

CANCEL: Final = _END.format(
    state="cancelled",
    reason="'cancelled by an operator'",
    which="SELECT id FROM mailroom.messages WHERE id = ANY($2::text[]) AND state IN ('queued', 'held')"
    " ORDER BY id FOR UPDATE",
)


class Outcome(msgspec.Struct, frozen=True, eq=False):
    """A message's new state, encoded for the database. Its columns are in the order of the statements."""

    id: str
    state: str
    attempts: str
    reason: str
    provider_message_id: str
    due_at: Instant
    rendered: bytes | None


async def attempt(database: Database, begun: Sequence[tuple[str, str]], *, owner: str) -> list[bool]:
    """Record attempts that begin: (id, attempts). False: the lease was lost. Raises CannotKeep."""
    rows = await database.rows(_ATTEMPT, *zip(*sorted(begun), strict=True), owner)
    recorded = {row["id"] for row in rows}
    return [id_ in recorded for id_, _ in begun]


async def settle(database: Database, outcomes: Sequence[Outcome], *, owner: str, now: Instant) -> list[SettleResult]:
    """Record new states; messages that are settled leave for the history. Raises CannotKeep."""
    if len({one.id for one in outcomes}) < len(outcomes):  # twice the same message: the first one counts
        return [(await settle(database, [one], owner=owner, now=now))[0] for one in outcomes]
    # Sorted, so that two processes change rows in the same order.
    in_order = sorted(outcomes, key=lambda one: one.id)
    kept = [one for one in in_order if not State(one.state).settled]
    settled = [one for one in in_order if State(one.state).settled]
    statements: list[tuple[Any, ...]] = []
    if kept:
        statements.append((_KEEP, *_columns(kept), owner))
    if settled:
        statements.append((_MOVE, *_columns(settled)[:5], owner, now))

    async def record_all(connection: Connection) -> list[Any]:
        return [row for statement in statements for row in await connection.fetch(*statement)]

    # A single statement needs no transaction around it, which would be three more round trips.
    rows = await (database.rows(*statements[0]) if len(statements) == 1 else database.run(record_all))
    supersedes = dict(rows)
    results = [SettleResult(one.id in supersedes) for one in outcomes]
    if any(supersedes.values()):
        with suppress(CannotKeep):  # they end with the next beat
            results[0] = SettleResult(results[0].is_recorded, await database.run(partial(end_superseded, now=now)))
    return results


def _columns(outcomes: Sequence[Outcome]) -> list[tuple[Any, ...]]:
    return list(zip(*map(msgspec.structs.astuple, outcomes), strict=True))


async def end_superseded(connection: Connection, now: Instant) -> tuple[EndedMessage, ...]:
    """End messages that a newer one supersedes, unless they are being sent: at most STEP."""
    return _ended(await connection.fetch(_END_SUPERSEDED, now, STEP))


def _ended(rows: Sequence[Any]) -> tuple[EndedMessage, ...]:
    return tuple(EndedMessage(id_, template, Priority(priority)) for id_, template, priority in rows)


_RELEASE: Final = """
    UPDATE mailroom.messages
       SET state = 'queued', due_at = $1, reason = ''
     WHERE id = ANY (ARRAY (
           SELECT id
             FROM mailroom.messages
            WHERE state = 'held' AND reason = $2 AND expires_at > $1
            ORDER BY number
            LIMIT $3
              FOR UPDATE SKIP LOCKED))
 RETURNING id
"""

# By id as well as created_at: ids sort by time, and have an index.
_PURGE: Final = """
    DELETE FROM mailroom.history
     WHERE id = ANY (ARRAY (
           SELECT id
             FROM mailroom.history
            WHERE id < $1 AND created_at < $2
            ORDER BY id
            LIMIT $3
              FOR UPDATE SKIP LOCKED))
 RETURNING id
"""

_DELETE_ONCE: Final = """
    DELETE FROM mailroom.once
     WHERE key = ANY (ARRAY (
           SELECT key FROM mailroom.once WHERE until IS NOT NULL AND until <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED))
 RETURNING key
"""

_DELETE_COUNTS: Final = """
    DELETE FROM mailroom.counts
     WHERE (what, slice) IN (
           SELECT what, slice FROM mailroom.counts WHERE until <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED)
 RETURNING slice
"""

# The clock was set back since these were accepted. Their age is unknown, so their lifetime starts again now. Half a
# second: the clocks of processes are that close.
_REDATE: Final = """
    WITH dated AS (
        UPDATE mailroom.messages
           SET created_at = $1,
               expires_at = $1 + expires_at - created_at,
               due_at = CASE WHEN state = 'held' THEN $1 + expires_at - created_at
                             WHEN attempts::text = '[]' THEN $1 + due_at - created_at  -- it may be delayed
                             ELSE $1 END
         WHERE id > $2 AND id <= $3 AND created_at > $1 + 0.5 AND state <> 'sending'
     RETURNING id
    ), contents_dated AS (
        UPDATE mailroom.contents SET created_at = $1 FROM dated WHERE contents.id = dated.id
    )
    SELECT id FROM dated
"""
_REDATE_BODIES: Final = "UPDATE mailroom.repeats SET created_at = $1 WHERE message_id = ANY($2::text[])"
# The last id of the next page.
_PAGE: Final = """
    SELECT max(id)
      FROM (SELECT id FROM mailroom.messages WHERE id > $1 ORDER BY id LIMIT $2) AS page
"""


async def release(connection: Connection, reason: str, now: Instant, limit: int) -> int:
    """Queue held messages again; return how many."""
    return len(await connection.fetch(_RELEASE, now, reason, limit))


async def release_in_steps(database: Database, reason: str, now: Instant, limit: int | None = None) -> int:
    """Queue held messages again, each STEP of them in a transaction of its own; return how many. Raises CannotKeep."""
    count, step = 0, STEP
    while step == STEP:
        left = STEP if limit is None else min(STEP, limit - count)
        step = await database.run(partial(release, reason=reason, now=now, limit=left))
        count += step
    return count


async def expire(connection: Connection, now: Instant, limit: int) -> list[EndedMessage]:
    """Change expired messages to `expired`; return them."""
    return list(_ended(await connection.fetch(_EXPIRE, now, limit)))


async def purge(connection: Connection, before: Instant, now: Instant, limit: int) -> int:
    """Delete settled messages accepted before, and keys and counts that ended; return how many rows."""
    deleted = await delete_settled(connection, before, limit)
    ended = [await connection.fetch(sql, now, limit) for sql in (_DELETE_ONCE, _DELETE_COUNTS)]
    return deleted + sum(map(len, ended))


async def delete_settled(connection: Connection, before: Instant, limit: int) -> int:
    """Delete settled messages accepted before; return how many."""
    return len(await connection.fetch(_PURGE, new_id(max(0.0, before), bytes(10)), before, limit))


async def start(database: Database, now: Instant) -> None:
    """Queue what is held until a restart, in steps that block nobody for long. Raises CannotKeep."""
    while len(await database.run(partial(end_superseded, now=now))) == STEP:
        pass
    last: str | None = ""
    while last is not None:
        last = await database.run(partial(_redate, after=last, now=now))
    for reason in RELEASED_AT_START:
        await release_in_steps(database, reason, now)


async def _redate(connection: Connection, after: str, now: Instant) -> str | None:
    """Give the messages of one page a new time of acceptance if theirs is in the future; return its last id."""
    last: str | None = await connection.fetchval(_PAGE, after, STEP)
    if last is not None and (dated := [row["id"] for row in await connection.fetch(_REDATE, now, after, last)]):
        await connection.execute(_REDATE_BODIES, now, dated)
    return last
