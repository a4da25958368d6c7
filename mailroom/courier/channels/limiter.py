"""Permits by priority: codes first, then in the order of request; some permits are for codes only."""

import heapq
from asyncio import CancelledError, Future, get_running_loop
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Final

from mailroom.clock import Clock, Instant
from mailroom.message import Priority

_PERMITS_PER_RESERVED: Final = 5
"""One permit in so many is for codes only."""

NEVER: Final = float("inf")


@dataclass(slots=True)
class _Wait:
    """A message that waits for a permit."""

    priority: Priority
    give_up_at: Instant
    has_alternative: bool
    is_over: Callable[[], bool]
    future: Future[bool]


class PriorityLimiter:
    """Bounds how many messages have a permit at the same time."""

    def __init__(self, total: int, clock: Clock) -> None:
        self.set_total(total)
        self.clock = clock
        self._used = self._used_by_others = 0
        self._waiting: list[tuple[Priority, int, _Wait]] = []  # a heap
        self._sequence = count()
        self._is_closed = False

    def set_total(self, total: int) -> None:
        """Set how many permits there are; those granted beyond that stay valid."""
        self.total = total
        self.total_for_others = max(1, total - max(1, total // _PERMITS_PER_RESERVED))

    @property
    def is_full(self) -> bool:
        """Whether every permit is in use and a message waits for one."""
        return self._used >= self.total and any(not wait.future.done() for _, _, wait in self._waiting)

    def free(self, priority: Priority) -> int:
        """Return how many permits messages of this priority may still get."""
        free = self.total - self._used
        if priority is not Priority.CODE:
            free = min(free, self.total_for_others - self._used_by_others)
        return max(0, free)

    async def acquire(
        self,
        priority: Priority,
        *,
        give_up_at: Instant = NEVER,
        has_alternative: bool = False,
        is_over: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Wait for a permit; False: `give_up_at` has passed, the wait was ended, or was over when there was a permit.

        `has_alternative`: there is another way, so that the wait may be ended before `give_up_at`.
        `is_over`: whether the message needs no permit any more.
        """
        if self.try_acquire(priority):
            return True
        if self._is_closed or give_up_at <= self.clock.now():
            return False
        future: Future[bool] = get_running_loop().create_future()
        wait = _Wait(priority, give_up_at, has_alternative, is_over, future)
        heapq.heappush(self._waiting, (priority, next(self._sequence), wait))
        self._grant()
        try:
            return await future
        except CancelledError:
            if future.done() and not future.cancelled() and future.result():
                self.release(priority)  # the permit was granted in the moment of the cancellation
            else:
                self._grant()
            raise

    def try_acquire(self, priority: Priority) -> bool:
        """Take a permit if one can be granted at once."""
        if self._is_closed or self._waiting or not self.free(priority) or not self._may_grant():
            return False
        self.take(priority)
        return True

    def take(self, priority: Priority) -> None:
        """Count a permit as used, even beyond `total`."""
        self._count(priority, 1)

    def release(self, priority: Priority) -> None:
        """Return a permit."""
        self._count(priority, -1)
        self._grant()

    def end_waits(self, now: Instant = NEVER, *, only_with_alternative: bool = False) -> None:
        """End the waits that give up by now; without `now` all, or all that have an alternative."""
        for _, _, wait in self._waiting:
            is_ended = wait.give_up_at <= now and (wait.has_alternative or not only_with_alternative)
            if is_ended and not wait.future.done():
                wait.future.set_result(False)
        self._grant()

    def close(self) -> None:
        """End all waits, now and from now on."""
        self._is_closed = True
        self.end_waits()

    def _may_grant(self) -> bool:
        """Whether a free permit may be granted now."""
        return True

    def _count(self, priority: Priority, change: int) -> None:
        self._used += change
        if priority is not Priority.CODE:
            self._used_by_others += change

    def _grant(self) -> None:
        """Grant free permits in the heap's order, which puts every code before all others."""
        while self._waiting:
            _, _, wait = self._waiting[0]
            if not wait.future.done():  # else the wait was cancelled or ended
                if not self.free(wait.priority) or not self._may_grant():
                    return
                is_wanted = not wait.is_over()
                if is_wanted:
                    self.take(wait.priority)
                wait.future.set_result(is_wanted)
            heapq.heappop(self._waiting)
