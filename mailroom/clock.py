"""The one clock. It is handed down to whoever needs the time, so that every time rule is tested without sleeping."""

import asyncio
import time
from typing import Protocol, TypeAlias

Instant: TypeAlias = float
"""A moment: Unix seconds, UTC."""


class Clock(Protocol):
    """Tells the time and waits."""

    def now(self) -> Instant:
        """Return the wall clock's time, for what is written down: created, due, expires."""

    def monotonic(self) -> float:
        """Return seconds from an arbitrary start that never run backwards, for what is measured: durations."""

    async def sleep(self, seconds: float) -> None:
        """Return after so many seconds."""


class SystemClock:
    """The machine's own clock."""

    def now(self) -> Instant:
        """Return the wall clock's time."""
        return time.time()

    def monotonic(self) -> float:
        """Return seconds that never run backwards."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Return after so many seconds."""
        await asyncio.sleep(seconds)
