"""The one clock. It is handed down to whoever needs the time, so that every time rule is tested without sleeping."""

import asyncio
import time
from collections.abc import Callable
from typing import Final, Protocol, TypeAlias

Instant: TypeAlias = float
"""A moment: Unix seconds, UTC."""


class Clock(Protocol):
    """Tells the time and waits."""

    def now(self) -> Instant:
        """Return the time by which messages are ordered, due and expire. It never runs backwards and never jumps."""

    def wall(self) -> Instant:
        """Return the wall clock's time as it is now, for what others compare with their clocks: signatures, tokens."""

    def monotonic(self) -> float:
        """Return seconds from an arbitrary start that never run backwards, for what is measured: durations."""

    async def sleep(self, seconds: float) -> None:
        """Return after so many seconds."""


_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Counts the time during which the machine is suspended, where the system can: a code ages while a laptop sleeps."""


def _elapsed() -> float:
    return time.clock_gettime(_CLOCK)


class SystemClock:
    """The machine's own clock.

    `now` is the wall clock's time when this object was made, plus the time elapsed since. What happens to the wall
    clock afterwards:

    - Set back: `now` goes on. What was queued is due when it would have been, and expires by elapsed time.
    - Set forward: `now` goes on. Nothing expires or becomes due early. (Following it would end every queued code.)
    - Slewed, as NTP does to correct small deviations: `now` follows, because the system slews both its clocks.

    So after a jump `now` differs from the wall clock until the process is restarted; the next one begins with
    the wall clock's time. `wall` follows every change at once.
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
        """Return seconds that never run backwards."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Return after so many seconds."""
        await asyncio.sleep(seconds)
