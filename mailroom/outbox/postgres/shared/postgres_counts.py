"""Counts over all processes, by slices of time. What is counted is stored as a keyed hash: it may be an address."""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, Final

from mailroom.clock import Instant
from mailroom.outbox.postgres.database_pool import Connection, Database
from mailroom.outbox.postgres.database_time import DatabaseTime
from mailroom.outbox.shared import Slice
from mailroom.sealing import Seal

_SLICES: Final = 96
"""Of the period of `take`."""

# Sorted, so that two processes change rows in the same order. `until` stays: an index has it.
_ADD: Final = """
    INSERT INTO mailroom.counts AS stored (what, slice, count, until)
    SELECT what, slice, count, $4
      FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS new (what, slice, count)
     ORDER BY what, slice
        ON CONFLICT (what, slice) DO UPDATE SET count = stored.count + excluded.count
"""

_SUMS: Final = """
    SELECT what, slice, counts.count
      FROM mailroom.counts
      JOIN unnest($1::text[], $2::bigint[]) AS asked (what, slice) USING (what, slice)
"""

_LOCK: Final = "SELECT pg_advisory_xact_lock(4, hashtext($1))"
"""The first number is this purpose's; `puts.py` has others."""

_FORGET: Final = "DELETE FROM mailroom.counts WHERE what = $1 AND slice NOT BETWEEN $2 AND $3"
_USED: Final = "SELECT slice, count FROM mailroom.counts WHERE what = $1 ORDER BY slice"


class PostgresCounts:
    """See `mailroom.outbox.shared.SharedCounts`. The database's clock says which slice of `take` it is."""

    def __init__(self, database: Database, time: DatabaseTime, seal: Seal) -> None:
        self._database = database
        self._time = time
        self._seal = seal

    async def add(self, counts: Mapping[Slice, int], *, until: Instant) -> Mapping[Slice, int]:
        """Add to counts; return their sums over all processes."""
        if not counts:
            return {}
        slices = {(self._hash(one.what), one.number): one for one in counts}
        added = [(*key, counts[one]) for key, one in slices.items() if counts[one]]

        async def change(connection: Connection) -> Sequence[Any]:
            if added:
                await connection.execute(_ADD, *zip(*added, strict=True), self._time.there(until))
            rows: Sequence[Any] = await connection.fetch(_SUMS, *zip(*slices, strict=True))
            return rows

        sums = dict.fromkeys(counts, 0)
        for what, number, count in await self._database.run(change):
            sums[slices[what, number]] = count
        return sums

    async def take(self, what: str, count: int, *, limit: int, seconds: float) -> tuple[int, Instant]:
        """Take up to `count` of at most `limit` in any period of so many seconds.

        What was taken returns one period later, or up to one slice after that.
        """
        name, slice_seconds = self._hash(what), seconds / _SLICES

        async def change(connection: Connection) -> tuple[int, Instant]:
            await connection.execute(_LOCK, name)
            now = self._time.now()
            current = int(now // slice_seconds)
            # Later slices than these were taken before the clock was set back.
            await connection.execute(_FORGET, name, current - _SLICES, current + _SLICES)
            used = [(row["slice"], row["count"]) for row in await connection.fetch(_USED, name)]
            taken = max(0, min(count, limit - sum(number for _, number in used)))
            if taken:
                until = (current + _SLICES + 1) * slice_seconds
                await connection.execute(_ADD, [name], [current], [taken], until)
                used.append((current, taken))
            slice_ = _slice_to_leave(used, limit)
            return taken, now if slice_ is None else (slice_ + 1 + _SLICES) * slice_seconds

        taken, ready_at = await self._database.run(change)
        return taken, self._time.here(ready_at)

    def _hash(self, what: str) -> str:
        return self._seal.key_of("count", what.encode("utf-8", "surrogatepass")).hex()


def _slice_to_leave(used: Sequence[tuple[int, int]], limit: int) -> int | None:
    """Return the slice that must leave the period before there is one more; None: there is one now."""
    excess = sum(count for _, count in used) - limit + 1
    totals = accumulate(count for _, count in used)
    return next((slice_ for (slice_, _), total in zip(used, totals, strict=True) if total >= excess > 0), None)
