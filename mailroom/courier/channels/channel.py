"""A provider as the courier uses it: with its limiter, its breaker and its sender."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import structlog

from mailroom.clock import Clock, Instant
from mailroom.courier.channels.breaker import Breaker, Change
from mailroom.courier.channels.rated_limiter import RatedLimiter
from mailroom.courier.channels.rates import LimitChange, Rates
from mailroom.errors import Declined, Misconfigured, OutboxError, Rejected, SendingError, Unavailable, Uncertain
from mailroom.message import Address, Priority, Receipt
from mailroom.outbox import Outbox
from mailroom.outbox.shared import OpenBreaker
from mailroom.providers import Provider, Verifiable

_STALLED_SECONDS: Final = 10.0
"""All permits in use for so long without one outcome: the provider hangs."""
_SILENT_SECONDS: Final = 3.0
"""A failure that takes so long would delay the message that probes; one that comes sooner does not matter."""
_THROUGH_SECONDS: Final = 30.0
"""While it has accepted a mail within this time, a provider that throttles is not failing."""
_CHECK: Final = "check"
"""The attempt without a message; those with one have its id."""

log = structlog.get_logger()


@dataclass
class Channel:
    """A provider with what the courier must know of it."""

    provider: Provider
    limiter: RatedLimiter
    sender: Address
    template_for: Callable[[str], str] = lambda _: ""
    """Kind of mail -> the provider's own template for it; empty: the mail has its own subject and bodies."""
    auto_submitted: bool = True
    """Whether its mails say that a machine sent them (RFC 3834)."""
    forwards: bool = False
    """Whether it passes messages on as they came, so that nothing is to be rendered."""
    breaker: Breaker = field(default_factory=Breaker)
    is_paused: bool = False
    """Whether an operator has paused it."""
    progress_at: Instant = 0.0
    """When an attempt last started or ended."""
    _accepted_at: Instant = 0.0
    """When it last accepted a mail."""
    _answers: bool = False
    """Whether a provider that is skipped has answered a check, so that a message may probe it."""

    @property
    def rates(self) -> Rates:
        """Return its limits over time."""
        return self.limiter.rates

    @property
    def is_usable(self) -> bool:
        """Whether mail may be handed to it at all: neither paused nor suspended until its quota renews."""
        return not self.is_paused and self.rates.suspended_until is None

    def is_available(self, now: Instant) -> bool:
        """Whether it is to be preferred to a provider that is not.

        It is usable, its breaker lets a message through, and the vendor has not asked for a pause.
        """
        return self.is_usable and self.breaker.admits(now) and not self.rates.is_pausing and not self._needs_check

    def pause(self, *, is_paused: bool) -> None:
        """Pause or resume it; messages that wait for a permit choose again."""
        self.is_paused = is_paused
        self.limiter.end_waits()

    def begin(self, attempt: str, now: Instant) -> bool:
        """Register that a message's attempt starts; False: its breaker is open, prefer another provider."""
        self.progress_at = now
        return not self._needs_check and self.breaker.begin(attempt, now)

    def end(self, attempt: str, priority: Priority) -> None:
        """Return the permit; a probe that ended without an outcome leaves room for the next one."""
        self.breaker.cancel(attempt)
        self.limiter.release(priority)

    def record(
        self, result: Receipt | SendingError, diagnostic: str, now: Instant, *, attempt: str = ""
    ) -> Change | None:
        """Register an attempt's outcome; return what it changes. `diagnostic` has the message's secrets masked.

        `Rejected` and `Declined` are about one mail: the provider works.
        """
        self.progress_at = now
        if isinstance(result, Receipt | Uncertain):  # the vendor may have counted it
            self.rates.count_accepted()
        if isinstance(result, Receipt):
            self._accepted_at = now
        if isinstance(result, Receipt | Rejected | Declined):
            return self.breaker.succeed()
        if isinstance(result, Unavailable) and result.is_throttled:
            if result.exceeds_concurrency and self.limiter.lower():
                self.breaker.cancel(attempt)
                return None
            self.rates.slow_down(result.retry_after)
            if now - self._accepted_at < _THROUGH_SECONDS:
                self.breaker.cancel(attempt)
                return None
        return self._fail(diagnostic, now, attempt=attempt, at_once=isinstance(result, Misconfigured))

    def follow(self, shared: OpenBreaker | None) -> Change | None:
        """Open or close its breaker as in other processes; return what that changes here."""
        if shared is None:
            return self.breaker.close()
        if shared.probe_until is None:
            self._answers = False  # another process may find out meanwhile that it does not
        return self._skip(self.breaker.follow(shared.reason, shared.open_seconds, shared.probe_until))

    def check_progress(self, now: Instant) -> Change | None:
        """End waits that have lasted long enough; open the breaker of a provider that hangs."""
        self.limiter.restore(now)
        self.limiter.end_waits(now)
        if self.breaker.is_open or not self.limiter.is_full or now - self.progress_at < _STALLED_SECONDS:
            return None
        return self._fail(f"no answer for {_STALLED_SECONDS:g} s while all connections are in use", now, at_once=True)

    async def restore_quota(self, name: str, outbox: Outbox) -> None:
        """Count what the provider of this name accepted before this process began."""
        quota, now = self.rates.quota, self.rates.clock.now()
        if quota is None:
            return
        try:
            counts = await outbox.accepted(name, since=now - quota.seconds, slice_seconds=quota.slice_seconds)
        except OutboxError as error:  # better too many mails than none
            log.error("quota.not_restored", provider=name, problem=str(error))  # noqa: TRY400 - the text says it all
            return
        for at, count in counts:
            quota.add(min(at, now), count)

    def check_limits(self) -> LimitChange | None:
        """Return one change of its limits since the last call; ends all waits when it is suspended."""
        change = self.rates.check()
        if change is LimitChange.SUSPENDED:
            self.limiter.end_waits()
        return change

    async def check(self, clock: Clock) -> Change | None:
        """Find out without a message whether a provider whose probe is due still says nothing; return what it changes.

        Any prompt answer lets a message probe, also a refusal: it delays nobody.
        """
        began, provider = clock.now(), self.provider
        if not (self._needs_check and isinstance(provider, Verifiable) and self.breaker.begin(_CHECK, began)):
            return None
        try:
            await provider.verify()
        except SendingError as error:
            if clock.now() - began >= _SILENT_SECONDS:
                is_current = self.breaker.probe == _CHECK
                return self._fail(error.diagnostic, clock.now(), attempt=_CHECK) if is_current else None
        finally:
            is_current = self.breaker.probe == _CHECK  # else it has closed meanwhile
            self.breaker.cancel(_CHECK)
        self._answers = is_current
        return None

    @property
    def _needs_check(self) -> bool:
        return self.is_usable and self.breaker.is_open and not self._answers and isinstance(self.provider, Verifiable)

    def _fail(self, reason: str, now: Instant, *, attempt: str = "", at_once: bool = False) -> Change | None:
        return self._skip(self.breaker.fail(reason, now, attempt=attempt, at_once=at_once))

    def _skip(self, change: Change | None) -> Change | None:
        """Follow that the provider is skipped from now on, or longer."""
        if change in {Change.OPENED, Change.PROBE_FAILED}:
            self._answers = False
        if change is Change.OPENED:
            self.limiter.end_waits(only_with_alternative=True)
        return change
