"""Changes stored messages: claim, attempt, settle, release, expire, purge, index. Runs in the writer's thread."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import apsw
import msgspec

from mailroom.clock import Instant
from mailroom.errors import SealBroken
from mailroom.message import Priority, State, new_id
from mailroom.outbox import (
    RELEASED_AT_START,
    ClaimLimit,
    ClaimResult,
    EndedMessage,
    Leased,
    SettleResult,
)
from mailroom.outbox.rows import MESSAGE_COLUMNS, leased_of
from mailroom.outbox.sqlite.database import execute_bulk, rows_of, transaction
from mailroom.outbox.sqlite.writer import RunSeparately
from mailroom.sealing import Seal

# In the order of the index, so that SQLite stops reading at the limit.
_DUE: Final = f"""
    SELECT {MESSAGE_COLUMNS}
      FROM messages
     WHERE priority = ?1 AND due_at IS NOT NULL AND due_at <= ?2 AND expires_at > ?2
       AND (route IN (SELECT value FROM json_each(?3))) <> ?4
       AND NOT (contested = 1 AND EXISTS (  -- the newest of several codes goes first
           SELECT 1
             FROM messages AS newer
            WHERE newer.supersede_key = messages.supersede_key AND newer.contested = 1 AND newer.due_at IS NOT NULL
              AND newer.number > messages.number AND newer.state <> 'held'))
     ORDER BY due_at
     LIMIT ?5
"""  # noqa: S608 - a constant

_LEASE: Final = """
    WITH leased (id, owner, until) AS (VALUES {values})
    UPDATE messages
       SET state = 'sending', owner = leased.owner, due_at = leased.until
      FROM leased
     WHERE messages.id = leased.id
"""

_HOLD: Final = "UPDATE messages SET state = 'held', reason = ?, owner = NULL, due_at = expires_at WHERE id = ?"

_REROUTE: Final = """
    UPDATE messages
       SET route = ?, state = 'queued', owner = NULL, due_at = min(created_at, expires_at)
     WHERE id = ? AND owner = ?
"""

# Held messages, and leases that outlive `expires_at`, cannot be claimed again.
_NEXT: Final = """
    SELECT due_at
      FROM messages
     WHERE priority = ?1 AND due_at > ?2 AND due_at < expires_at
     ORDER BY due_at
     LIMIT 1
"""


@dataclass(frozen=True, slots=True, eq=False)
class Claim:
    """The arguments of a `claim`."""

    now: Instant
    until: Instant
    limits: tuple[ClaimLimit, ...]
    owner: str
    seal: Seal


def claim(connection: apsw.Connection, claim: Claim) -> ClaimResult:
    """Lease messages that are due."""
    leased: list[Leased] = []
    unreadable: list[tuple[str, Any]] = []
    for row in _read_due(connection, claim):
        try:
            leased.append(leased_of(row, claim.seal))
        except SealBroken as error:  # it must not block the others
            unreadable.append((str(error), row[0]))
        except Exception as error:  # noqa: BLE001 - nor must any other defect
            unreadable.append((f"it cannot be read: {type(error).__name__}", row[0]))
    connection.executemany(_HOLD, unreadable)
    execute_bulk(connection, _LEASE, [(one.message.id, claim.owner, claim.until) for one in leased])
    if unreadable:
        return ClaimResult(tuple(leased), claim.now)
    nexts = [connection.execute(_NEXT, (int(priority), claim.now)).get for priority in Priority]
    return ClaimResult(tuple(leased), min((due_at for due_at in nexts if due_at is not None), default=None))


def reroute(connection: apsw.Connection, routes: Mapping[str, str], owner: str) -> None:
    """Queue leased messages again under other routes."""
    connection.executemany(_REROUTE, [(route, id_, owner) for id_, route in routes.items()])


def _read_due(connection: apsw.Connection, claim: Claim) -> list[tuple[Any, ...]]:
    """Return the rows that the limits allow: codes, then invitations, then events of each limit."""
    due: list[tuple[Any, ...]] = []
    for limit in claim.limits:
        routes = msgspec.json.encode(limit.routes).decode()
        left = limit.total
        for priority in Priority:
            if priority is Priority.INVITATION:
                left = min(left, limit.others)
            rows = rows_of(connection, _DUE, (int(priority), claim.now, routes, limit.exclude, left)) if left else []
            due += rows
            left -= len(rows)
    return due


_ATTEMPT: Final = """
    WITH begun (id, attempts, owner) AS (VALUES {values})
    UPDATE messages
       SET attempts = begun.attempts
      FROM begun
     WHERE messages.id = begun.id AND messages.owner = begun.owner AND messages.state = 'sending'
       AND NOT messages.superseded
"""

_SETTLE: Final = """
    WITH settled (id, owner, state, attempts, due_at, reason, provider_message_id, settled_at, rendered)
      AS (VALUES {values})
    UPDATE messages
       SET state = settled.state,
           attempts = settled.attempts,
           reason = settled.reason,
           provider_message_id = settled.provider_message_id,
           settled_at = settled.settled_at,
           owner = NULL,
           due_at = CASE settled.state WHEN 'queued' THEN min(settled.due_at, messages.expires_at)
                                       WHEN 'held' THEN messages.expires_at END,
           sealed = CASE WHEN settled.state IN ('queued', 'held') THEN messages.sealed END,
           rendered = CASE WHEN settled.state IN ('queued', 'held')
                           THEN coalesce(settled.rendered, messages.rendered) END
      FROM settled
     WHERE messages.id = settled.id AND messages.owner = settled.owner AND messages.state = 'sending'
"""


# What is sent supersedes older messages with the same key, and nothing else that was settled does.
_MARK_SUPERSEDED: Final = """
    WITH sent (key, number) AS (
        SELECT supersede_key, number
          FROM messages
         WHERE id IN (SELECT value FROM json_each(?)) AND contested = 1
    )
    UPDATE messages
       SET superseded = 1
      FROM sent
     WHERE messages.supersede_key = sent.key AND messages.contested = 1 AND messages.due_at IS NOT NULL
       AND messages.number < sent.number
"""

_END_SUPERSEDED: Final = """
    UPDATE messages
       SET state = 'superseded', settled_at = ?, due_at = NULL, owner = NULL, sealed = NULL, rendered = NULL,
           reason = 'a newer code was sent'
     WHERE superseded = 1 AND due_at IS NOT NULL AND state IN ('queued', 'held')
 RETURNING id, template, priority
"""


def attempt(connection: apsw.Connection, changes: Sequence[tuple[object, ...]]) -> list[bool]:
    """Record attempts that begin: (id, attempts, owner). False: the lease was lost."""
    return _change_leased(connection, _ATTEMPT, changes)


def settle(connection: apsw.Connection, settled: Sequence[tuple[Instant, tuple[object, ...]]]) -> list[SettleResult]:
    """Record new states: now, and the columns of `settled` in `_SETTLE`."""
    changes = [change for _, change in settled]
    results = [SettleResult(is_recorded) for is_recorded in _change_leased(connection, _SETTLE, changes)]
    if sent := [change[0] for change in changes if change[2] == State.SENT]:
        connection.execute(_MARK_SUPERSEDED, (msgspec.json.encode(sent).decode(),))
    if len(sent) < len(changes) or connection.changes():
        results[0] = msgspec.structs.replace(results[0], superseded=end_superseded(connection, settled[0][0]))
    return results


def end_superseded(connection: apsw.Connection, now: Instant) -> tuple[EndedMessage, ...]:
    """End messages that a newer one supersedes, unless they are being sent."""
    rows = rows_of(connection, _END_SUPERSEDED, (now,))
    return tuple(EndedMessage(id_, template, Priority(priority)) for id_, template, priority in rows)


def _change_leased(connection: apsw.Connection, sql: str, changes: Sequence[tuple[object, ...]]) -> list[bool]:
    is_complete = execute_bulk(connection, sql, changes) == len(changes)
    if not is_complete and len(changes) > 1:  # the number does not say which lease was lost
        raise RunSeparately
    return [is_complete] * len(changes)


_RELEASE: Final = """
    UPDATE messages
       SET state = 'queued', due_at = ?, reason = ''
     WHERE number IN (
           SELECT number
             FROM messages
            WHERE state = 'held' AND reason = ? AND expires_at > ?
            ORDER BY number
            LIMIT ?)
"""

_EXPIRE: Final = """
    UPDATE messages
       SET state = 'expired', settled_at = ?, due_at = NULL, owner = NULL, sealed = NULL, rendered = NULL,
           reason = 'its lifetime ended while it ' || CASE state WHEN 'held' THEN 'was held: ' || reason
                                                                 ELSE 'waited' END
     WHERE number IN (
           SELECT number
             FROM messages
            WHERE priority IN (0, 1, 2) AND due_at IS NOT NULL AND due_at <= ? AND expires_at <= ?
            LIMIT ?)
 RETURNING id, template, priority
"""

# By id as well as created_at: ids sort by time, and have an index.
_PURGE: Final = """
    DELETE FROM messages
     WHERE number IN (
           SELECT number
             FROM messages
            WHERE id < ? AND created_at < ? AND due_at IS NULL
            ORDER BY id
            LIMIT ?)
 RETURNING recipient_key, number
"""

_DELETE_RECIPIENT: Final = "DELETE FROM recipients WHERE recipient_key = ? AND number = ?"

# SQLite may give the number of a deleted message to a new one.
_LOWER_PROGRESS: Final = "UPDATE progress SET indexed = min(indexed, (SELECT coalesce(max(number), 0) FROM messages))"

_DELETE_ONCE: Final = (
    "DELETE FROM once WHERE key IN (SELECT key FROM once WHERE until IS NOT NULL AND until <= ? LIMIT ?)"
)

_RECLAIM: Final = """
    UPDATE messages
       SET state = 'queued', due_at = min(?, created_at, expires_at), owner = NULL
     WHERE state = 'sending' AND due_at IS NOT NULL
"""

# The clock was set back since these were accepted. Their age is unknown, so their lifetime starts again now.
_REDATE: Final = """
    UPDATE messages
       SET created_at = ?1,
           expires_at = ?1 + expires_at - created_at,
           due_at = CASE WHEN state = 'held' THEN ?1 + expires_at - created_at
                         WHEN attempts = '[]' THEN ?1 + due_at - created_at  -- it may be delayed
                         ELSE ?1 END
     WHERE id >= ?2 AND created_at > ?1 AND due_at IS NOT NULL
"""


def release(connection: apsw.Connection, reason: str, now: Instant, limit: int | None = None) -> int:
    """Queue held messages again; return how many."""
    connection.execute(_RELEASE, (now, reason, now, -1 if limit is None else limit))
    return connection.changes()


def expire(connection: apsw.Connection, now: Instant, limit: int) -> list[EndedMessage]:
    """Change expired messages to `expired`; return them."""
    rows = rows_of(connection, _EXPIRE, (now, now, now, limit))
    return [EndedMessage(id_, template, Priority(priority)) for id_, template, priority in rows]


def purge(connection: apsw.Connection, before: Instant, now: Instant, limit: int) -> int:
    """Delete settled messages accepted before, and `once` keys that ended; return how many rows."""
    deleted = delete_settled(connection, before, limit)
    connection.execute(_DELETE_ONCE, (now, limit))
    return deleted + connection.changes()


def delete_settled(connection: apsw.Connection, before: Instant, limit: int) -> int:
    """Delete settled messages accepted before; return how many."""
    deleted = rows_of(connection, _PURGE, (new_id(max(0.0, before), bytes(10)), before, limit))
    if deleted:
        connection.executemany(_DELETE_RECIPIENT, sorted(deleted))
        connection.execute(_LOWER_PROGRESS)
    return len(deleted)


_NOT_INDEXED: Final = """
    SELECT recipient_key, number
      FROM messages
     WHERE number > (SELECT indexed FROM progress)
     ORDER BY number
     LIMIT ?
"""

_INSERT_RECIPIENT: Final = "INSERT INTO recipients (recipient_key, number) VALUES (?, ?)"

_SET_PROGRESS: Final = "UPDATE progress SET indexed = ?"


def index(connection: apsw.Connection, limit: int) -> int:
    """Index the recipients of messages stored lately, sorted by key: neighbours share a page; return how many."""
    rows = rows_of(connection, _NOT_INDEXED, (limit,))
    if rows:
        connection.executemany(_INSERT_RECIPIENT, sorted(rows))
        connection.execute(_SET_PROGRESS, (max(number for _, number in rows),))
    return len(rows)


def start(connection: apsw.Connection, now: Instant) -> None:
    """End the last process's leases, and queue what is held until a restart."""
    with transaction(connection):
        connection.execute(_RECLAIM, (now,))
        end_superseded(connection, now)
        connection.execute(_REDATE, (now, new_id(max(0.0, now), bytes(10))))
        for reason in RELEASED_AT_START:
            release(connection, reason, now)
