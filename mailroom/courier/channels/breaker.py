"""A circuit breaker: skips a provider that keeps failing, and lets single messages probe whether it has recovered.

Closed: the provider is used. Open: it is skipped while another one can be asked. Half-open: the time is over, and one
message probes; its outcome closes the breaker, or opens it for twice as long. Before that the provider is asked whether
it answers at all, where that can be done without a message (`Channel.check`).
"""

from collections import deque
from enum import Enum, auto
from typing import Final

from mailroom.clock import Instant

FAILURES_IN_A_ROW: Final = 5
_RECENT: Final = 20
"""Outcomes of which the share of failures counts."""
_SHARE: Final = 0.5
_FIRST_SECONDS: Final = 5.0
_LONGEST_SECONDS: Final = 60.0


class Change(Enum):
    """What an outcome changes."""

    OPENED = auto()
    RECOVERED = auto()


class Breaker:
    """Whether one provider is used."""

    def __init__(self) -> None:
        self.reason = ""
        """Why it is open, in the provider's words; empty: closed."""
        self._failures_in_a_row = 0
        self._recent: deque[bool] = deque(maxlen=_RECENT)
        self._open_seconds = _FIRST_SECONDS
        self._probe_at: Instant = 0.0
        self._is_probing = False

    @property
    def is_open(self) -> bool:
        """Whether the provider is skipped, or probed by one message."""
        return bool(self.reason)

    def admits(self, now: Instant) -> bool:
        """Whether a message may be handed to the provider: it is closed, or a probe is due."""
        return not self.reason or (now >= self._probe_at and not self._is_probing)

    def begin(self, now: Instant) -> bool:
        """Register the start of an attempt, which may become the probe; False: another message probes already."""
        if not self.reason:
            return True
        if not self.admits(now):
            return False
        self._is_probing = True
        return True

    def cancel(self) -> None:
        """Register that an attempt ended without an outcome of the provider's."""
        self._is_probing = False

    def succeed(self) -> Change | None:
        """Register that the provider works, which closes an open breaker."""
        self._failures_in_a_row = 0
        self._recent.append(False)
        if not self.is_open:
            return None
        self.reason, self._is_probing, self._open_seconds = "", False, _FIRST_SECONDS
        self._recent.clear()
        return Change.RECOVERED

    def fail(self, reason: str, now: Instant, *, at_once: bool = False) -> Change | None:
        """Register a failure, which may open the breaker; `at_once`: one failure is enough."""
        self._failures_in_a_row += 1
        self._recent.append(True)
        if self.is_open:
            if self._is_probing:
                self._is_probing = False
                self._open_seconds = min(2 * self._open_seconds, _LONGEST_SECONDS)
                self._probe_at = now + self._open_seconds
            self.reason = reason or self.reason
            return None
        share = sum(self._recent) / _RECENT
        if at_once or self._failures_in_a_row >= FAILURES_IN_A_ROW or share >= _SHARE:
            self.reason = reason or "it failed"
            self._probe_at = now + self._open_seconds
            return Change.OPENED
        return None
