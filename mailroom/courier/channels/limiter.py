"""Permits to use a provider: codes first, then in the order of request; some permits are for codes only."""

import asyncio
import heapq
from asyncio import CancelledError, Future, get_running_loop
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Final

from mailroom.clock import Instant
from mailroom.courier.channels.rates import Rates
from mailroom.message import Priority

_PERMITS_PER_RESERVED: Final = 5
"""One permit in so many is for codes only."""
_SHORTEST_SLEEP_SECONDS: Final = 0.001

NEVER: Final = float("inf")


@dataclass(order=True, slots=True)
class _Wait:
    """A message that waits for a permit; ordered as permits are granted."""

    priority: Priority
    sequence: int
    give_up_at: Instant = field(compare=False)
    has_alternative: bool = field(compare=False)
    is_over: Callable[[], bool] = field(compare=False)
    future: Future[bool] = field(compare=False)


class PriorityLimiter:
    """Bounds how many mails are handed to a provider at the same time, and how fast one follows another."""

    def __init__(self, concurrency: int, rates: Rates) -> None:
        self.total = concurrency
        self.total_for_others = max(1, concurrency - max(1, concurrency // _PERMITS_PER_RESERVED))
        self.rates = rates
        self._used = self._used_by_others = 0
        self._waiting: list[_Wait] = []  # a heap
        self._sequence = count()
        self._timer: asyncio.Task[None] | None = None
        """Sleeps until the rate allows another mail; only while one waits for that."""
        self._timer_at: Instant = NEVER
        self._is_closed = False

    @property
    def is_full(self) -> bool:
        """Whether every permit is in use and a message waits for one."""
        return self._used >= self.total and any(not wait.future.done() for wait in self._waiting)

    async def acquire(
        self,
        priority: Priority,
        *,
        give_up_at: Instant = NEVER,
        has_alternative: bool = False,
        is_over: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Wait for a permit; False: `give_up_at` has passed, the wait was ended, or was over when there was a permit.

        `has_alternative`: another provider can be asked, so that the wait may be ended before `give_up_at`.
        `is_over`: whether the message needs no permit any more, so that the rate is left to the next one.
        """
        if self._is_closed:
            return False
        if not self._waiting and self._has_permit(priority) and self.rates.ready_at(self._used) <= self._now():
            self._take(priority)
            return True
        if give_up_at <= self._now():
            return False
        future: Future[bool] = get_running_loop().create_future()
        wait = _Wait(priority, next(self._sequence), give_up_at, has_alternative, is_over, future)
        heapq.heappush(self._waiting, wait)
        self._grant()
        try:
            return await future
        except CancelledError:
            if future.done() and not future.cancelled() and future.result():
                self.release(priority)  # the permit was granted in the moment of the cancellation
            else:
                self._grant()
            raise

    def release(self, priority: Priority) -> None:
        """Return a permit."""
        self._count(priority, -1)
        self._grant()

    def end_waits(self, now: Instant = NEVER, *, only_with_alternative: bool = False) -> None:
        """End the waits that give up by now; without `now` all, or all that have an alternative."""
        for wait in self._waiting:
            if (
                wait.give_up_at <= now
                and (wait.has_alternative or not only_with_alternative)
                and not wait.future.done()
            ):
                wait.future.set_result(False)
        self._grant()

    def close(self) -> None:
        """End all waits, now and from now on."""
        self._is_closed = True
        self.end_waits()

    def _has_permit(self, priority: Priority) -> bool:
        return self._used < self.total and (priority is Priority.CODE or self._used_by_others < self.total_for_others)

    def _now(self) -> Instant:
        return self.rates.clock.now()

    def _take(self, priority: Priority) -> None:
        self._count(priority, 1)
        self.rates.take()

    def _count(self, priority: Priority, change: int) -> None:
        self._used += change
        if priority is not Priority.CODE:
            self._used_by_others += change

    def _grant(self) -> None:
        """Grant free permits in the heap's order, which puts every code before all others, as the rate allows."""
        while self._waiting:
            wait = self._waiting[0]
            if not wait.future.done():  # else the wait was cancelled or ended
                if not self._has_permit(wait.priority):
                    break
                ready_at = self.rates.ready_at(self._used)
                if ready_at > self._now():
                    self._grant_at(ready_at)
                    return
                is_wanted = not wait.is_over()
                if is_wanted:
                    self._take(wait.priority)
                wait.future.set_result(is_wanted)
            heapq.heappop(self._waiting)
        self._stop_timer()

    def _grant_at(self, ready_at: Instant) -> None:
        """Grant again when the rate allows it; infinite: when a permit is returned."""
        if self._timer and self._timer_at == ready_at:
            return
        self._stop_timer()
        if ready_at < NEVER:
            self._timer_at = ready_at
            self._timer = asyncio.create_task(self._sleep_until(ready_at), name="limiter.rate")

    async def _sleep_until(self, ready_at: Instant) -> None:
        await self.rates.clock.sleep(max(ready_at - self._now(), _SHORTEST_SLEEP_SECONDS))
        self._timer = None
        self._grant()

    def _stop_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
