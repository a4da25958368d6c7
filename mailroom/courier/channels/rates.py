"""When the next mail may be handed to a provider: its rate, its quota, and the vendor's signals to slow down."""

from collections import deque
from enum import Enum, auto
from itertools import accumulate
from math import inf, isinf
from typing import Final

from mailroom.clock import Clock, Instant
from mailroom.courier.channels.shared_rate import SharedRate
from mailroom.outbox.shared import SharedCounts
from mailroom.providers import Rate

_SLICES: Final = 96
"""Of a period: a day is counted in quarters of an hour."""
_STEP_SECONDS: Final = 10.0
_GROWTH: Final = 1.5
_MOST_STEPS: Final = 100
"""Enough to grow from the slowest rate to any; bounds the power."""
_SLOWEST: Final = 0.2
"""Mails per second."""
_SIGNAL_SECONDS: Final = 1.0
"""Signals so soon after another one are about mails that were sent before the rate was lowered."""
_MOST_RECENT: Final = 1000
LONGEST_PAUSE_SECONDS: Final = 300.0
"""After so long one mail is tried again, whatever the vendor asked for."""
_SUSPENDED_SECONDS: Final = 10.0
"""During a pause that is longer, mail waits in the outbox, not in memory."""


class RollingLimit:
    """At most `limit` mails within any period: a token returns one period after it was taken.

    Mails are counted by slices of the period, so memory is bounded; a token returns up to one slice late, never early.
    """

    def __init__(self, rate: Rate) -> None:
        self.limit = rate.count
        self.seconds = rate.seconds
        self.slice_seconds = rate.seconds / _SLICES
        self._slices: deque[tuple[int, int]] = deque()
        """Number of the slice since the epoch, mails; ascending."""
        self._used = 0

    def add(self, at: Instant, count: int = 1) -> None:
        """Count mails; `at` is not before that of an earlier call."""
        index = int(at // self.slice_seconds)
        self._used += count
        if self._slices and self._slices[-1][0] == index:
            count += self._slices.pop()[1]
        self._slices.append((index, count))

    def add_to_slice(self, index: int, count: int) -> None:
        """Count mails in any slice, or fewer."""
        if count:
            slices = dict(self._slices)
            slices[index] = slices.get(index, 0) + count
            self._slices = deque(sorted(slices.items()))
            self._used += count

    def slices(self, now: Instant) -> dict[int, int]:
        """Return the mails in each slice of the period."""
        current, counted = int(now // self.slice_seconds), dict(self._slices)
        return {index: counted.get(index, 0) for index in range(current - _SLICES, current + 1)}

    def left(self, now: Instant) -> int:
        """Return how many mails may be sent now."""
        current = int(now // self.slice_seconds)
        while self._slices and self._slices[0][0] + _SLICES < current:
            self._used -= self._slices.popleft()[1]
        return max(0, self.limit - self._used)

    def ready_at(self, now: Instant) -> Instant:
        """Return when the next mail may be sent: now, or when enough slices have left the period."""
        if self.left(now):
            return now
        excess = self._used - self.limit + 1
        totals = zip(self._slices, accumulate(count for _, count in self._slices), strict=True)
        index = next(index for (index, _), total in totals if total >= excess)
        return max(now, (index + 1 + _SLICES) * self.slice_seconds)


class Pace:
    """Spaces mails evenly after the vendor has signalled that they come too fast; unlimited until then.

    A signal halves the rate. It then grows by half every 10 s, up to twice the rate that was too fast: then there is
    no limit any more.
    """

    def __init__(self) -> None:
        self.is_active = False
        """Whether there has been a signal that still matters."""
        self._per_second = inf
        self._enough = 0.0
        """The rate at which the limit ends."""
        self._changed_at = self._signal_at = -inf
        self._next_at = self.paused_until = -inf
        self._recent: deque[Instant] = deque(maxlen=_MOST_RECENT)

    def per_second(self, now: Instant) -> float:
        """Return the rate, infinite without a limit."""
        if isinf(self._per_second):
            self.is_active = self.paused_until > now
            return inf
        steps = int((now - self._changed_at) // _STEP_SECONDS)
        self._changed_at += steps * _STEP_SECONDS
        self._per_second *= _GROWTH ** min(steps, _MOST_STEPS)
        if self._per_second >= self._enough:
            self._per_second, self._enough = inf, 0.0
        return self._per_second

    def ready_at(self, now: Instant) -> Instant:
        """Return when the next mail may be sent."""
        return max(now, self._next_at, self.paused_until)

    def take(self, now: Instant) -> None:
        """Note that a mail is sent."""
        self._recent.append(now)
        if self.is_active:
            self._next_at = now + 1 / self.per_second(now)

    def slow_down(self, now: Instant, retry_after: float | None) -> None:
        """Follow a signal of the vendor: send nothing for `retry_after` seconds, then at half the rate."""
        self.paused_until = max(self.paused_until, now + min(retry_after or 0.0, LONGEST_PAUSE_SECONDS))
        if now - self._signal_at >= _SIGNAL_SECONDS:
            sent = sum(at > now - 1 for at in self._recent)
            too_fast = min(self.per_second(now), max(sent, 1))
            self._enough = max(self._enough, 2 * too_fast)
            self._per_second = max(too_fast / 2, _SLOWEST)
            self._changed_at = self._signal_at = now
            self._next_at = max(self._next_at, now + 1 / self._per_second)
        self.is_active = True


class LimitChange(Enum):
    """What has changed since the last look."""

    SLOWED = auto()
    RESTORED = auto()
    SUSPENDED = auto()
    """No mail until `suspended_until`: the quota is used up, or the vendor asked for a long pause."""
    RESUMED = auto()


class Rates:
    """What limits the mails of one provider over time."""

    def __init__(self, clock: Clock, *, rate: Rate | None = None, quota: Rate | None = None) -> None:
        self.clock = clock
        self.quota = RollingLimit(quota) if quota else None
        """Counts accepted mails."""
        self.shared_rate: SharedRate | None = None
        self._rate: RollingLimit | SharedRate | None = RollingLimit(rate) if rate else None
        """Counts attempts."""
        self._pace = Pace()
        self._is_slowed = False
        self.suspended_until: Instant | None = None

    @property
    def per_second(self) -> float:
        """The rate that holds now; infinite: none."""
        configured = self._rate.limit / self._rate.seconds if self._rate else inf
        return min(configured, self._pace.per_second(self.clock.now()))

    @property
    def quota_left(self) -> int | None:
        """How many mails the quota leaves; None: there is no quota."""
        return self.quota.left(self.clock.now()) if self.quota else None

    @property
    def is_exhausted(self) -> bool:
        """Whether the quota is used up."""
        return self.quota_left == 0

    @property
    def is_pausing(self) -> bool:
        """Whether the vendor has asked for a pause that lasts."""
        return self._pace.is_active and self._pace.paused_until > self.clock.now()

    @property
    def is_spacing(self) -> bool:
        """Whether mails are spaced, as the vendor has signalled that they come too fast."""
        return self._pace.is_active

    @property
    def is_limited(self) -> bool:
        """Whether there is anything to compute; without a limit each mail is spared that."""
        return bool(self._rate or self.quota or self._pace.is_active or self._is_slowed or self.suspended_until)

    def ready_at(self, in_flight: int) -> Instant:
        """Return when the next mail may be handed over; infinite: not before one of those in flight has ended."""
        now = self.clock.now()
        if self.quota and self.quota.left(now) <= in_flight:
            return inf
        return max(self._pace.ready_at(now), self._rate.ready_at(now) if self._rate else now)

    def share_rate(self, provider: str, counts: SharedCounts) -> None:
        """Keep to the rate together with the other processes."""
        if self._rate:
            rate = Rate(self._rate.limit, self._rate.seconds)
            self._rate = self.shared_rate = SharedRate(provider, rate, counts, self.clock)

    def take(self) -> None:
        """Count an attempt."""
        now = self.clock.now()
        self._pace.take(now)
        if self._rate:
            self._rate.add(now)

    def count_accepted(self) -> None:
        """Count a mail towards the quota."""
        if self.quota:
            self.quota.add(self.clock.now())

    def slow_down(self, retry_after: float | None) -> None:
        """Follow the vendor's signal that mails come too fast; `retry_after`: seconds in which it wants none."""
        self._pace.slow_down(self.clock.now(), retry_after)

    def check(self) -> LimitChange | None:
        """Return one change since the last call; None: there is no other."""
        now = self.clock.now()
        ends = max(self.quota.ready_at(now) if self.quota else now, self._pace.paused_until)
        if ends <= now:
            if self.suspended_until is not None:
                self.suspended_until = None
                return LimitChange.RESUMED
        elif self.suspended_until is not None:
            self.suspended_until = ends
        elif self.is_exhausted or ends - now > _SUSPENDED_SECONDS:
            self.suspended_until = ends
            return LimitChange.SUSPENDED
        is_slowed = not isinf(self._pace.per_second(now))
        if is_slowed is self._is_slowed:
            return None
        self._is_slowed = is_slowed
        return LimitChange.SLOWED if is_slowed else LimitChange.RESTORED
