"""A rate that several processes keep to together: never faster, codes first, and few questions to the outbox."""

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from mailroom.clock import Instant
from mailroom.courier.channels.rated_limiter import RatedLimiter
from mailroom.courier.channels.rates import Rates
from mailroom.courier.channels.shared_rate import SharedRate
from mailroom.message import Priority
from mailroom.providers import Rate
from tests.clock import START, FakeClock, settle
from tests.courier.channels.counts import CountsInMemory
from tests.courier.channels.test_rates import SECOND, arrivals, hold_a_permit, most_in_a_period


def shared(counts: CountsInMemory, clock: FakeClock, rate: Rate | None, concurrency: int = 50) -> RatedLimiter:
    """Return the limiter of one process."""
    rates = Rates(clock, rate=rate)
    rates.share_rate("main", counts)
    return RatedLimiter(concurrency, rates)


def lots(counts: CountsInMemory) -> list[int]:
    return [count for _, count in counts.taken]


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 30), st.integers(1, 8), st.sampled_from([0.0, 0.005]), arrivals)
def test_two_limiters_grant_no_more_than_the_rate_and_everything_in_the_end(
    count: int, concurrency: int, lag: float, arrivals: list[tuple[float, Priority]]
) -> None:
    """In any period, as the outbox counts; a permit is granted so much later as its answer takes."""
    granted: list[Instant] = []

    async def run() -> None:
        clock = FakeClock()
        counts = CountsInMemory(clock, lag)
        limiters = [shared(counts, clock, Rate(count, SECOND), concurrency) for _ in range(2)]
        tasks = []
        for number, (seconds, priority) in enumerate(arrivals):
            await clock.advance(seconds)
            tasks += [
                asyncio.create_task(hold_a_permit(limiters[(number + i) % 2], priority, granted)) for i in range(2)
            ]
        await clock.advance(200)
        async with asyncio.timeout(10):
            await asyncio.gather(*tasks)
        asked = len(counts.taken)
        await clock.advance(60)
        assert len(counts.taken) == asked, "nothing waits"
        assert all(limiter._timer is limiter._fetching is None for limiter in limiters)

    asyncio.run(run())
    assert len(granted) == 2 * len(arrivals)
    assert most_in_a_period(granted, SECOND - lag - 1e-6) <= count


async def test_tokens_are_taken_in_lots_for_what_waits(clock: FakeClock, counts: CountsInMemory) -> None:
    limiter = shared(counts, clock, Rate(100, SECOND))
    waiting = [asyncio.create_task(limiter.acquire(Priority.EVENT)) for _ in range(34)]
    await settle()
    assert lots(counts) == [10, 10, 10, 4]
    assert all(wait.done() for wait in waiting)
    assert counts.taken[0][0] == "rate:main"
    await clock.advance(60)
    assert len(counts.taken) == 4


async def test_a_lot_is_no_larger_than_the_free_permits(clock: FakeClock, counts: CountsInMemory) -> None:
    """What is reserved for codes is not free for other mail."""
    limiter = shared(counts, clock, Rate(100, SECOND), concurrency=5)
    waiting = [asyncio.create_task(limiter.acquire(Priority.EVENT)) for _ in range(7)]
    await settle()
    assert (lots(counts), sum(wait.done() for wait in waiting)) == ([4], 4)
    code = asyncio.create_task(limiter.acquire(Priority.CODE))
    await settle()
    assert (lots(counts), code.done()) == ([4, 1], True)
    limiter.release(Priority.EVENT)
    await settle()
    assert (lots(counts), sum(wait.done() for wait in waiting)) == ([4, 1, 1], 5)
    limiter.close()
    await asyncio.gather(*waiting)


async def test_a_code_that_comes_while_a_lot_is_fetched_goes_first(clock: FakeClock) -> None:
    limiter = shared(CountsInMemory(clock, lag=0.1), clock, Rate(1, SECOND))
    event = asyncio.create_task(limiter.acquire(Priority.EVENT))
    await clock.advance(0.05)
    code = asyncio.create_task(limiter.acquire(Priority.CODE))
    await settle()
    assert not limiter.try_acquire(Priority.CODE), "nothing is granted meanwhile"
    await clock.advance(0.1)
    assert (code.done(), event.done()) == (True, False)
    await clock.advance(1.2)
    assert event.done()


async def test_a_used_up_rate_is_asked_again_when_it_renews(clock: FakeClock, counts: CountsInMemory) -> None:
    one, other = (shared(counts, clock, Rate(1, 60.0)) for _ in range(2))
    assert await one.acquire(Priority.CODE)
    waiting = asyncio.create_task(other.acquire(Priority.CODE))
    await clock.advance(59)
    assert (lots(counts), waiting.done()) == ([1, 1], False)
    await clock.advance(2)
    assert (lots(counts), waiting.done()) == ([1, 1, 1], True)


async def test_while_the_outbox_refuses_it_is_asked_once_a_second(clock: FakeClock, counts: CountsInMemory) -> None:
    limiter = shared(counts, clock, Rate(10, SECOND))
    counts.is_broken = True
    waiting = asyncio.create_task(limiter.acquire(Priority.CODE))
    await clock.advance(2.5)
    assert (len(counts.taken), waiting.done()) == (3, False)
    counts.is_broken = False
    await clock.advance(0.6)
    assert waiting.done()


async def test_without_a_rate_nothing_is_asked(clock: FakeClock, counts: CountsInMemory) -> None:
    limiter = shared(counts, clock, None)
    assert limiter.try_acquire(Priority.CODE)
    limiter.rates.slow_down(None)
    waiting = asyncio.create_task(limiter.acquire(Priority.CODE))
    await clock.advance(10)
    assert (counts.taken, waiting.done()) == ([], True)


async def test_for_a_vendor_that_throttles_no_token_is_taken_too_early(
    clock: FakeClock, counts: CountsInMemory
) -> None:
    """It would be void before the mail may go."""
    limiter = shared(counts, clock, Rate(1000, 3600.0))
    limiter.rates.slow_down(None)
    waiting = [asyncio.create_task(limiter.acquire(Priority.EVENT)) for _ in range(5)]
    await clock.advance(30)
    assert all(wait.done() for wait in waiting)
    assert sum(lots(counts)) == 5


async def test_tokens_that_are_not_used_soon_are_void(clock: FakeClock, counts: CountsInMemory) -> None:
    rate = SharedRate("main", Rate(100, 3600.0), counts, clock)
    await rate.fetch(3)
    rate.add(START)
    assert rate.has_token(START + 0.9)
    assert not rate.has_token(START + 1.1)


async def test_a_closed_limiter_fetches_nothing(clock: FakeClock) -> None:
    """Nor does it wait for an answer."""
    limiter = shared(counts := CountsInMemory(clock, lag=5), clock, Rate(1, SECOND))
    waiting = asyncio.create_task(limiter.acquire(Priority.CODE))
    await settle()
    limiter.close()
    assert not await waiting
    await settle()
    assert (clock.sleeping, len(counts.taken)) == (0, 1)
    assert not await limiter.acquire(Priority.CODE)
    assert len(counts.taken) == 1
