"""Limits on how often something may happen."""

from collections import deque
from dataclasses import dataclass

from mailroom.clock import Instant


@dataclass(frozen=True, slots=True)
class RateLimit:
    """At most so many in any period of so many seconds."""

    count: int
    seconds: float


class SlidingWindow:
    """Counts exactly, for a single limit; remembers as many moments as the limit allows."""

    def __init__(self, limit: RateLimit) -> None:
        self.limit = limit
        self._moments: deque[Instant] = deque()

    def take(self, now: Instant) -> bool:
        """Count one more; False, and not counted: the limit is reached."""
        while self._moments and self._moments[0] <= now - self.limit.seconds:
            self._moments.popleft()
        if len(self._moments) >= self.limit.count:
            return False
        self._moments.append(now)
        return True
