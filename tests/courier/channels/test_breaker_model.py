"""The breaker under any interleaving of attempts: only the probe's own outcome ends the probe."""

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from mailroom.courier.channels.breaker import Breaker, Change

_FIRST, _LONGEST = 5.0, 60.0


@dataclass
class Expected:
    """What is expected of a breaker, written down anew."""

    outcomes: list[bool] = field(default_factory=list)
    """Since it closed; True: a failure."""
    reason: str = ""
    seconds: float = _FIRST
    probe_at: float = 0.0
    probe: str | None = None

    def fails_too_often(self) -> bool:
        """Whether the last outcomes open it: five failures in a row, or ten among the last twenty."""
        return self.outcomes[-5:] == [True] * 5 or sum(self.outcomes[-20:]) >= 10


class BreakerModel(RuleBasedStateMachine):
    """Attempts begin and end in any order; some have no outcome, some were refused and go on without an alternative."""

    attempts = Bundle("attempts")

    def __init__(self) -> None:
        super().__init__()
        self.breaker = Breaker()
        self.expected = Expected()
        self.now = 1000.0
        self.number = 0

    @rule(target=attempts)
    def begin(self) -> str:
        """Begin an attempt, which may be the probe."""
        self.number += 1
        attempt, expected = f"attempt {self.number}", self.expected
        probes = bool(expected.reason) and expected.probe is None and self.now >= expected.probe_at
        assert self.breaker.begin(attempt, self.now) is (not expected.reason or probes)
        if probes:
            expected.probe = attempt
        return attempt

    @rule(attempt=consumes(attempts))
    def cancel(self, attempt: str) -> None:
        """End it without an outcome."""
        self.breaker.cancel(attempt)
        if self.expected.probe == attempt:
            self.expected.probe = None

    @rule(attempt=consumes(attempts))
    def succeed(self, attempt: str) -> None:
        """Let the provider take a mail, whichever attempt it is."""
        was_open = bool(self.expected.reason)
        assert self.breaker.succeed() is (Change.RECOVERED if was_open else None)
        if was_open:
            self.expected = Expected()
        else:
            self.expected.outcomes.append(False)
        self.breaker.cancel(attempt)

    @rule(attempt=consumes(attempts), at_once=st.booleans())
    def fail(self, attempt: str, *, at_once: bool) -> None:
        """Let the provider fail."""
        expected, change = self.expected, None
        if not expected.reason:
            expected.outcomes.append(True)
            if at_once or expected.fails_too_often():
                expected.reason, expected.probe_at = f"451 {attempt}", self.now + expected.seconds
                change = Change.OPENED
        else:
            expected.reason = f"451 {attempt}"
            if expected.probe == attempt:
                expected.probe, expected.seconds = None, min(2 * expected.seconds, _LONGEST)
                expected.probe_at = self.now + expected.seconds
                change = Change.PROBE_FAILED
        assert self.breaker.fail(f"451 {attempt}", self.now, attempt=attempt, at_once=at_once) is change
        self.breaker.cancel(attempt)

    @rule(seconds=st.sampled_from([0.5, 5.0, 10.0, 60.0]))
    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds

    @invariant()
    def admits_one_probe_when_it_is_due(self) -> None:
        """Compare; closed, it admits everybody."""
        expected = self.expected
        is_due = expected.probe is None and self.now >= expected.probe_at
        assert self.breaker.admits(self.now) is (not expected.reason or is_due)
        assert self.breaker.reason == expected.reason
        assert self.breaker.probe == (expected.probe or "")


TestBreakerModel = BreakerModel.TestCase
TestBreakerModel.settings = settings(max_examples=100, stateful_step_count=40, deadline=None, derandomize=True)
