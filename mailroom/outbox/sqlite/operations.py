"""What the writer's thread does to messages that are kept: each function serves all callers of one transaction."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import apsw
import msgspec

from mailroom.clock import Instant
from mailroom.errors import SealBroken
from mailroom.message import Priority, new_id
from mailroom.outbox import (
    HELD_MISCONFIGURED,
    HELD_REFUSED,
    HELD_RENDERING,
    ClaimLimit,
    ClaimResult,
    ExpiredMessage,
    Leased,
)
from mailroom.outbox.sqlite.database import flat, in_bulk, rows_of, values
from mailroom.outbox.sqlite.rows import MESSAGE_COLUMNS, attempts_of, message_of
from mailroom.outbox.sqlite.writer import RunSeparately
from mailroom.sealing import Seal

# ---------------------------------------------------------------- claim

# The order is that of the index, so reading ends with the limit.
_DUE: Final = f"""
    SELECT attempts, {MESSAGE_COLUMNS}
      FROM messages
     WHERE priority = ?1 AND due_at IS NOT NULL AND due_at <= ?2 AND expires_at > ?2
       AND (template IN (SELECT value FROM json_each(?3))) <> ?4
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
    """A `claim` and its owner."""

    now: Instant
    until: Instant
    limits: tuple[ClaimLimit, ...]
    owner: str
    seal: Seal


def claim(connection: apsw.Connection, claims: Sequence[Claim]) -> list[ClaimResult]:
    """Lease what is due."""
    return [_claim(connection, one) for one in claims]


def _claim(connection: apsw.Connection, claim: Claim) -> ClaimResult:
    leased: list[Leased] = []
    unreadable: list[tuple[str, Any]] = []
    for text, *row in _read_due(connection, claim):
        try:
            leased.append(Leased(message_of(tuple(row), claim.seal), attempts_of(text)))
        except SealBroken as error:  # it must not block the others
            unreadable.append((str(error), row[0]))
        except Exception as error:  # noqa: BLE001 - nor must an unexpected fault
            unreadable.append((f"it cannot be read: {type(error).__name__}", row[0]))
    connection.executemany(_HOLD, unreadable)
    changes = [(one.message.id, claim.owner, claim.until) for one in leased]
    for piece in in_bulk(changes):
        connection.execute(_LEASE.format(values=values(piece)), flat(piece))
    if unreadable:
        return ClaimResult(tuple(leased), claim.now)
    nexts = [connection.execute(_NEXT, (int(priority), claim.now)).get for priority in Priority]
    return ClaimResult(tuple(leased), min((due_at for due_at in nexts if due_at is not None), default=None))


def _read_due(connection: apsw.Connection, claim: Claim) -> list[tuple[Any, ...]]:
    """Return the rows that the limits allow: codes, then invitations, then events of each limit."""
    due: list[tuple[Any, ...]] = []
    for limit in claim.limits:
        templates = msgspec.json.encode(limit.templates).decode()
        left = limit.total
        for priority in Priority:
            if priority is Priority.INVITATION:
                left = min(left, limit.others)
            rows = rows_of(connection, _DUE, (int(priority), claim.now, templates, limit.exclude, left)) if left else []
            due += rows
            left -= len(rows)
    return due


# ---------------------------------------------------------------- attempt and settle

_ATTEMPT: Final = """
    WITH begun (id, attempts, owner) AS (VALUES {values})
    UPDATE messages
       SET attempts = begun.attempts
      FROM begun
     WHERE messages.id = begun.id AND messages.owner = begun.owner AND messages.state = 'sending'
"""

_SETTLE: Final = """
    WITH settled (id, owner, state, attempts, due_at, reason, provider_message_id, settled_at) AS (VALUES {values})
    UPDATE messages
       SET state = settled.state,
           attempts = settled.attempts,
           reason = settled.reason,
           provider_message_id = settled.provider_message_id,
           settled_at = settled.settled_at,
           owner = NULL,
           due_at = CASE settled.state WHEN 'queued' THEN min(settled.due_at, messages.expires_at)
                                       WHEN 'held' THEN messages.expires_at END,
           sealed = CASE WHEN settled.state IN ('queued', 'held') THEN messages.sealed END
      FROM settled
     WHERE messages.id = settled.id AND messages.owner = settled.owner AND messages.state = 'sending'
"""


def attempt(connection: apsw.Connection, changes: Sequence[tuple[object, ...]]) -> list[bool]:
    """Record attempts that begin: (id, attempts, owner)."""
    return _change(connection, _ATTEMPT, changes)


def settle(connection: apsw.Connection, changes: Sequence[tuple[object, ...]]) -> list[bool]:
    """Record what became of messages: (id, owner, state, attempts, due_at, reason, provider_message_id, settled_at)."""
    return _change(connection, _SETTLE, changes)


def _change(connection: apsw.Connection, sql: str, changes: Sequence[tuple[object, ...]]) -> list[bool]:
    for piece in in_bulk(changes):
        connection.execute(sql.format(values=values(piece)), flat(piece))
        if connection.changes() != len(piece):  # a lease was lost; only alone can it be told whose
            if len(changes) > 1:
                raise RunSeparately
            return [False]
    return [True] * len(changes)


# ---------------------------------------------------------------- release, expire, purge, begin

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
       SET state = 'expired', settled_at = ?, due_at = NULL, owner = NULL, sealed = NULL,
           reason = 'its lifetime ended while it ' || CASE state WHEN 'held' THEN 'was held: ' || reason
                                                                 ELSE 'waited' END
     WHERE number IN (
           SELECT number
             FROM messages
            WHERE priority IN (0, 1, 2) AND due_at IS NOT NULL AND due_at <= ? AND expires_at <= ?
            LIMIT ?)
 RETURNING id, template, priority
"""

# By id, not created_at: the ids sort by time and have an index.
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

_UNLIST: Final = "DELETE FROM recipients WHERE recipient_key = ? AND number = ?"

# A number whose message is gone may be given again.
_SET_BACK: Final = "UPDATE progress SET indexed = min(indexed, (SELECT coalesce(max(number), 0) FROM messages))"

_FORGET: Final = "DELETE FROM once WHERE key IN (SELECT key FROM once WHERE until IS NOT NULL AND until <= ? LIMIT ?)"

_RECLAIM: Final = """
    UPDATE messages
       SET state = 'queued', due_at = min(?, created_at, expires_at), owner = NULL
     WHERE state = 'sending' AND due_at IS NOT NULL
"""


# The clock was set back since these were accepted. Nobody knows how long ago that was, so they live as from now.
_REDATE: Final = """
    UPDATE messages
       SET created_at = ?1,
           expires_at = ?1 + expires_at - created_at,
           due_at = CASE state WHEN 'held' THEN ?1 + expires_at - created_at ELSE ?1 END
     WHERE id >= ?2 AND created_at > ?1 AND due_at IS NOT NULL
"""


@dataclass(frozen=True, slots=True)
class Release:
    """A `release`."""

    reason: str
    now: Instant
    limit: int | None = None


def release(connection: apsw.Connection, releases: Sequence[Release]) -> list[int]:
    """Queue held messages again."""
    released = []
    for one in releases:
        limit = -1 if one.limit is None else one.limit
        connection.execute(_RELEASE, (one.now, one.reason, one.now, limit))
        released.append(connection.changes())
    return released


def expire(connection: apsw.Connection, calls: Sequence[tuple[Instant, int]]) -> list[list[ExpiredMessage]]:
    """End what has expired: (now, limit)."""
    return [
        [
            ExpiredMessage(id_, template, Priority(priority))
            for id_, template, priority in rows_of(connection, _EXPIRE, (now, now, now, limit))
        ]
        for now, limit in calls
    ]


def purge(connection: apsw.Connection, calls: Sequence[tuple[Instant, Instant, int]]) -> list[int]:
    """Delete what is old: (before, now, limit)."""
    gone = []
    for before, now, limit in calls:
        purged = rows_of(connection, _PURGE, (new_id(max(0.0, before), bytes(10)), before, limit))
        if purged:
            connection.executemany(_UNLIST, sorted(purged))
            connection.execute(_SET_BACK)
        connection.execute(_FORGET, (now, limit))
        gone.append(len(purged) + connection.changes())
    return gone


# ---------------------------------------------------------------- remember

_REMEMBER: Final = "INSERT OR REPLACE INTO once (key, message_id, until) VALUES (?, '', ?)"

HAPPENED: Final = "SELECT 1 FROM once WHERE key = ? AND (until IS NULL OR until > ?)"


def remember(connection: apsw.Connection, noted: Sequence[tuple[bytes, Instant | None]]) -> list[None]:
    """Note what happened: (key, until)."""
    connection.executemany(_REMEMBER, noted)
    return [None] * len(noted)


# ---------------------------------------------------------------- index

_UNLISTED: Final = """
    SELECT recipient_key, number
      FROM messages
     WHERE number > (SELECT indexed FROM progress)
     ORDER BY number
     LIMIT ?
"""

_LIST: Final = "INSERT INTO recipients (recipient_key, number) VALUES (?, ?)"

_LISTED: Final = "UPDATE progress SET indexed = ?"


def index(connection: apsw.Connection, limits: Sequence[int]) -> list[int]:
    """Write down who got messages that were kept lately, in the order of the keys: neighbours share a page."""
    counts = []
    for limit in limits:
        unlisted = rows_of(connection, _UNLISTED, (limit,))
        if unlisted:
            connection.executemany(_LIST, sorted(unlisted))
            connection.execute(_LISTED, (max(number for _, number in unlisted),))
        counts.append(len(unlisted))
    return counts


_RELEASED_AT_START: Final = (HELD_MISCONFIGURED, HELD_REFUSED, HELD_RENDERING)


def begin(connection: apsw.Connection, now: Instant) -> None:
    """Take over what the last process left: its leases, and what waited for a restart."""
    with connection:
        connection.execute(_RECLAIM, (now,))
        connection.execute(_REDATE, (now, new_id(max(0.0, now), bytes(10))))
        release(connection, [Release(reason, now) for reason in _RELEASED_AT_START])
