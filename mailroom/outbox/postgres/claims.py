"""Leases due messages. Any number of processes claim at the same time: each skips rows that another one has locked.

Compare with `sqlite/operations.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from mailroom.clock import Instant
from mailroom.errors import SealBroken
from mailroom.message import Priority
from mailroom.outbox import ClaimLimit, ClaimResult, Leased
from mailroom.outbox.postgres.database_pool import Connection
from mailroom.outbox.rows import MESSAGE_COLUMNS, leased_of
from mailroom.sealing import Seal

# Held messages, and leases that outlive `expires_at`, have no moment at which they could be claimed. The newest of
# several codes goes first.
_DUE: Final = f"""
    SELECT {MESSAGE_COLUMNS}
      FROM mailroom.messages
     WHERE priority = $1 AND due_at <= $2 AND expires_at > $2
       AND (route = ANY($3::text[])) <> $4
       AND NOT (supersede_key IS NOT NULL AND EXISTS (
           SELECT 1
             FROM mailroom.messages AS newer
            WHERE newer.supersede_key = messages.supersede_key AND newer.number > messages.number
              AND newer.state <> 'held'))
     ORDER BY due_at
     LIMIT $5
       FOR UPDATE SKIP LOCKED
"""  # noqa: S608 - a constant

_LEASE: Final = """
    UPDATE mailroom.messages SET state = 'sending', owner = $2, due_at = $3 WHERE id = ANY($1::text[])
"""

_HOLD: Final = """
    UPDATE mailroom.messages
       SET state = 'held', reason = bad.reason, owner = NULL, due_at = expires_at
      FROM unnest($1::text[], $2::text[]) AS bad (reason, id)
     WHERE messages.id = bad.id
"""

_REROUTE: Final = """
    UPDATE mailroom.messages
       SET route = other.route, state = 'queued', owner = NULL, due_at = least(created_at, expires_at)
      FROM unnest($1::text[], $2::text[]) AS other (id, route)
     WHERE messages.id = other.id AND messages.owner = $3
"""

_NEXT: Final = """
    SELECT min(due_at)
      FROM (VALUES (0::smallint), (1::smallint), (2::smallint)) AS of (priority)
      CROSS JOIN LATERAL (
           SELECT due_at
             FROM mailroom.messages
            WHERE messages.priority = of.priority AND due_at > $1 AND due_at < expires_at
            ORDER BY due_at
            LIMIT 1) AS next
"""


@dataclass(frozen=True, slots=True, eq=False)
class Claim:
    """The arguments of a `claim`, by the database's clock."""

    now: Instant
    until: Instant
    limits: tuple[ClaimLimit, ...]
    owner: str
    seal: Seal


async def claim(connection: Connection, claim: Claim) -> ClaimResult:
    """Lease messages that are due."""
    leased: list[Leased] = []
    unreadable: list[tuple[str, Any]] = []
    for row in await _read_due(connection, claim):
        try:
            leased.append(leased_of(tuple(row), claim.seal))
        except SealBroken as error:  # it must not block the others
            unreadable.append((str(error), row[0]))
        except Exception as error:  # noqa: BLE001 - nor must any other defect
            unreadable.append((f"it cannot be read: {type(error).__name__}", row[0]))
    if leased:
        await connection.execute(_LEASE, [one.message.id for one in leased], claim.owner, claim.until)
    if unreadable:
        await connection.execute(_HOLD, *zip(*unreadable, strict=True))
        return ClaimResult(tuple(leased), claim.now)
    return ClaimResult(tuple(leased), await connection.fetchval(_NEXT, claim.now))


async def reroute(connection: Connection, routes: Mapping[str, str], owner: str) -> None:
    """Queue leased messages again under other routes."""
    await connection.execute(_REROUTE, list(routes), list(routes.values()), owner)


async def _read_due(connection: Connection, claim: Claim) -> list[Any]:
    """Return the rows that the limits allow: codes, then invitations, then events of each limit."""
    due: list[Any] = []
    for limit in claim.limits:
        left = limit.total
        for priority in Priority:
            if priority is Priority.INVITATION:
                left = min(left, limit.others)
            if left > 0:
                rows = await connection.fetch(_DUE, int(priority), claim.now, limit.routes, limit.exclude, left)
                due += rows
                left -= len(rows)
    return due
