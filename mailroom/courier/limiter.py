"""Permits to use a provider: codes first, then in the order of request; some permits are for codes only."""

import heapq
from asyncio import CancelledError, Future, get_running_loop
from itertools import count
from typing import Final

from mailroom.clock import Instant
from mailroom.message import Priority

_PERMITS_PER_RESERVED: Final = 5
"""One permit in so many is for codes only."""

NEVER: Final = float("inf")


class PriorityLimiter:
    """Bounds how many mails are handed to a provider at the same time."""

    def __init__(self, concurrency: int) -> None:
        self.total = concurrency
        self.total_for_others = max(1, concurrency - max(1, concurrency // _PERMITS_PER_RESERVED))
        self._used = self._used_by_others = 0
        self._waiting: list[tuple[Priority, int, Instant | None, Future[bool]]] = []  # a heap
        self._sequence = count()

    @property
    def is_full(self) -> bool:
        """Whether every permit is in use and a message waits for one."""
        return self._used >= self.total and any(not future.done() for *_, future in self._waiting)

    async def acquire(self, priority: Priority, *, give_up_at: Instant | None = None) -> bool:
        """Wait for a permit; False: `end_waits` ended the wait, which it does only if `give_up_at` is given."""
        if not self._waiting and self._has_permit(priority):
            self._count(priority, 1)
            return True
        future: Future[bool] = get_running_loop().create_future()
        heapq.heappush(self._waiting, (priority, next(self._sequence), give_up_at, future))
        self._grant()
        try:
            return await future
        except CancelledError:
            if future.done() and not future.cancelled() and future.result():
                self.release(priority)  # the permit was granted in the moment of the cancellation
            raise

    def release(self, priority: Priority) -> None:
        """Return a permit."""
        self._count(priority, -1)
        self._grant()

    def end_waits(self, now: Instant) -> None:
        """End the waits that give up by `now`; `NEVER` ends all that may be ended."""
        for _, _, give_up_at, future in self._waiting:
            if give_up_at is not None and give_up_at <= now and not future.done():
                future.set_result(False)
        self._grant()

    def _has_permit(self, priority: Priority) -> bool:
        return self._used < self.total and (priority is Priority.CODE or self._used_by_others < self.total_for_others)

    def _count(self, priority: Priority, change: int) -> None:
        self._used += change
        if priority is not Priority.CODE:
            self._used_by_others += change

    def _grant(self) -> None:
        """Grant free permits in the heap's order, which puts every code before all others."""
        while self._waiting:
            priority, _, _, future = self._waiting[0]
            if not future.done():  # else the wait was cancelled or ended
                if not self._has_permit(priority):
                    return
                self._count(priority, 1)
                future.set_result(True)
            heapq.heappop(self._waiting)
