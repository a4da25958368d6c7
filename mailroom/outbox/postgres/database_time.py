"""The database's clock, which decides when messages are due and expire: those of the machines may differ.

The difference is measured with every beat (`leases.py`), and times are converted where they enter and leave.
"""

from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

from mailroom.clock import Clock, Instant
from mailroom.outbox.postgres.database_pool import Connection

ReadTime: TypeAlias = Callable[[Connection], Awaitable[Instant]]
"""Returns the database's time."""

_NOW: Final = "SELECT extract(epoch FROM clock_timestamp())::float8"


async def read_time(connection: Connection) -> Instant:
    """Return the database's time."""
    now: Instant = await connection.fetchval(_NOW)
    return now


class DatabaseTime:
    """Converts between the clock of this process and the database's."""

    def __init__(self, clock: Clock, read: ReadTime) -> None:
        self._clock = clock
        self._read = read
        self.skew_seconds = 0.0
        """How far the database's clock is ahead."""

    async def measure(self, connection: Connection) -> None:
        """Measure the difference, to half a round trip."""
        before = self._clock.now()
        there = await self._read(connection)
        self.skew_seconds = there - (before + self._clock.now()) / 2

    def now(self) -> Instant:
        """Return the database's time."""
        return self._clock.now() + self.skew_seconds

    def there(self, moment: Instant) -> Instant:
        """Convert a moment of this process's clock to the database's."""
        return moment + self.skew_seconds

    def here(self, moment: Instant) -> Instant:
        """Convert a moment of the database's clock to this process's."""
        return moment - self.skew_seconds
