"""The providers' quotas that all processes keep to together."""

from collections.abc import Mapping
from math import inf
from typing import Final

import structlog

from mailroom.clock import Clock, Instant
from mailroom.courier.channels.channel import Channel
from mailroom.courier.channels.rates import RollingLimit
from mailroom.errors import OutboxError
from mailroom.outbox import Outbox
from mailroom.outbox.shared import SharedCounts, Slice

_RECENT_SECONDS: Final = 3.0
"""Others tell their mails so much later at most, unless they were cut off."""
_WHOLE_SECONDS: Final = 60.0
"""How often to read the whole period, for what they tell later."""

log = structlog.get_logger()


class SharedQuota:
    """Keeps a provider's quota in this process as the sum over all.

    A mail counts here when it is accepted, and in the other processes with their next exchange.
    """

    def __init__(self, provider: str, quota: RollingLimit, outbox: Outbox, counts: SharedCounts, clock: Clock) -> None:
        self._provider = provider
        self._quota = quota
        self._outbox = outbox
        self._counts = counts
        self._clock = clock
        self._known: dict[int, int] = {}
        """Slice -> mails of all processes, by the last exchange; what the quota has beyond that only we know."""
        self._whole_at: Instant = -inf
        """When to read the whole period next."""
        self._is_seeded = False

    async def exchange(self) -> None:
        """Tell what was accepted here since the last exchange, and count what others have told. Raises OutboxError."""
        quota, now = self._quota, self._clock.now()
        whole_at, self._whole_at = self._whole_at, now  # unless this exchange succeeds
        is_whole = now >= whole_at
        recent = int((now - max(_RECENT_SECONDS, quota.slice_seconds)) // quota.slice_seconds)
        news = {slice_: count - self._known.get(slice_, 0) for slice_, count in quota.slices(now).items()}
        told = {slice_: new for slice_, new in news.items() if new or is_whole or slice_ >= recent}
        sums = await self._counts.add(
            {Slice(f"quota:{self._provider}", slice_): new for slice_, new in told.items()},
            until=now + quota.seconds + 2 * quota.slice_seconds,
        )
        known = {one.number: count for one, count in sums.items()}
        for slice_, count in known.items():
            quota.add_to_slice(slice_, count - self._known.get(slice_, 0) - told[slice_])
        self._known = {slice_: count for slice_, count in (self._known | known).items() if slice_ in news}
        if any(self._known.values()):
            self._whole_at = now + _WHOLE_SECONDS if is_whole else whole_at
        else:  # read the whole period until somebody has told something
            await self._seed()

    async def _seed(self) -> None:
        """Count what the outbox knows to be accepted, as nobody has yet; one process does that."""
        if self._is_seeded:
            return
        quota, now = self._quota, self._clock.now()
        accepted = await self._outbox.accepted(
            self._provider, since=now - quota.seconds, slice_seconds=quota.slice_seconds
        )
        taken, _ = await self._counts.take(f"seed:quota:{self._provider}", 1, limit=1, seconds=quota.seconds)
        self._is_seeded = True
        if taken and accepted:
            for at, count in accepted:
                quota.add_to_slice(int(min(at, now) // quota.slice_seconds), count)
            await self.exchange()


class QuotaSharing:
    """Exchanges the quotas of all providers that have one. While the outbox refuses, this process counts by itself."""

    def __init__(self, channels: Mapping[str, Channel], outbox: Outbox, counts: SharedCounts, clock: Clock) -> None:
        self._quotas = {
            name: SharedQuota(name, channel.rates.quota, outbox, counts, clock)
            for name, channel in channels.items()
            if channel.rates.quota
        }

    async def exchange(self) -> None:
        """Exchange each."""
        for name, quota in self._quotas.items():
            try:
                await quota.exchange()
            except OutboxError as error:  # better too many mails than none
                log.warning("quota.not_exchanged", provider=name, problem=str(error))
