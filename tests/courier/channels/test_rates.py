"""How fast mails may follow one another, by the settings and by a vendor's signals."""

import asyncio
from itertools import pairwise
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailroom.clock import Instant
from mailroom.courier.channels.rated_limiter import RatedLimiter
from mailroom.courier.channels.rates import LONGEST_PAUSE_SECONDS, LimitChange, Pace, Rates, RollingLimit
from mailroom.message import Priority
from mailroom.providers import Rate
from tests.clock import START, FakeClock

SECOND, HOUR, DAY = 1.0, 3600.0, 86400.0

rates_ = st.builds(Rate, st.integers(1, 30), st.sampled_from([SECOND, 60.0, HOUR, DAY]))
waits = st.lists(st.integers(0, 4000).map(lambda thousandths: thousandths / 1000), max_size=200)
"""Between two mails that want to go, in periods."""


async def hold_a_permit(limiter: RatedLimiter, priority: Priority, granted: list[Instant]) -> None:
    """Have a permit for 0.1 s, and note when it was granted."""
    assert await limiter.acquire(priority)
    granted.append(limiter.clock.now())
    await limiter.clock.sleep(0.1)
    limiter.release(priority)


def most_in_a_period(times: list[Instant], seconds: float) -> int:
    """Return the largest number of moments that lie within one period."""
    most = first = 0
    for last, at in enumerate(times):
        while times[first] <= at - seconds:
            first += 1
        most = max(most, last - first + 1)
    return most


@given(rates_, waits)
def test_no_period_has_more_than_the_limit_and_no_mail_waits_too_long(rate: Rate, waits: list[float]) -> None:
    limit, now = RollingLimit(rate), START
    sent: list[Instant] = []
    for wait in waits:
        now += wait * rate.seconds / 10
        ready_at = limit.ready_at(now)
        if len(sent) >= rate.count:
            assert ready_at <= max(now, sent[-rate.count] + rate.seconds + 1.01 * limit.slice_seconds)
        else:
            assert ready_at == now
        now = ready_at + 1e-6
        assert limit.left(now) > 0
        limit.add(now)
        sent.append(now)
    assert most_in_a_period(sent, rate.seconds) <= rate.count


def test_memory_does_not_grow_with_the_mails() -> None:
    limit = RollingLimit(Rate(50_000, DAY))
    for number in range(100_000):
        if limit.left(at := START + 2 * number):
            limit.add(at)
    assert len(limit._slices) <= 97


def test_a_quota_renews_when_its_oldest_mails_are_a_period_old() -> None:
    limit = RollingLimit(Rate(10, DAY))
    limit.add(START, 4)
    limit.add(START + HOUR, 6)
    assert limit.left(START + HOUR) == 0
    renews_at = limit.ready_at(START + HOUR)
    assert START + DAY <= renews_at <= START + DAY + limit.slice_seconds
    assert [limit.left(renews_at - 1), limit.left(renews_at + 1)] == [0, 4]


def test_without_a_signal_there_is_no_pace() -> None:
    pace = Pace()
    for _ in range(1000):
        pace.take(START)
    assert pace.ready_at(START) == START
    assert pace.per_second(START) == inf


def test_a_signal_halves_the_rate_that_was_too_fast() -> None:
    """Those about mails that were on their way then do not halve it again."""
    pace = Pace()
    for number in range(40):
        pace.take(START + number / 20)
    now = START + 2
    pace.slow_down(now, None)
    assert pace.per_second(now) == pytest.approx(10, abs=0.5)
    pace.slow_down(now + 0.5, None)
    assert pace.per_second(now + 0.5) == pytest.approx(10, abs=0.5)
    pace.slow_down(now + 1.5, None)
    assert pace.per_second(now + 1.5) < 6


def test_after_the_first_signal_mails_are_spaced() -> None:
    """Not only after the second one."""
    pace = Pace()
    for number in range(10):
        pace.take(START + number / 10)
    pace.slow_down(START + 1, None)
    times = [START + 1]
    for _ in range(5):
        times.append(pace.ready_at(times[-1]))
        pace.take(times[-1])
    assert [later - earlier for earlier, later in pairwise(times)] == pytest.approx(
        [1 / pace.per_second(START + 2)] * 5
    )


def test_the_rate_grows_step_by_step_until_there_is_no_limit() -> None:
    pace = Pace()
    for number in range(16):
        pace.take(START + number / 16)
    pace.slow_down(START + 1, None)
    rates = [pace.per_second(START + 1 + 10 * step) for step in range(8)]
    assert rates[0] == pytest.approx(8, abs=0.5)
    assert all(later == pytest.approx(1.5 * earlier) for earlier, later in pairwise(rates) if later < inf)
    assert 2 < rates.index(inf) < 6
    assert pace.ready_at(START + 1e6) == START + 1e6


def test_a_rate_is_never_so_slow_that_nothing_is_sent() -> None:
    """And days without mail are no overflow."""
    pace = Pace()
    for number in range(100):
        pace.slow_down(START + 2 * number, None)
    now = START + 200
    assert now < pace.ready_at(now) <= now + 5
    assert pace.per_second(now + 30 * DAY) == inf


@pytest.mark.parametrize(("asked", "seconds"), [(7.0, 7.0), (86400.0, LONGEST_PAUSE_SECONDS)])
def test_a_vendor_is_left_alone_for_as_long_as_it_asks(asked: float, seconds: float) -> None:
    """Within reason."""
    pace = Pace()
    pace.slow_down(START, asked)
    assert pace.ready_at(START) == START + seconds


@given(st.lists(st.tuples(st.floats(0, 20), st.booleans()), max_size=100))
def test_whatever_a_vendor_signals_mails_go_on(steps: list[tuple[float, bool]]) -> None:
    """The next one is due within the longest pause, and the slowest rate is kept to."""
    pace, now = Pace(), START
    for seconds, throttled in steps:
        now += seconds
        if throttled:
            pace.slow_down(now, None)
        ready_at = pace.ready_at(now)
        assert now <= ready_at <= now + 5
        pace.take(ready_at)
        now = ready_at


def test_a_used_up_quota_suspends_until_it_renews() -> None:
    """Each change is told once."""
    rates = Rates(clock := FakeClock(), quota=Rate(2, HOUR))
    assert rates.check() is None
    rates.count_accepted()
    assert (rates.quota_left, rates.check()) == (1, None)
    rates.count_accepted()
    assert [rates.check(), rates.check()] == [LimitChange.SUSPENDED, None]
    assert rates.is_exhausted
    until = rates.suspended_until
    assert until is not None
    clock.set(until - 1)
    assert rates.check() is None
    clock.set(until + 1)
    assert [rates.check(), rates.check()] == [LimitChange.RESUMED, None]
    assert rates.suspended_until is None


def test_a_quota_is_kept_by_mails_in_flight_too() -> None:
    rates = Rates(clock := FakeClock(), quota=Rate(3, HOUR))
    rates.count_accepted()
    assert rates.ready_at(in_flight=1) == clock.now()
    assert rates.ready_at(in_flight=2) == inf


def test_a_long_pause_suspends_and_a_short_one_does_not() -> None:
    rates = Rates(clock := FakeClock())
    rates.slow_down(5)
    assert [rates.check(), rates.check()] == [LimitChange.SLOWED, None]
    assert rates.is_pausing
    rates.slow_down(60)
    assert rates.check() is LimitChange.SUSPENDED
    assert not rates.is_exhausted
    clock.set(START + 60)
    assert rates.check() is LimitChange.RESUMED
    assert not rates.is_pausing


def test_the_rate_in_force_is_the_slower_one() -> None:
    rates = Rates(clock := FakeClock(), rate=Rate(120, 60.0))
    assert rates.per_second == 2
    rates.slow_down(None)
    assert rates.per_second == 0.5
    clock.set(START + 600)
    assert rates.per_second == 2
    assert rates.check() is None


arrivals = st.lists(
    st.tuples(st.integers(0, 600).map(lambda ms: ms / 1000), st.sampled_from(Priority)), min_size=1, max_size=60
)


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 10), st.integers(1, 8), arrivals)
def test_a_limiter_grants_no_more_than_the_rate_and_everything_in_the_end(
    count: int, concurrency: int, arrivals: list[tuple[float, Priority]]
) -> None:
    """With permits that are held for 0.1 s."""
    granted: list[Instant] = []

    async def run() -> None:
        clock = FakeClock()
        limiter = RatedLimiter(concurrency, Rates(clock, rate=Rate(count, SECOND)))
        tasks = []
        for seconds, priority in arrivals:
            await clock.advance(seconds)
            tasks.append(asyncio.create_task(hold_a_permit(limiter, priority, granted)))
        await clock.advance(100)
        async with asyncio.timeout(10):
            await asyncio.gather(*tasks)
        assert limiter._timer is None

    asyncio.run(run())
    assert len(granted) == len(arrivals)
    assert most_in_a_period(granted, SECOND) <= count
