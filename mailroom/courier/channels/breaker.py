"""A circuit breaker: skips a provider that keeps failing, and lets single messages probe whether it has recovered.

Closed: the provider is used. Open: it is skipped while another one can be asked. Half-open: the time is over, and one
message probes; its failure opens the breaker for twice as long. A success of any attempt closes it. Before a probe the
provider is asked whether it answers at all, where that can be done without a message (`Channel.check`).
"""

from collections import deque
from enum import Enum, auto
from math import inf
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
    PROBE_FAILED = auto()
    RECOVERED = auto()


class Breaker:
    """Whether one provider is used. Attempts are told apart by the ids of their messages."""

    def __init__(self) -> None:
        self.reason = ""
        """Why it is open, in the provider's words; empty: closed."""
        self.open_seconds = _FIRST_SECONDS
        """How long until the next probe, from the last one on."""
        self.probe = ""
        """The attempt that probes; empty: none."""
        self._failures_in_a_row = 0
        self._recent: deque[bool] = deque(maxlen=_RECENT)
        self._probe_at: Instant = 0.0
        self._probe_until: Instant = inf
        """When another process may probe, where several share this state."""

    @property
    def is_open(self) -> bool:
        """Whether the provider is skipped, or probed by one message."""
        return bool(self.reason)

    def admits(self, now: Instant) -> bool:
        """Whether a message may be handed to the provider: it is closed, or a probe is due."""
        return not self.reason or (self._probe_at <= now < self._probe_until and not self.probe)

    def begin(self, attempt: str, now: Instant) -> bool:
        """Register the start of an attempt, which may become the probe; False: no probe is due, or another one is."""
        if not self.reason:
            return True
        if not self.admits(now):
            return False
        self.probe = attempt
        return True

    def cancel(self, attempt: str) -> None:
        """Register that an attempt ended; if it probes without an outcome so far, another one may."""
        if attempt == self.probe:
            self.probe = ""

    def succeed(self) -> Change | None:
        """Register that the provider works, which closes an open breaker, whichever attempt shows it."""
        self._failures_in_a_row = 0
        self._recent.append(False)
        return self.close()

    def fail(self, reason: str, now: Instant, *, attempt: str = "", at_once: bool = False) -> Change | None:
        """Register an attempt's failure, which may open the breaker; `at_once`: one failure is enough."""
        self._failures_in_a_row += 1
        self._recent.append(True)
        if self.is_open:
            self.reason = reason or self.reason
            if not attempt or attempt != self.probe:
                return None
            self.probe = ""
            self.open_seconds = min(2 * self.open_seconds, _LONGEST_SECONDS)
            self._probe_at = now + self.open_seconds
            return Change.PROBE_FAILED
        share = sum(self._recent) / _RECENT
        if at_once or self._failures_in_a_row >= FAILURES_IN_A_ROW or share >= _SHARE:
            self.reason = reason or "it failed"
            self._probe_at = now + self.open_seconds
            return Change.OPENED
        return None

    def close(self) -> Change | None:
        """Use the provider again, as after a success."""
        if not self.is_open:
            return None
        self.reason, self.probe, self.open_seconds, self._probe_until = "", "", _FIRST_SECONDS, inf
        self._failures_in_a_row = 0
        self._recent.clear()
        return Change.RECOVERED

    def follow(self, reason: str, open_seconds: float, probe_until: Instant | None) -> Change | None:
        """Be open, as in other processes; this one may begin to probe until then, None: it may not now."""
        was_open, self.reason, self.open_seconds = self.is_open, reason, open_seconds
        self._probe_at, self._probe_until = (inf, inf) if probe_until is None else (0.0, probe_until)
        return None if was_open else Change.OPENED

    def probe_alone(self, now: Instant) -> None:
        """Ask no other processes any more who may probe: what they share cannot be reached."""
        self._probe_at, self._probe_until = min(self._probe_at, now + self.open_seconds), inf
