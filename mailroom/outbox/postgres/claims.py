"""Leases due messages. Any number of processes claim at the same time: each skips rows that another one has locked.

Compare with `sqlite/operations.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mailroom.clock import Instant
from mailroom.errors import SealBroken
from mailroom.message import Priority
from mailroom.outbox import ClaimLimit, ClaimResult, Leased
from mailroom.outbox.postgres.database_pool import Connection
from mailroom.outbox.rows import MESSAGE_COLUMNS, leased_of
from mailroom.sealing import Seal

# The routes of queued messages, whatever the settings are. Each step finds the next one in the index, so that the
# number of messages does not matter (PostgreSQL before 18 has no skip scan).
_ROUTES: Final = """
    WITH RECURSIVE found (priority, route) AS (
        SELECT of.priority, (SELECT min(route)
                               FROM mailroom.messages
                              WHERE state = 'queued' AND messages.priority = of.priority)
          FROM (VALUES (0::smallint), (1::smallint), (2::smallint)) AS of (priority)
         UNION ALL
        SELECT found.priority, (SELECT min(messages.route)
                                  FROM mailroom.messages
                                 WHERE state = 'queued' AND messages.priority = found.priority
                                   AND messages.route > found.route)
          FROM found
         WHERE found.route IS NOT NULL
    )
    SELECT priority, route FROM found WHERE route IS NOT NULL
"""

# The newest of several codes goes first.
_MAY_BE_SENT: Final = f"""(
    SELECT {MESSAGE_COLUMNS}, due_at
      FROM mailroom.messages
     WHERE state = '{{state}}' AND priority = $1 AND {{route}} AND due_at <= $2 AND expires_at > $2
       AND NOT (supersede_key IS NOT NULL AND EXISTS (
           SELECT 1
             FROM mailroom.messages AS newer
            WHERE newer.supersede_key = messages.supersede_key AND newer.number > messages.number
              AND newer.state <> 'held'))
     ORDER BY due_at
     LIMIT $3
       FOR UPDATE SKIP LOCKED)"""  # noqa: S608 - a constant

# Of each route at most the limit, by its index; and leases that have ended, which are few.
_DUE: Final = f"""
    SELECT {MESSAGE_COLUMNS}
      FROM (SELECT queued.*
              FROM unnest($4::text[]) AS of (route)
             CROSS JOIN LATERAL {_MAY_BE_SENT.format(state="queued", route="messages.route = of.route")} AS queued
             UNION ALL
            SELECT ended.*
              FROM {_MAY_BE_SENT.format(state="sending", route="(messages.route = ANY($5::text[])) <> $6")} AS ended
           ) AS due
     ORDER BY due_at
     LIMIT $3
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

# Held messages, and leases that outlive `expires_at`, have no moment at which they could be claimed.
_NEXT: Final = """
    SELECT min(due_at)
      FROM (SELECT next.due_at
              FROM unnest($2::smallint[], $3::text[]) AS of (priority, route)
             CROSS JOIN LATERAL (
                   SELECT due_at
                     FROM mailroom.messages
                    WHERE state = 'queued' AND messages.priority = of.priority AND messages.route = of.route
                      AND due_at > $1 AND due_at < expires_at
                    ORDER BY due_at
                    LIMIT 1) AS next
             UNION ALL
            (SELECT due_at
               FROM mailroom.messages
              WHERE state = 'sending' AND due_at > $1 AND due_at < expires_at
              ORDER BY due_at
              LIMIT 1)) AS of_each
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
    routes = [(Priority(priority), route) for priority, route in await connection.fetch(_ROUTES)]
    for row in await _read_due(connection, claim, routes):
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
    if len(leased) >= min((limit.total for limit in claim.limits), default=1):
        return ClaimResult(tuple(leased), claim.now)  # more may be due at once
    priorities, names = [int(priority) for priority, _ in routes], [route for _, route in routes]
    return ClaimResult(tuple(leased), await connection.fetchval(_NEXT, claim.now, priorities, names))


async def reroute(connection: Connection, routes: Mapping[str, str], owner: str) -> None:
    """Queue leased messages again under other routes."""
    await connection.execute(_REROUTE, list(routes), list(routes.values()), owner)


async def _read_due(connection: Connection, claim: Claim, routes: Sequence[tuple[Priority, str]]) -> list[Any]:
    """Return the rows that the limits allow: codes, then invitations, then events of each limit."""
    due: list[Any] = []
    for limit in claim.limits:
        left = limit.total
        for priority in Priority:
            if priority is Priority.INVITATION:
                left = min(left, limit.others)
            if left > 0:
                queued = [route for of, route in routes if of == priority and (route in limit.routes) != limit.exclude]
                rows = await connection.fetch(_DUE, int(priority), claim.now, left, queued, limit.routes, limit.exclude)
                due += rows
                left -= len(rows)
    return due
