"""Observes the codes per end user's address, per recipients' domain and in total, and limits them if that is set."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from ipaddress import AddressValueError, IPv6Address, IPv6Network
from itertools import islice
from math import ceil
from typing import Any, Final

import structlog

from mailroom.clock import Clock, Instant
from mailroom.config.model import Limits
from mailroom.courier.maintenance import every
from mailroom.errors import LimitExceeded
from mailroom.message import Message
from mailroom.metrics import Metrics
from mailroom.outbox.limits import RateLimit
from mailroom.outbox.shared import Shared, SharedCounts, Slice

_OBSERVED: Final = {
    "ip": RateLimit(500, 600),
    "recipient_domain": RateLimit(5000, 600),
    "total": RateLimit(10_000, 600),
}
"""Setting → from how many on there is a warning where no limit is set."""
_MOST_VALUES: Final = 10_000
"""Distinct values that `WindowCounts` counts in each of its windows: at most 4 MB."""
_MOST_SENT: Final = 1000
"""Values of a limit in an exchange, the oldest first: so it takes some milliseconds, however many there are."""
_EXCHANGE_SECONDS: Final = 1.0
_WARNING_SECONDS: Final = 60.0

log = structlog.get_logger()


class WindowCounts:
    """Counts values over a sliding window, approximately.

    It has two fixed windows: the current one, and the last one, which counts by the share that the sliding window
    still covers of it. When a window has too many distinct values, the rarer half of them is forgotten.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._number = 0
        """Of the current window, since the epoch."""
        self._ends: Instant = 0.0
        self._current: dict[str, int] = {}
        self._last: dict[str, int] = {}

    def count(self, value: str, now: Instant) -> int:
        """Return how often this value occurred."""
        self._begin_window(now)
        return self._current.get(value, 0) + self._of_last(self._last.get(value, 0), now)

    def add(self, value: str, now: Instant) -> int:
        """Count an occurrence, and return how often this value occurred."""
        if now >= self._ends:
            self._begin_window(now)
        current = self._current
        count = current[value] = current.get(value, 0) + 1
        if len(current) > _MOST_VALUES:
            _forget_rare(current)
        if before := self._last.get(value):
            return count + self._of_last(before, now)
        return count

    def busiest(self, now: Instant) -> int:
        """Return how often the most frequent value occurred."""
        self._begin_window(now)
        most, most_before = (max(counts.values(), default=0) for counts in (self._current, self._last))
        return max(most, self._of_last(most_before, now))

    def _of_last(self, count: int, now: Instant) -> int:
        return int(count * (self._ends - now) / self._seconds)

    def _begin_window(self, now: Instant) -> None:
        """Begin the window that this moment is in, unless it has begun."""
        if now >= self._ends:
            number = int(now // self._seconds)
            self._last, self._current = self._current if number == self._number + 1 else {}, {}
            self._number, self._ends = number, (number + 1) * self._seconds


class SharedWindowCounts(WindowCounts):
    """Counts values over all processes: the others' occurrences are those up to the last exchange."""

    def __init__(self, shared: SharedCounts, setting: str, seconds: float) -> None:
        super().__init__(seconds)
        self._shared = shared
        self._prefix = f"limits.{setting}:"
        self._unsent: dict[Slice, int] = {}
        """What the others do not know yet. A slice is a value in a window."""

    def add(self, value: str, now: Instant) -> int:
        """Count an occurrence, and return how often this value occurred."""
        count = super().add(value, now)
        slice_ = Slice(self._prefix + value, self._number)
        self._unsent[slice_] = self._unsent.get(slice_, 0) + 1
        if len(self._unsent) > _MOST_VALUES:
            _forget_rare(self._unsent)
        return count

    async def exchange(self, now: Instant) -> None:
        """Send what was counted here since the last exchange, and take over the sums of these values.

        Raises CannotKeep; then it is sent next time.
        """
        sent = dict(islice(self._unsent.items(), _MOST_SENT))
        if not sent:
            return
        before = {Slice(one.what, one.number - 1): 0 for one in sent}
        sums = await self._shared.add(before | sent, until=now + 2 * self._seconds)
        for slice_, total in sums.items():
            unsent = self._unsent.pop(slice_, 0) - sent.get(slice_, 0)
            if unsent > 0:  # counted meanwhile
                self._unsent[slice_] = unsent
            self._set(slice_, total + max(unsent, 0))

    def _set(self, slice_: Slice, count: int) -> None:
        windows = {self._number: self._current, self._number - 1: self._last}
        if count and slice_.number in windows:
            window = windows[slice_.number]
            window[slice_.what.removeprefix(self._prefix)] = count
            if len(window) > _MOST_VALUES:
                _forget_rare(window)


@dataclass(slots=True)
class _Observation:
    setting: str
    limit: RateLimit
    is_enforced: bool
    counts: WindowCounts
    warn_at: Instant = 0.0


def _observation(setting: str, limit: RateLimit | None, shared: Shared | None) -> _Observation:
    if not limit:
        limit = _OBSERVED[setting]
        return _Observation(setting, limit, False, WindowCounts(limit.seconds))
    counts = SharedWindowCounts(shared.counts, setting, limit.seconds) if shared else WindowCounts(limit.seconds)
    return _Observation(setting, limit, True, counts)


class CodeLimits:
    """The limits but that of the recipient, which the outbox counts.

    These are counted in memory, approximately. With `shared` those that are set count what all processes accept;
    the others, and all without it, count from the start of the process on.
    """

    def __init__(self, limits: Limits, clock: Clock, metrics: Metrics, shared: Shared | None = None) -> None:
        self._clock = clock
        self._ip, self._domain, self._total = observations = [
            _observation(setting, getattr(limits, setting), shared) for setting in _OBSERVED
        ]
        self._is_enforced = any(one.is_enforced for one in observations)
        self._shared_counts = [one.counts for one in observations if isinstance(one.counts, SharedWindowCounts)]
        for one in observations:
            metrics.busiest_codes.labels(one.setting).set_function(partial(self._busiest, one))

    async def share(self) -> None:
        """Exchange with the other processes once a second until this is cancelled, if there is anything to share."""
        if self._shared_counts:
            await every(_EXCHANGE_SECONDS, self.exchange, clock=self._clock)

    async def exchange(self) -> None:
        """Tell the other processes what was counted here, and take over what they counted. Raises CannotKeep."""
        for counts in self._shared_counts:
            await counts.exchange(self._clock.now())

    def check(self, message: Message) -> None:
        """Count a code. Raises LimitExceeded; then it is not counted."""
        if not message.is_code:
            return
        now = self._clock.now()
        domain = message.recipient.rpartition("@")[2].lower()
        observed = ((self._ip, _network(message.ip)), (self._domain, domain), (self._total, "all"))
        if self._is_enforced:
            self._enforce(observed, now)
        for one, value in observed:
            if value and (count := one.counts.add(value, now)) > one.limit.count:
                self._warn(one, value, count, now)

    def _enforce(self, observed: Iterable[tuple[_Observation, str]], now: Instant) -> None:
        for one, value in observed:
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


def _forget_rare(counts: dict[Any, int]) -> None:
    """Forget the rarer half of the values."""
    for value in sorted(counts, key=counts.__getitem__)[: len(counts) // 2]:
        del counts[value]


def _network(ip: str | None) -> str:
    """Return what belongs to one end user: an IPv4 address, or an IPv6 /64 network; other text as it is."""
    if not ip or ":" not in ip:
        return ip or ""
    try:
        address = IPv6Address(ip)
    except AddressValueError:
        return ip
    return str(address.ipv4_mapped or IPv6Network((int(address) >> 64 << 64, 64)))
