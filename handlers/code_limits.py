"""Observes the codes per end user's address, per recipients' domain and in total, and limits them if that is set."""

from dataclasses import dataclass, field
from functools import partial
from ipaddress import AddressValueError, IPv6Address, IPv6Network
from math import ceil
from operator import itemgetter
from typing import Final

import structlog

from mailroom.clock import Clock, Instant
from mailroom.config.model import Limits
from mailroom.errors import LimitExceeded
from mailroom.message import Message
from mailroom.metrics import Metrics
from mailroom.outbox.limits import RateLimit

_OBSERVED: Final = {
    "ip": RateLimit(500, 600),
    "recipient_domain": RateLimit(5000, 600),
    "total": RateLimit(10_000, 600),
}
"""Setting → from how many on there is a warning where no limit is set."""
_MOST_VALUES: Final = 10_000
"""Distinct values that `WindowCounts` counts in each of its windows: at most 4 MB."""
_WARNING_SECONDS: Final = 60.0

log = structlog.get_logger()


class WindowCounts:
    """Counts values over a sliding window, approximately.

    It has two fixed windows: the current one, and the last one, which counts by the share that the sliding window
    still covers of it. When a window has too many distinct values, the rarer half of them is forgotten.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._began: Instant = 0.0
        self._ends: Instant = 0.0
        self._current: dict[str, int] = {}
        self._last: dict[str, int] = {}

    def count(self, value: str, now: Instant) -> int:
        """Return how often this value occurred."""
        self._begin_window(now)
        return self._current.get(value, 0) + self._of_last(self._last.get(value, 0), now)

    def add(self, value: str, now: Instant) -> int:
        """Count an occurrence, and return how often this value occurred."""
        if not self._began <= now < self._ends:
            self._begin_window(now)
        count = self._current[value] = self._current.get(value, 0) + 1
        if len(self._current) > _MOST_VALUES:
            rarest_first = sorted(self._current.items(), key=itemgetter(1))
            self._current = dict(rarest_first[_MOST_VALUES // 2 :])
        if before := self._last.get(value):
            return count + self._of_last(before, now)
        return count

    def busiest(self, now: Instant) -> int:
        """Return how often the most frequent value occurred."""
        self._begin_window(now)
        most, most_before = (max(counts.values(), default=0) for counts in (self._current, self._last))
        return max(most, self._of_last(most_before, now))

    def _of_last(self, count: int, now: Instant) -> int:
        return int(count * (1 - (now - self._began) / self._seconds))

    def _begin_window(self, now: Instant) -> None:
        """Begin the window that this moment is in, unless it has begun."""
        began = now - now % self._seconds
        if began != self._began:
            is_next = round((began - self._began) / self._seconds) == 1
            self._last, self._current = self._current if is_next else {}, {}
            self._began, self._ends = began, began + self._seconds


@dataclass(slots=True)
class _Observation:
    setting: str
    limit: RateLimit
    is_enforced: bool
    counts: WindowCounts = field(init=False)
    warn_at: Instant = 0.0

    def __post_init__(self) -> None:
        self.counts = WindowCounts(self.limit.seconds)


class CodeLimits:
    """The limits but that of the recipient, which the outbox counts.

    These are counted in memory, approximately, from the start of the process on.
    """

    def __init__(self, limits: Limits, clock: Clock, metrics: Metrics) -> None:
        self._clock = clock
        self._observations = []
        for setting, observed in _OBSERVED.items():
            limit: RateLimit | None = getattr(limits, setting)
            observation = _Observation(setting, limit or observed, is_enforced=limit is not None)
            self._observations.append(observation)
            metrics.busiest_codes.labels(setting).set_function(partial(self._busiest, observation))
        self._is_enforced = any(one.is_enforced for one in self._observations)

    def check(self, message: Message) -> None:
        """Count a code. Raises LimitExceeded; then it is not counted."""
        if not message.is_code:
            return
        now = self._clock.now()
        values = (_network(message.ip), message.recipient.rpartition("@")[2].lower(), "all")
        if self._is_enforced:
            self._enforce(values, now)
        for one, value in zip(self._observations, values, strict=True):
            if value and (count := one.counts.add(value, now)) > one.limit.count:
                self._warn(one, value, count, now)

    def _enforce(self, values: tuple[str, ...], now: Instant) -> None:
        for one, value in zip(self._observations, values, strict=True):
            if one.is_enforced and value and one.counts.count(value, now) >= one.limit.count:
                self._warn(one, value, one.limit.count, now)
                raise LimitExceeded(one.setting, retry_after=ceil(one.limit.seconds - now % one.limit.seconds))

    def _busiest(self, one: _Observation) -> float:
        return one.counts.busiest(self._clock.now())

    def _warn(self, one: _Observation, value: str, count: int, now: Instant) -> None:
        if now >= one.warn_at:
            one.warn_at = now + _WARNING_SECONDS
            log.warning(
                "codes.many",
                limit=f"limits.{one.setting}",
                value=value,
                codes=count,
                seconds=one.limit.seconds,
                refused=one.is_enforced,
            )


def _network(ip: str | None) -> str:
    """Return what belongs to one end user: an IPv4 address, or an IPv6 /64 network; other text as it is."""
    if not ip or ":" not in ip:
        return ip or ""
    try:
        address = IPv6Address(ip)
    except AddressValueError:
        return ip
    return str(address.ipv4_mapped or IPv6Network((int(address) >> 64 << 64, 64)))
