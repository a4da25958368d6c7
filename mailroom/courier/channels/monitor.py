"""Follows how the providers do: outcomes, hangs, limits and operators' pauses; logs what changes."""

from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any, Final

import structlog

from mailroom.clock import Clock
from mailroom.courier.channels.breaker import Change
from mailroom.courier.channels.channel import Channel
from mailroom.courier.channels.shared_quota import QuotaSharing
from mailroom.courier.channels.sharing import EXCHANGE_SECONDS, BreakerSharing
from mailroom.courier.maintenance import every
from mailroom.courier.reporter import Reporter
from mailroom.errors import SendingError, Unavailable
from mailroom.message import Receipt
from mailroom.outbox import Outbox
from mailroom.providers import Verifiable

_OPERATOR_SECONDS: Final = 1.0
"""How often to look for what an operator has changed by a command."""
_PROGRESS_SECONDS: Final = 0.25
"""How often to look for providers that hang, and for messages that have waited long enough for one."""

log = structlog.get_logger()


class Monitor:
    """The providers' channels and what happens to them. `wake` is called when messages may be claimed again."""

    def __init__(
        self,
        channels: Mapping[str, Channel],
        outbox: Outbox,
        reporter: Reporter,
        clock: Clock,
        *,
        wake: Callable[[], None],
    ) -> None:
        self._channels = channels
        self._outbox = outbox
        self._reporter = reporter
        self._clock = clock
        self._wake = wake
        self._sharing: BreakerSharing | None = None
        self._quotas: QuotaSharing | None = None
        if outbox.shared:
            self._sharing = BreakerSharing(channels, outbox.shared.breakers, clock, report=self._report)
            self._quotas = QuotaSharing(channels, outbox, outbox.shared.counts, clock)
            for name, channel in channels.items():
                channel.rates.share_rate(name, outbox.shared.counts)
        self._has_recovered = False
        self._was_changed = False
        """Whether an operator may have changed what was not read since."""

    async def start(self) -> None:
        """Read what operators have paused, and what quotas have left. Raises OutboxError."""
        await self._follow_operator()
        if self._quotas:
            await self._quotas.exchange()
        else:
            for name, channel in self._channels.items():
                await channel.restore_quota(name, self._outbox)
        await self._check_progress()

    async def finish(self) -> None:
        """Tell other processes what was accepted here last."""
        if self._quotas:
            await self._quotas.exchange()

    def jobs(self) -> dict[str, Coroutine[Any, Any, None]]:
        """Return coroutines that run until they are cancelled, by name."""
        jobs = {
            "operator": every(_OPERATOR_SECONDS, self._follow_operator, clock=self._clock),
            "others": self._follow_others(),
            "progress": every(_PROGRESS_SECONDS, self._check_progress, clock=self._clock),
        }
        if self._sharing:
            jobs["breakers"] = every(0.0, self._sharing.exchange_next, clock=self._clock)
        if self._quotas:
            jobs["quotas"] = every(EXCHANGE_SECONDS, self._quotas.exchange, clock=self._clock)
        for name, channel in self._channels.items():
            if isinstance(channel.provider, Verifiable):
                jobs[f"check.{name}"] = every(_PROGRESS_SECONDS, partial(self._check, name), clock=self._clock)
        return jobs

    def record(self, provider: str, attempt: str, result: Receipt | SendingError, diagnostic: str) -> None:
        """Count the outcome of a message's attempt, and follow what it changes; `diagnostic` has its secrets masked."""
        channel = self._channels[provider]
        self._reporter.attempted(provider, result)
        self._follow(provider, channel.record(result, diagnostic, self._clock.now(), attempt=attempt))
        if isinstance(result, Unavailable) and result.exceeds_concurrency:
            log.warning("provider.too_many_connections", provider=provider, concurrency=channel.limiter.total)

    def take_recovered(self) -> bool:
        """Return whether a provider has recovered since the last call."""
        has_recovered, self._has_recovered = self._has_recovered, False
        return has_recovered

    async def _check(self, name: str) -> None:
        self._follow(name, await self._channels[name].check(self._clock))

    async def _check_progress(self) -> None:
        for name, channel in self._channels.items():
            self._follow(name, channel.check_progress(self._clock.now()))
            self._reporter.observe_rates(name, channel.rates)
        self._reporter.summarize_failovers()

    def _follow(self, provider: str, change: Change | None) -> None:
        """Report changes of a provider's breaker and limits, the breaker's to other processes, too."""
        if change and self._sharing:
            self._sharing.observe(provider)
        self._report(provider, change)

    def _report(self, provider: str, change: Change | None) -> None:
        channel = self._channels[provider]
        if change is Change.OPENED:
            self._reporter.opened(provider, channel.breaker.reason)
        elif change is Change.RECOVERED:
            self._reporter.recovered(provider)
            self._has_recovered = True
        while channel.rates.is_limited and (limit := channel.check_limits()):
            self._reporter.limited(provider, limit, channel.rates)
            self._wake()

    async def _follow_others(self) -> None:
        """Claim when another process tells that messages wait."""
        while True:
            await self._outbox.woken()
            self._wake()

    async def _follow_operator(self) -> None:
        """Pause and resume providers as operators want it."""
        self._was_changed = await self._outbox.was_changed() or self._was_changed
        if not self._was_changed:
            return
        paused = await self._outbox.paused()
        self._was_changed = False
        for name, channel in self._channels.items():
            if channel.is_paused is not (name in paused):
                log.warning("provider.resumed" if channel.is_paused else "provider.paused", provider=name)
                channel.pause(is_paused=name in paused)
        self._wake()
