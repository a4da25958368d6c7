"""Changes stored messages: attempt, settle, release, expire, purge. Compare with `sqlite/operations.py`.

A change that settles a message moves its row to the history in the same statement.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import msgspec

from mailroom.clock import Instant
from mailroom.message import Priority, State, new_id
from mailroom.outbox import RELEASED_AT_START, EndedMessage, SettleResult
from mailroom.outbox.postgres.database_pool import Connection, Database
from mailroom.outbox.postgres.puts import FORGET_BODIES

STEP: Final = 2000
"""Messages that one statement changes at most when there may be any number of them: well under a second."""

# The owner is the fence: a process whose lease was taken over changes nothing any more.
_ATTEMPT: Final = """
    UPDATE mailroom.messages
       SET attempts = begun.attempts::json
      FROM unnest($1::text[], $2::text[], $3::text[]) AS begun (id, attempts, owner)
     WHERE messages.id = begun.id AND messages.owner = begun.owner AND messages.state = 'sending'
       AND NOT messages.superseded
 RETURNING messages.id
"""


class Outcome(msgspec.Struct, frozen=True, eq=False):
    """The columns of `change` in `_CHANGES`."""

    id: str
    owner: str
    state: str
    attempts: str
    due_at: Instant
    reason: str
    provider_message_id: str
    now: Instant
    """The database's time."""
    rendered: bytes | None


_CHANGES: Final = """unnest(
           $1::text[], $2::text[], $3::text[], $4::text[], $5::float8[], $6::text[], $7::text[], $8::float8[],
           $9::bytea[]) AS change (id, owner, state, attempts, due_at, reason, provider_message_id, now, rendered)"""

_KEEP: Final = f"""
    UPDATE mailroom.messages
       SET state = change.state,
           attempts = change.attempts::json,
           reason = change.reason,
           provider_message_id = change.provider_message_id,
           owner = NULL,
           due_at = CASE change.state WHEN 'queued' THEN least(change.due_at, messages.expires_at)
                                      ELSE messages.expires_at END,
           rendered = coalesce(change.rendered, messages.rendered)
      FROM {_CHANGES}
     WHERE messages.id = change.id AND messages.owner = change.owner AND messages.state = 'sending'
 RETURNING messages.id, messages.superseded
"""  # noqa: S608 - a constant

HISTORY: Final = (
    "id, state, template, priority, languages, created_at, expires_at, settled_at, attempts, reason,"
    " provider_message_id, recipient_key, record"
)

_MOVE: Final = f"""
    WITH gone AS (
        DELETE FROM mailroom.messages
         USING {_CHANGES}
         WHERE messages.id = change.id AND messages.owner = change.owner AND messages.state = 'sending'
     RETURNING messages.id, change.state, template, priority, languages, created_at, expires_at,
               change.now AS settled_at, change.attempts::json, change.reason, change.provider_message_id,
               recipient_key, record, repeat_key, supersede_key, number
    ), moved AS (
        INSERT INTO mailroom.history ({HISTORY}) SELECT {HISTORY} FROM gone
    )
    SELECT id, state, repeat_key, supersede_key, number FROM gone
"""  # noqa: S608 - a constant

# What is sent supersedes older messages with the same key, and nothing else that was settled does. The array and
# OFFSET 0 look up each key in the index; a join read all waiting messages whenever statistics were old: 11 ms instead
# of 0.2 with 12,000 of them. By number, so that two processes lock in the same order.
_MARK_SUPERSEDED: Final = """
    UPDATE mailroom.messages
       SET superseded = true
     WHERE number = ANY (ARRAY (
           SELECT older.number
             FROM unnest($1::bytea[], $2::bigint[]) AS sent (key, number)
            CROSS JOIN LATERAL (
                  SELECT number
                    FROM mailroom.messages
                   WHERE supersede_key = sent.key AND messages.number < sent.number AND NOT superseded
                  OFFSET 0) AS older
            ORDER BY number))
"""

# Messages that end while they wait; {state}, {reason}, {which} and {order} differ.
_END: Final = f"""
    WITH gone AS (
        DELETE FROM mailroom.messages WHERE number IN ({{which}}) RETURNING *
    ), moved AS (
        INSERT INTO mailroom.history ({HISTORY})
        SELECT id, '{{state}}', template, priority, languages, created_at, expires_at, $1, attempts, {{reason}},
               provider_message_id, recipient_key, record
          FROM gone
    )
    SELECT id, template, priority FROM gone
"""  # noqa: S608 - a constant

_END_SUPERSEDED: Final = _END.format(
    state="superseded",
    reason="'a newer code was sent'",
    which="SELECT number FROM mailroom.messages WHERE superseded AND state IN ('queued', 'held')"
    " ORDER BY number LIMIT $2 FOR UPDATE SKIP LOCKED",
)

_EXPIRE: Final = _END.format(
    state="expired",
    reason="'its lifetime ended while it ' || CASE state WHEN 'held' THEN 'was held: ' || reason ELSE 'waited' END",
    which="SELECT number FROM (SELECT number FROM mailroom.messages"
    " WHERE state IN ('queued', 'held') AND expires_at <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED) AS waiting"
    " UNION ALL "
    "SELECT number FROM (SELECT number FROM mailroom.messages"
    " WHERE state = 'sending' AND due_at <= $1 AND expires_at <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED) AS leased"
    " LIMIT $2",
)

CANCEL: Final = _END.format(
    state="cancelled",
    reason="'cancelled by an operator'",
    which="SELECT number FROM mailroom.messages WHERE id = ANY($2::text[]) AND state IN ('queued', 'held')"
    " ORDER BY number FOR UPDATE",
)


async def attempt(connection: Connection, changes: Sequence[tuple[str, str, str]]) -> list[bool]:
    """Record attempts that begin: (id, attempts, owner). False: the lease was lost."""
    recorded = {id_ for (id_,) in await connection.fetch(_ATTEMPT, *zip(*sorted(changes), strict=True))}
    return [id_ in recorded for id_, _, _ in changes]


async def settle(connection: Connection, outcomes: Sequence[Outcome]) -> list[SettleResult]:
    """Record new states; messages that are settled leave for the history."""
    if len({one.id for one in outcomes}) < len(outcomes):  # twice the same message: the first one counts
        return [(await settle(connection, [one]))[0] for one in outcomes]
    # Sorted, so that two processes change rows in the same order.
    in_order = sorted(outcomes, key=lambda one: one.id)
    kept = [one for one in in_order if not State(one.state).settled]
    rows = await connection.fetch(_KEEP, *_columns(kept)) if kept else []
    recorded = {row["id"] for row in rows}
    is_superseded = any(row["superseded"] for row in rows)
    if len(kept) < len(outcomes):
        moved = await connection.fetch(_MOVE, *_columns([one for one in in_order if State(one.state).settled]))
        recorded |= {row["id"] for row in moved}
        is_superseded |= await _follow_settled(connection, moved)
    results = [SettleResult(one.id in recorded) for one in outcomes]
    if is_superseded:
        results[0] = SettleResult(results[0].is_recorded, await end_superseded(connection, outcomes[0].now))
    return results


def _columns(outcomes: Sequence[Outcome]) -> "zip[tuple[Any, ...]]":
    return zip(*map(msgspec.structs.astuple, outcomes), strict=True)


async def _follow_settled(connection: Connection, moved: Sequence[Any]) -> bool:
    """Forget the bodies of what failed, and mark what is superseded; return whether anything is."""
    if failed := [row for row in moved if row["state"] == State.FAILED and row["repeat_key"]]:
        await connection.execute(FORGET_BODIES, [row["repeat_key"] for row in failed], [row["id"] for row in failed])
    sent = [row for row in moved if row["state"] == State.SENT and row["supersede_key"]]
    if not sent:
        return False
    keys, numbers = [row["supersede_key"] for row in sent], [row["number"] for row in sent]
    status: str = await connection.execute(_MARK_SUPERSEDED, keys, numbers)
    return status != "UPDATE 0"


async def end_superseded(connection: Connection, now: Instant) -> tuple[EndedMessage, ...]:
    """End messages that a newer one supersedes, unless they are being sent: at most STEP."""
    return _ended(await connection.fetch(_END_SUPERSEDED, now, STEP))


def _ended(rows: Sequence[Any]) -> tuple[EndedMessage, ...]:
    return tuple(EndedMessage(id_, template, Priority(priority)) for id_, template, priority in rows)


_RELEASE: Final = """
    UPDATE mailroom.messages
       SET state = 'queued', due_at = $1, reason = ''
     WHERE number IN (
           SELECT number
             FROM mailroom.messages
            WHERE state = 'held' AND reason = $2 AND expires_at > $1
            ORDER BY number
            LIMIT $3
              FOR UPDATE SKIP LOCKED)
 RETURNING number
"""

# By id as well as created_at: ids sort by time, and have an index.
_PURGE: Final = """
    DELETE FROM mailroom.history
     WHERE id IN (
           SELECT id
             FROM mailroom.history
            WHERE id < $1 AND created_at < $2
            ORDER BY id
            LIMIT $3
              FOR UPDATE SKIP LOCKED)
 RETURNING id
"""

_DELETE_ONCE: Final = """
    DELETE FROM mailroom.once
     WHERE key IN (
           SELECT key FROM mailroom.once WHERE until IS NOT NULL AND until <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED)
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
    UPDATE mailroom.messages
       SET created_at = $1,
           expires_at = $1 + expires_at - created_at,
           due_at = CASE WHEN state = 'held' THEN $1 + expires_at - created_at
                         WHEN attempts::text = '[]' THEN $1 + due_at - created_at  -- it may be delayed
                         ELSE $1 END
     WHERE number > $2 AND number <= $3 AND created_at > $1 + 0.5 AND state <> 'sending'
 RETURNING id
"""
_REDATE_BODIES: Final = "UPDATE mailroom.repeats SET created_at = $1 WHERE message_id = ANY($2::text[])"
# The last number of the next page.
_PAGE: Final = """
    SELECT max(number)
      FROM (SELECT number FROM mailroom.messages WHERE number > $1 ORDER BY number LIMIT $2) AS page
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
    number: int | None = 0
    while number is not None:
        number = await database.run(partial(_redate, after=number, now=now))
    for reason in RELEASED_AT_START:
        await release_in_steps(database, reason, now)


async def _redate(connection: Connection, after: int, now: Instant) -> int | None:
    """Give the messages of one page a new time of acceptance if theirs is in the future; return its last number."""
    last: int | None = await connection.fetchval(_PAGE, after, STEP)
    if last is not None and (dated := [row["id"] for row in await connection.fetch(_REDATE, now, after, last)]):
        await connection.execute(_REDATE_BODIES, now, dated)
    return last
