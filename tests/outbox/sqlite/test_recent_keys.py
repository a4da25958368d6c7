"""Tests of the filter that spares searches for earlier codes."""

import random

from mailroom.outbox.sqlite.recent_keys import PERIOD_SECONDS, RecentKeys
from tests.clock import START


def test_a_key_is_known_for_at_least_one_period() -> None:
    """And for two at most."""
    keys = RecentKeys()
    assert not keys.add(b"0123456789abcdef", START)
    assert keys.add(b"0123456789abcdef", START + PERIOD_SECONDS)
    other = RecentKeys()
    other.add(b"0123456789abcdef", START)
    assert not other.add(b"0123456789abcdef", START + 2 * PERIOD_SECONDS)


def test_a_key_is_known_as_long_as_a_code_may_live() -> None:
    """`lifetimes.code` allows an hour."""
    for start in (START, START + 1799):
        keys = RecentKeys()
        keys.add(b"0123456789abcdef", start)
        assert keys.add(b"0123456789abcdef", start + 3600)


def test_a_clock_that_was_set_back_forgets_nothing() -> None:
    keys = RecentKeys()
    keys.add(b"0123456789abcdef", START)
    assert keys.add(b"0123456789abcdef", START - 3600)


def test_new_keys_seldom_seem_known() -> None:
    """One in a thousand at most, while as many codes are remembered as come in an hour at 14/s."""
    keys, chance = RecentKeys(), random.Random(7)
    for _ in range(50_000):
        keys.add(chance.randbytes(16), START)
    assert sum(keys.add(chance.randbytes(16), START) for _ in range(10_000)) < 10
