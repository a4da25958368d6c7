"""Permits to use a provider: as many mails at the same time, and as many in a period, as it takes."""

import asyncio
from typing import Final

from mailroom.clock import Instant
from mailroom.courier.channels.limiter import NEVER, PriorityLimiter
from mailroom.courier.channels.rates import Rates
from mailroom.courier.channels.shared_rate import SharedRate
from mailroom.message import Priority

_SHORTEST_SLEEP_SECONDS: Final = 0.001
_RESTORE_SECONDS: Final = 60.0
"""After so long without a signal one more mail may be handed over at the same time."""


class RatedLimiter(PriorityLimiter):
    """Bounds how many mails are handed to a provider at the same time, and how fast one follows another."""

    def __init__(self, concurrency: int, rates: Rates) -> None:
        super().__init__(concurrency, rates.clock)
        self.rates = rates
        self._concurrency = concurrency
        """As configured; `total` may be lower."""
        self._restore_at: Instant = NEVER
        self._timer: asyncio.Task[None] | None = None
        """Sleeps until the rate allows another mail."""
        self._timer_at: Instant = NEVER
        self._fetching: asyncio.Task[None] | None = None
        """Takes tokens of a rate that processes share."""

    def take(self, priority: Priority) -> None:
        """Count a permit as used."""
        super().take(priority)
        self.rates.take()

    def lower(self) -> bool:
        """Grant one permit fewer from now on, as the provider has one connection too many; False: it is the last."""
        if self.total == 1:
            return False
        self.set_total(self.total - 1)
        self._restore_at = self.clock.now() + _RESTORE_SECONDS
        return True

    def restore(self, now: Instant) -> None:
        """Grant one permit more if it is time to try that."""
        if now < self._restore_at:
            return
        self.set_total(self.total + 1)
        self._restore_at = now + _RESTORE_SECONDS if self.total < self._concurrency else NEVER
        self._grant()

    def close(self) -> None:
        """End all waits, now and from now on."""
        super().close()
        self._stop_timer()
        if self._fetching:
            self._fetching.cancel()

    def _may_grant(self) -> bool:
        """Whether the rate allows another mail. Else permits are granted when it does, or when one is returned."""
        if not self.rates.is_limited:
            return True
        ready_at = self.rates.ready_at(self._used)
        if ready_at <= self.clock.now():
            return self._has_token()
        if self._timer is None or self._timer_at != ready_at:
            self._stop_timer()
            if ready_at < NEVER:
                self._timer_at = ready_at
                self._timer = asyncio.create_task(self._grant_at(ready_at), name="limiter.rate")
        return False

    def _grant(self) -> None:
        super()._grant()
        if not self._waiting:
            self._stop_timer()

    async def _grant_at(self, ready_at: Instant) -> None:
        await self.clock.sleep(max(ready_at - self.clock.now(), _SHORTEST_SLEEP_SECONDS))
        self._timer = None
        self._grant()

    def _has_token(self) -> bool:
        """Whether a rate that processes share allows another mail. Else tokens are fetched, then permits granted."""
        rate = self.rates.shared_rate
        if rate is None or rate.has_token(self.clock.now()):
            return True
        if self._fetching is None and not self._is_closed:
            self._fetching = asyncio.create_task(self._fetch(rate), name="limiter.tokens")
        return False

    async def _fetch(self, rate: SharedRate) -> None:
        try:
            if wanted := self._grantable():
                await rate.fetch(wanted)
        finally:
            self._fetching = None
        self._grant()

    def _grantable(self) -> int:
        """Return how many of those that wait could have a permit at once if the rate allowed it."""
        are_codes = [wait.priority is Priority.CODE for _, _, wait in self._waiting if not wait.future.done()]
        codes = sum(are_codes)
        others = min(len(are_codes) - codes, self.free(Priority.EVENT))
        free = min(codes + others, self.free(Priority.CODE))
        return min(free, 1) if self.rates.is_spacing else free

    def _stop_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
