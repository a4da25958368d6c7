"""A provider's rate that all processes keep to together."""

from math import inf
from typing import Final

import structlog

from mailroom.clock import Clock, Instant
from mailroom.errors import CannotKeep
from mailroom.outbox.shared import SharedCounts
from mailroom.providers import Rate

_SLICES: Final = 96
"""Of the period: a token that is used so much later than it was taken is used before it returns."""
_LONGEST_USE_SECONDS: Final = 1.0
_RETRY_SECONDS: Final = 1.0
_SHORTEST_WAIT_SECONDS: Final = 0.01
"""Even if the clocks differ a little."""
_LOTS: Final = 10
"""The rate is taken in at least so many lots, so that every process gets some of it."""

log = structlog.get_logger()


class SharedRate:
    """Tokens, one for each mail. `fetch` takes a lot of them for mails that wait; those that are not used are void.

    The outbox counts: at most `limit` in any period over all processes.
    """

    def __init__(self, provider: str, rate: Rate, counts: SharedCounts, clock: Clock) -> None:
        self.limit = rate.count
        self.seconds = rate.seconds
        self._provider = provider
        self._counts = counts
        self._clock = clock
        self._tokens = 0
        self._void_at = self._ready_at = -inf

    def has_token(self, now: Instant) -> bool:
        """Whether a mail may be sent now."""
        return self._tokens > 0 and now < self._void_at

    def ready_at(self, now: Instant) -> Instant:
        """Return when a mail may be sent, or a token fetched for it."""
        return now if self.has_token(now) else max(now, self._ready_at)

    def add(self, at: Instant) -> None:  # noqa: ARG002 - as a `RollingLimit` is told
        """Count a mail."""
        self._tokens = max(0, self._tokens - 1)

    async def fetch(self, wanted: int) -> None:
        """Take tokens for so many mails, or fewer. While the outbox refuses, try again after a second."""
        count = min(wanted, max(1, self.limit // _LOTS))
        try:
            self._tokens, self._ready_at = await self._counts.take(
                f"rate:{self._provider}", count, limit=self.limit, seconds=self.seconds
            )
        except CannotKeep as error:
            self._tokens, self._ready_at = 0, self._clock.now() + _RETRY_SECONDS
            log.warning("rate.not_taken", provider=self._provider, problem=str(error))
        now = self._clock.now()
        if not self._tokens:
            self._ready_at = max(self._ready_at, now + _SHORTEST_WAIT_SECONDS)
        self._void_at = now + min(self.seconds / _SLICES, _LONGEST_USE_SECONDS)
