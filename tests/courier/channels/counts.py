"""Counts over all processes, in memory."""

from collections import defaultdict
from collections.abc import Mapping

from mailroom.clock import Instant
from mailroom.courier.channels.rates import RollingLimit
from mailroom.errors import CannotKeep
from mailroom.outbox.shared import Slice
from mailroom.providers import Rate
from tests.clock import FakeClock


class CountsInMemory:
    """`mailroom.outbox.shared.SharedCounts` for the processes of a test."""

    def __init__(self, clock: FakeClock, lag: float = 0.0) -> None:
        self._clock = clock
        self._lag = lag
        """Seconds until the answer of `take`."""
        self.is_broken = False
        self.taken: list[tuple[str, int]] = []
        """What was asked for."""
        self.asked: list[set[int]] = []
        """The slices of each call of `add`."""
        self._sums: dict[Slice, int] = defaultdict(int)
        self._limits: dict[str, RollingLimit] = {}

    async def add(self, counts: Mapping[Slice, int], *, until: Instant) -> Mapping[Slice, int]:
        """Add to counts; return their sums."""
        assert until > self._clock.now()
        self._refuse_if_broken()
        self.asked.append({one.number for one in counts})
        for one, count in counts.items():
            self._sums[one] += count
        return {one: self._sums[one] for one in counts}

    async def take(self, what: str, count: int, *, limit: int, seconds: float) -> tuple[int, Instant]:
        """Take up to `count`."""
        self.taken.append((what, count))
        self._refuse_if_broken()
        one = self._limits.setdefault(what, RollingLimit(Rate(limit, seconds)))
        now = self._clock.now()
        taken = min(count, one.left(now))
        one.add(now, taken)
        ready_at = one.ready_at(now)
        if self._lag:
            await self._clock.sleep(self._lag)
        return taken, ready_at

    def _refuse_if_broken(self) -> None:
        if self.is_broken:
            raise CannotKeep("the database does not answer")
