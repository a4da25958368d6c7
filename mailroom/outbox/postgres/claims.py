"""Leases due messages. Any number of processes claim at the same time: each skips rows that another one has locked.

Compare with `sqlite/operations.py`.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Final

from mailroom.clock import Instant
from mailroom.errors import SealBroken
from mailroom.message import Priority
from mailroom.outbox import ClaimLimit, ClaimResult, Leased
from mailroom.outbox.postgres.database_pool import Database
from mailroom.outbox.rows import MESSAGE_COLUMNS, leased_of
from mailroom.sealing import Seal

# The routes of queued messages, whatever the settings are. Each step finds the next one in the index, so that the
# number of messages does not matter (PostgreSQL before 18 has no skip scan).
_ROUTES: Final = """
    WITH RECURSIVE found (priority, route) AS (
        SELECT of.priority, (SELECT min(route)
                               FROM mailroom.messages
                              WHERE state = 'queued' AND messages.priority = of.priority)
          FROM (VALUES {priorities}) AS of (priority)
         UNION ALL
        SELECT found.priority, (SELECT min(messages.route)
                                  FROM mailroom.messages
                                 WHERE state = 'queued' AND messages.priority = found.priority
                                   AND messages.route > found.route)
          FROM found
         WHERE found.route IS NOT NULL
    )"""

# The newest of several codes goes first. `ctid` is the place of a row, which stays while the row is locked; one that
# another transaction has just changed has a new place, and is left for the next claim.
_MAY_BE_SENT: Final = """(
    SELECT ctid AS place, id AS due_id, due_at AS was_due_at
      FROM mailroom.messages
     WHERE state = '{state}' AND priority = $1 AND {route} AND due_at <= $2 AND expires_at > $2
       AND NOT (supersede_key IS NOT NULL AND EXISTS (
           SELECT 1
             FROM mailroom.contents AS newer
            WHERE newer.supersede_key = messages.supersede_key AND newer.number > messages.number
              AND (SELECT state FROM mailroom.messages WHERE id = newer.id) <> 'held'))
     ORDER BY due_at
     LIMIT $3
       FOR UPDATE SKIP LOCKED)"""

# Of each route at most the limit, by its index; and leases that have ended, which are few. The commit does not wait for
# the disk: if a crash undoes leases, the messages are due again, and no later attempt or outcome survives it either.
_LEASE: Final = f"""
    {_ROUTES.format(priorities="($1::smallint)")}
    UPDATE mailroom.messages
       SET state = 'sending', owner = $6, due_at = $7
      FROM (SELECT place, due_id, was_due_at
              FROM (SELECT queued.*
                      FROM found
                     CROSS JOIN LATERAL {_MAY_BE_SENT.format(state="queued", route="messages.route = found.route")}
                        AS queued
                     WHERE (found.route = ANY($4::text[])) <> $5
                     UNION ALL
                    SELECT ended.*
                      FROM {_MAY_BE_SENT.format(state="sending", route="(messages.route = ANY($4::text[])) <> $5")}
                        AS ended) AS of_each
             ORDER BY was_due_at
             LIMIT $3) AS due
      LEFT JOIN LATERAL (SELECT sealed, record FROM mailroom.contents WHERE id = due_id OFFSET 0) AS content ON true
     WHERE messages.ctid = due.place AND (SELECT set_config('synchronous_commit', 'off', true)) = 'off'
 RETURNING {MESSAGE_COLUMNS}, was_due_at
"""  # noqa: S608 - a constant

_HOLD: Final = """
    UPDATE mailroom.messages
       SET state = 'held', reason = ($2::text[])[array_position($1::text[], id)], owner = NULL, due_at = expires_at
     WHERE id = ANY ($1::text[]) AND owner = $3
"""

_REROUTE: Final = """
    UPDATE mailroom.messages
       SET route = ($2::text[])[array_position($1::text[], id)], state = 'queued', owner = NULL,
           due_at = least(created_at, expires_at)
     WHERE id = ANY ($1::text[]) AND owner = $3
"""

# Held messages, and leases that outlive `expires_at`, have no moment at which they could be claimed.
_NEXT: Final = f"""
    {_ROUTES.format(priorities="(0::smallint), (1::smallint), (2::smallint)")}
    SELECT min(due_at)
      FROM (SELECT next.due_at
              FROM found
             CROSS JOIN LATERAL (
                   SELECT due_at
                     FROM mailroom.messages
                    WHERE state = 'queued' AND messages.priority = found.priority AND messages.route = found.route
                      AND due_at > $1 AND due_at < expires_at
                    ORDER BY due_at
                    LIMIT 1) AS next
             UNION ALL
            (SELECT due_at
               FROM mailroom.messages
              WHERE state = 'sending' AND due_at > $1 AND due_at < expires_at
              ORDER BY due_at
              LIMIT 1)) AS of_each
"""  # noqa: S608 - a constant


@dataclass(frozen=True, slots=True, eq=False)
class Claim:
    """The arguments of a `claim`, by the database's clock."""

    now: Instant
    until: Instant
    limits: tuple[ClaimLimit, ...]
    owner: str
    seal: Seal


async def claim(database: Database, claim: Claim, ensure_alive: Callable[[], Awaitable[None]]) -> ClaimResult:
    """Lease messages that are due, those of each limit and priority in a transaction of its own. Raises CannotKeep.

    Before each of them `ensure_alive` prolongs the owner's row if that is due.
    """
    leased: list[Leased] = []
    unreadable: dict[Any, str] = {}
    async for row in _lease_due(database, claim, ensure_alive):
        try:
            leased.append(leased_of(row, claim.seal))
        except SealBroken as error:  # it must not block the others
            unreadable[row[0]] = str(error)
        except Exception as error:  # noqa: BLE001 - nor must any other defect
            unreadable[row[0]] = f"it cannot be read: {type(error).__name__}"
    if unreadable:
        await database.rows(_HOLD, list(unreadable), list(unreadable.values()), claim.owner)
        return ClaimResult(tuple(leased), claim.now)
    if len(leased) >= min((limit.total for limit in claim.limits), default=1):
        return ClaimResult(tuple(leased), claim.now)  # more may be due at once
    [(next_due,)] = await database.rows(_NEXT, claim.now)
    return ClaimResult(tuple(leased), next_due)


async def reroute(database: Database, routes: Mapping[str, str], owner: str) -> None:
    """Queue leased messages again under other routes."""
    await database.rows(_REROUTE, list(routes), list(routes.values()), owner)


async def _lease_due(
    database: Database, claim: Claim, ensure_alive: Callable[[], Awaitable[None]]
) -> AsyncIterator[tuple[Any, ...]]:
    """Lease what the limits allow, and yield its rows: codes, then invitations, then events of each limit."""
    for limit in claim.limits:
        left = limit.total
        for priority in Priority:
            if priority is Priority.INVITATION:
                left = min(left, limit.others)
            if left > 0:
                await ensure_alive()
                which = int(priority), claim.now, left, limit.routes, limit.exclude
                rows = await database.rows(_LEASE, *which, claim.owner, claim.until)
                left -= len(rows)
                for row in sorted(rows, key=itemgetter("was_due_at")):
                    yield tuple(row)[:-1]
