"""When a message is tried again."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from mailroom.courier.retry import MOST_ROUNDS, next_round
from mailroom.message import Priority


def test_a_code_is_tried_again_within_seconds() -> None:
    """Somebody waits for it in front of a screen."""
    delays = [next_round(Priority.CODE, rounds, now=0.0) for rounds in range(1, 9)]
    assert delays == [1, 2, 4, 8, 15, 30, 30, 30]


def test_a_code_is_tried_for_as_long_as_the_default_lifetime() -> None:
    """The tries must not be used up before ten minutes are over."""
    at = 0.0
    for rounds in range(1, MOST_ROUNDS[Priority.CODE]):
        at = next_round(Priority.CODE, rounds, now=at) or at
    assert at > 600


def test_other_mail_backs_off_to_hours() -> None:
    """A welcome can wait until the provider has slept well."""
    assert next_round(Priority.EVENT, 1, now=0.0) == 30
    assert next_round(Priority.EVENT, 12, now=0.0) == 4 * 3600


def test_other_mail_that_waits_for_a_connection_is_tried_again_within_seconds() -> None:
    """If that does not help, it backs off like any other."""
    delays = [next_round(Priority.EVENT, rounds, now=0.0, is_brief=True) for rounds in range(1, 10)]
    assert delays == [1, 2, 4, 8, 15, 30, 30, 60, 300]


def test_retry_after_is_never_undercut() -> None:
    """A provider's own wish wins over a shorter delay, and loses against a longer one."""
    assert next_round(Priority.CODE, 1, now=100.0, retry_after=45.0) == 145
    assert next_round(Priority.EVENT, 1, now=100.0, retry_after=5.0) == 130


def test_the_tries_are_used_up_in_the_end() -> None:
    """Then an operator is asked."""
    for priority, most in MOST_ROUNDS.items():
        assert next_round(priority, most - 1, now=0.0) is not None
        assert next_round(priority, most, now=0.0) is None


@given(st.sampled_from(Priority), st.floats(0, 1))
def test_delays_never_shrink_and_spread_by_a_fifth_at_most(priority: Priority, jitter: float) -> None:
    """What failed together comes back apart, but not much later."""
    rounds = range(1, MOST_ROUNDS[priority])
    plain = [next_round(priority, n, now=0.0) or 0 for n in rounds]
    spread = [next_round(priority, n, now=0.0, jitter=jitter) or 0 for n in rounds]
    assert all(a <= b for a, b in pairwise(plain))
    assert all(a <= b <= a * 1.2 + 1e-9 for a, b in zip(plain, spread, strict=True))
