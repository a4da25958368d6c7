"""The tests' own clock keeps time as they expect."""

import asyncio

from tests.clock import START, FakeClock


async def test_sleepers_wake_in_order_at_their_own_moment() -> None:
    """Whoever sleeps shortest wakes first and sees the time that it waited for."""
    clock = FakeClock()
    woken: list[tuple[str, float]] = []

    async def sleeper(name: str, *spans: float) -> None:
        for span in spans:
            await clock.sleep(span)
            woken.append((name, clock.now() - START))

    tasks = [asyncio.create_task(sleeper("late", 5)), asyncio.create_task(sleeper("twice", 2, 2))]
    await clock.advance(10)
    await asyncio.gather(*tasks)
    assert woken == [("twice", 2), ("twice", 4), ("late", 5)]
    assert clock.now() == START + 10


async def test_nobody_wakes_early() -> None:
    """A sleeper whose time has not come stays asleep."""
    clock = FakeClock()
    task = asyncio.create_task(clock.sleep(3))
    await clock.until_asleep()
    await clock.advance(2.9)
    assert not task.done()
    await clock.advance(0.1 + 1e-6)
    await task


async def test_a_cancelled_sleeper_is_forgotten() -> None:
    """Cancelling leaves nothing behind that `advance` would trip over."""
    clock = FakeClock()
    task = asyncio.create_task(clock.sleep(3))
    await clock.until_asleep()
    task.cancel()
    await asyncio.wait([task])
    assert clock.sleeping == 0
    await clock.advance(5)


def test_the_wall_clock_may_jump_but_monotonic_time_does_not() -> None:
    """`set` moves `now` only."""
    clock = FakeClock()
    before = clock.monotonic()
    clock.set(START - 3600)
    assert clock.now() == START - 3600
    assert clock.monotonic() == before
