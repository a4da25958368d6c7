"""A clock that stands still until a test moves it, so that every time rule is tested without sleeping."""

import asyncio
import heapq
from itertools import count

from mailroom.clock import Instant

START: Instant = 1_795_000_000.0
"""When a test begins unless it says otherwise: 2026-11-18."""


class FakeClock:
    """`mailroom.clock.Clock` by hand: `advance` moves the time and wakes who sleeps, in order."""

    def __init__(self, now: Instant = START) -> None:
        self._now = now
        self._jumped = 0.0
        self._monotonic = 1000.0
        self._order = count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now(self) -> Instant:
        """Return the time by which messages are ordered, due and expire."""
        return self._now

    def wall(self) -> Instant:
        """Return the wall clock's time."""
        return self._now + self._jumped

    def monotonic(self) -> float:
        """Return seconds that never run backwards."""
        return self._monotonic

    @property
    def sleeping(self) -> int:
        """How many tasks sleep."""
        return sum(not future.done() for _, _, future in self._sleepers)

    async def sleep(self, seconds: float) -> None:
        """Return once the clock was advanced so far; with zero after one turn of the loop."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._monotonic + seconds, next(self._order), future))
        await future

    async def advance(self, seconds: float) -> None:
        """Let so much time pass; each sleeper wakes at its own moment and runs before the clock goes on.

        A sleeper that sleeps again within the span is woken again.
        """
        await settle()
        end = self._monotonic + seconds
        while self._sleepers and self._sleepers[0][0] <= end:
            at, _, future = heapq.heappop(self._sleepers)
            if future.done():  # cancelled
                continue
            self._move(at)
            future.set_result(None)
            await settle()
        self._move(end)

    def set(self, now: Instant) -> None:
        """Be at another moment, as after a restart; wakes nobody."""
        self._now = now

    def set_wall(self, seconds: float) -> None:
        """Set the wall clock forward by so many seconds, or back, as an operator or NTP may; `now` goes on."""
        self._jumped += seconds

    async def until_asleep(self, tasks: int = 1) -> None:
        """Return once so many tasks sleep: a safe moment to `advance`."""
        while self.sleeping < tasks:  # noqa: ASYNC110 - there is nobody who could set an event
            await asyncio.sleep(0)

    def _move(self, monotonic: float) -> None:
        self._now += monotonic - self._monotonic
        self._monotonic = monotonic


async def settle(turns: int = 20) -> None:
    """Let ready tasks run for some turns of the loop; does not wait for threads or sockets."""
    for _ in range(turns):
        await asyncio.sleep(0)
