"""Keeps the breakers of this process as those of the others that send from the same outbox."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

from mailroom.clock import Clock
from mailroom.courier.channels.breaker import Change
from mailroom.courier.channels.channel import Channel
from mailroom.courier.maintenance import cancel
from mailroom.errors import CannotKeep
from mailroom.outbox.shared import Observation, SharedBreakers

EXCHANGE_SECONDS: Final = 1.0


class BreakerSharing:
    """Exchanges once a second, and at once when a breaker has changed here.

    `report` is called with what the exchange changes here. While the outbox cannot be reached, this process goes on
    with what it knows, and probes by itself.
    """

    def __init__(
        self,
        channels: Mapping[str, Channel],
        breakers: SharedBreakers,
        clock: Clock,
        *,
        report: Callable[[str, Change | None], None],
    ) -> None:
        self._channels = channels
        self._breakers = breakers
        self._clock = clock
        self._report = report
        self._observed: dict[str, Observation] = {}
        """What the others do not know yet."""
        self._wake = asyncio.Event()
        self._wake.set()  # the first time at once

    def observe(self, provider: str) -> None:
        """Tell the others soon that this provider's breaker has changed."""
        breaker = self._channels[provider].breaker
        self._observed[provider] = Observation(self._clock.now(), breaker.reason, breaker.open_seconds)
        self._wake.set()

    async def exchange_next(self) -> None:
        """Exchange when it is time for it. Raises CannotKeep."""
        waits: set[asyncio.Future[Any]] = {
            asyncio.ensure_future(self._clock.sleep(EXCHANGE_SECONDS)),
            asyncio.ensure_future(self._wake.wait()),
        }
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await cancel(waits)
        await self.exchange()

    async def exchange(self) -> None:
        """Store what this process has observed, and follow the others. Raises CannotKeep."""
        self._wake.clear()
        observed, self._observed = self._observed, {}
        probing = [name for name, channel in self._channels.items() if channel.breaker.probe]
        try:
            shared = await self._breakers.exchange(observed, providers=self._channels.keys(), probing=probing)
        except CannotKeep:
            self._observed = observed | self._observed
            for channel in self._channels.values():
                channel.breaker.probe_alone(self._clock.now())
            raise
        for name, channel in self._channels.items():
            if name not in self._observed:  # else it has changed meanwhile
                self._report(name, channel.follow(shared.get(name)))
