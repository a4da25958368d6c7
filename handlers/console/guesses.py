"""Bounds how fast the console's password can be guessed, without delaying an operator who has the right one.

Each caller has a leaky bucket: a wrong password adds to its level (in seconds), time drains it. The response to a wrong
password is delayed until the bucket has drained. Beyond the capacity of the bucket passwords are refused without a
comparison; below it the right password is accepted at once. All callers together share another bucket.

A caller is an address (IPv6: a /64 network). Addresses without a failed login share a bucket apart from those with one,
and a browser that has signed in before (it has a cookie) has a bucket of its own: so guessers do not delay an operator
at another address, or in such a browser.
"""

import asyncio
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from typing import Final

import structlog

from mailroom.clock import Clock

_COST_SECONDS: Final = 0.2
"""Five guesses a second for one caller …"""
_CAPACITY_SECONDS: Final = 120.0
"""… and 600 at once."""
_SHARED_COST_SECONDS: Final = 0.1
"""Ten guesses a second for all callers …"""
_SHARED_CAPACITY_SECONDS: Final = 120.0
"""… and 1,200 at once."""
_PAUSE_SECONDS: Final = (1.0, 25.0)
"""Shortest and longest delay; proxies wait for 30 s."""
_MOST_CALLERS: Final = 4096
"""Stored; about 1 MiB. The one without a failure for the longest time is dropped first."""
_MOST_PAUSES: Final = 256
"""Delayed responses at a time; a further wrong password is answered at once."""
_SITE_BITS: Final = 64
"""Of an IPv6 address: one customer has at least a network of this size (RFC 6177 §2)."""

log = structlog.get_logger()


def caller_key(address: IPv4Address | IPv6Address | None) -> str:
    """Return the key under which an address is counted, also its name in the log."""
    if isinstance(address, IPv6Address):
        return str(IPv6Network((address, _SITE_BITS), strict=False))
    return str(address or "unknown")


class Guesses:
    """Counts wrong passwords by caller, in bounded memory."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._empty_at: dict[str, float] = {}
        """Caller → when its bucket is empty (monotonic seconds); in the order of their last failure."""
        self._shared_empty_at = {True: 0.0, False: 0.0}
        """The same for all callers together: those with a failure (True), and those without."""
        self._pauses = 0
        self._failures = FailureLog(clock)

    def seconds_until_allowed(self, caller: str, device: str | None) -> float:
        """Return after how many seconds a password of this caller is compared; 0: at once.

        `device` is the id of a browser that has signed in before.
        """
        now = self._clock.monotonic()
        seconds = self._empty_at.get(device or caller, 0.0) - now + _COST_SECONDS - _CAPACITY_SECONDS
        if device is None:
            shared = self._shared_empty_at[caller in self._empty_at]
            seconds = max(seconds, shared - now + _SHARED_COST_SECONDS - _SHARED_CAPACITY_SECONDS)
        if seconds > 0:
            self._failures.add(caller)
        return max(0.0, seconds)

    async def delay(self, caller: str, device: str | None) -> None:
        """Count a wrong password, and return when it may be answered."""
        now = self._clock.monotonic()
        self._failures.add(caller)
        empty_at = 0.0
        if device is None:
            failed_before = caller in self._empty_at
            empty_at = max(self._shared_empty_at[failed_before], now) + _SHARED_COST_SECONDS
            self._shared_empty_at[failed_before] = empty_at
        empty_at = max(empty_at, self._fill(device or caller, now))
        if self._pauses >= _MOST_PAUSES:
            return
        self._pauses += 1
        try:
            shortest, longest = _PAUSE_SECONDS
            await self._clock.sleep(min(longest, max(shortest, empty_at - now)))
        finally:
            self._pauses -= 1

    def _fill(self, key: str, now: float) -> float:
        empty_at = max(self._empty_at.pop(key, now), now) + _COST_SECONDS
        self._empty_at[key] = empty_at
        if len(self._empty_at) > _MOST_CALLERS:
            del self._empty_at[next(iter(self._empty_at))]
        return empty_at


_MINUTE: Final = 60.0
_MOST_LINES: Final = 100


class FailureLog:
    """Logs failed logins: the first of a caller at once, then one line a minute with the count."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._counts: dict[str, int] = {}
        """Caller → failed logins since their last line."""
        self._task: asyncio.Task[None] | None = None

    def add(self, caller: str) -> None:
        """Count a failed login."""
        if caller not in self._counts and len(self._counts) >= _MOST_LINES:
            caller = "others"
        if caller in self._counts:
            self._counts[caller] += 1
        else:
            self._counts[caller] = 0
            log.warning("console.login_failed", caller=caller, count=1)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._log_each_minute(), name="console guesses")

    async def _log_each_minute(self) -> None:
        while self._counts:
            await self._clock.sleep(_MINUTE)
            counts = {caller: count for caller, count in self._counts.items() if count}
            for caller, count in counts.items():
                log.warning("console.login_failed", caller=caller, count=count)
            self._counts = dict.fromkeys(counts, 0)
