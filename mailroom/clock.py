"""The clock that is passed to everything that needs the time, so that tests need not sleep."""

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol, TypeAlias

Instant: TypeAlias = float
"""Unix seconds, UTC."""


class Clock(Protocol):
    """Returns the time and waits."""

    def now(self) -> Instant:
        """Return the time for ordering, retries and expiry of messages. It never runs backwards and never jumps."""

    def wall(self) -> Instant:
        """Return the wall clock's time, for values that others compare with their clocks: signatures, tokens."""

    def monotonic(self) -> float:
        """Return seconds since an arbitrary start, for measuring durations."""

    async def sleep(self, seconds: float) -> None:
        """Return after so many seconds."""


_elapsed: Final = partial(time.clock_gettime, getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
"""Includes the time during which the machine is suspended, if the system supports it: codes expire meanwhile."""


class SystemClock:
    """The machine's own clock.

    `now` is the wall clock's time when this object was made, plus the time elapsed since. If the wall clock is set
    later, `now` does not follow until the next start: following it forward would expire every queued code. If it is
    slewed, as NTP does to correct small deviations, `now` follows, because the system slews both its clocks.
    """

    def __init__(self, *, wall: Callable[[], float] = time.time, elapsed: Callable[[], float] = _elapsed) -> None:
        self._wall = wall
        self._elapsed = elapsed
        self._offset = wall() - elapsed()

    def now(self) -> Instant:
        """Return the wall clock's time at the start plus the time elapsed since."""
        return self._offset + self._elapsed()

    def wall(self) -> Instant:
        """Return the wall clock's time."""
        return self._wall()

    def monotonic(self) -> float:
        """Return seconds since an arbitrary start."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Return after so many seconds."""
        await asyncio.sleep(seconds)
