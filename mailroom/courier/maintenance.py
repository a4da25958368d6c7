"""Maintains the outbox in small steps: ends expired messages, indexes new ones, deletes old ones."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine
from datetime import timedelta
from typing import Any, Final

import structlog

from mailroom.clock import Clock
from mailroom.courier.reporter import Reporter
from mailroom.errors import CannotKeep
from mailroom.message import State
from mailroom.outbox import Outbox

_EXPIRE_SECONDS: Final = 5.0
_INDEX_SECONDS: Final = 5.0
_PURGE_SECONDS: Final = 60.0
_TRUNCATE_SECONDS: Final = 30.0
"""On an idle server a settled message's payload stays in the database's log for at most twice as long."""
_CLOCK_SECONDS: Final = 60.0
_JUMPED_SECONDS: Final = 30.0
"""How far the wall clock must have been set to be logged."""
_STEP: Final = 100
"""Rows a transaction: about 5 ms, so that no request waits long."""
_PAUSE_SECONDS: Final = 0.05
"""Between two steps, so that requests come first."""

log = structlog.get_logger()


class Maintenance:
    """Periodic jobs on the outbox."""

    def __init__(self, outbox: Outbox, clock: Clock, *, retention: timedelta, report: Reporter) -> None:
        self._outbox = outbox
        self._clock = clock
        self._retention_seconds = retention.total_seconds()
        self._report = report
        self._jumped_seconds = 0.0

    def jobs(self) -> dict[str, Coroutine[Any, Any, None]]:
        """Return coroutines that run until they are cancelled, by name."""
        return {
            "expire": every(_EXPIRE_SECONDS, self.expire, clock=self._clock),
            "index": every(_INDEX_SECONDS, self.index, clock=self._clock),
            "purge": every(_PURGE_SECONDS, self.purge, clock=self._clock),
            "truncate": every(_TRUNCATE_SECONDS, self.truncate, clock=self._clock),
            "clock": every(_CLOCK_SECONDS, self.watch_clock, clock=self._clock),
        }

    async def expire(self) -> None:
        """End all expired messages."""
        while True:
            ended = await self._outbox.expire(now=self._clock.now(), limit=_STEP)
            for message in ended:
                self._report.ended(message, State.EXPIRED)
            if len(ended) < _STEP:
                return
            await self._clock.sleep(_PAUSE_SECONDS)

    async def index(self) -> None:
        """Index the recipients of new messages."""
        while await self._outbox.index(limit=_STEP) == _STEP:
            await self._clock.sleep(_PAUSE_SECONDS)

    async def purge(self) -> None:
        """Delete settled messages that are older than the retention."""
        while True:
            now = self._clock.now()
            if not await self._outbox.purge(before=now - self._retention_seconds, now=now, limit=_STEP):
                return
            await self._clock.sleep(_PAUSE_SECONDS)

    async def truncate(self) -> None:
        """Empty the database's log, which still holds the payloads of settled messages."""
        await self._outbox.truncate_log()

    async def watch_clock(self) -> None:
        """Log once that the wall clock was set: dates follow it only after a restart."""
        jumped_seconds = self._clock.wall() - self._clock.now()
        if abs(jumped_seconds - self._jumped_seconds) < _JUMPED_SECONDS:
            return
        self._jumped_seconds = jumped_seconds
        log.warning(
            "clock.set",
            seconds_ahead=round(jumped_seconds),
            remedy="messages are due and expire by elapsed time; restart so that their dates follow the clock",
        )


async def every(seconds: float, job: Callable[[], Awaitable[None]], *, clock: Clock) -> None:
    """Run a job again and again; a failure is logged."""
    while True:
        await clock.sleep(seconds)
        try:
            await job()
        except CannotKeep as error:
            log.warning("outbox.write_failed", problem=str(error))
        except Exception:  # the loop must not end
            log.exception("maintenance.failed")


async def cancel(tasks: Collection[asyncio.Future[Any]]) -> None:
    """Cancel what has not ended and wait until it has."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
