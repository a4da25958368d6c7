"""The machine's clock and the tests' own keep time as is expected of them."""

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailroom.clock import SystemClock
from tests.clock import START, FakeClock


async def test_sleepers_wake_in_order_of_their_deadlines() -> None:
    """The shortest sleep ends first, at its deadline."""
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


async def test_no_sleeper_wakes_early() -> None:
    """A sleep ends at its deadline, not before."""
    clock = FakeClock()
    task = asyncio.create_task(clock.sleep(3))
    await clock.until_asleep()
    await clock.advance(2.9)
    assert not task.done()
    await clock.advance(0.1 + 1e-6)
    await task


async def test_a_cancelled_sleeper_leaves_nothing_behind() -> None:
    """`advance` ignores it."""
    clock = FakeClock()
    task = asyncio.create_task(clock.sleep(3))
    await clock.until_asleep()
    task.cancel()
    await asyncio.wait([task])
    assert clock.sleeping == 0
    await clock.advance(5)


def test_the_wall_clock_may_be_set_alone() -> None:
    """`now` and monotonic time go on, as with the machine's own clock."""
    clock = FakeClock()
    before = clock.monotonic()
    clock.set_wall(-3600)
    assert clock.wall() == START - 3600
    assert clock.now() == START
    assert clock.monotonic() == before


class Machine:
    """A machine's two clocks, as `SystemClock` reads them."""

    def __init__(self) -> None:
        self.wall = START
        self.elapsed = 77.0

    def clock(self) -> SystemClock:
        """Return the clock of a process that starts now."""
        return SystemClock(wall=lambda: self.wall, elapsed=lambda: self.elapsed)


def test_a_process_starts_with_the_wall_clocks_time() -> None:
    """Also after the wall clock was set: across a restart it decides."""
    machine = Machine()
    assert machine.clock().now() == START
    machine.wall -= 3600
    assert machine.clock().now() == START - 3600


@given(
    st.lists(
        st.tuples(st.sampled_from(["pass", "set", "slew"]), st.floats(-1e9, 1e9)),
        max_size=30,
    )
)
def test_now_is_elapsed_time_whatever_happens_to_the_wall_clock(changes: list[tuple[str, float]]) -> None:
    """It neither runs backwards nor jumps; slewing changes the pace of both clocks, so it is followed."""
    machine = Machine()
    clock = machine.clock()
    passed = 0.0
    for kind, amount in changes:
        before = clock.now()
        if kind == "set":
            machine.wall += amount
            assert clock.now() == before
        else:
            seconds = abs(amount) * (1.0005 if kind == "slew" else 1.0)
            machine.wall += seconds
            machine.elapsed += seconds
            passed += seconds
            assert clock.now() >= before
        assert clock.wall() == machine.wall
        assert clock.now() == pytest.approx(START + passed, abs=0.001, rel=1e-12)


async def test_the_system_clock_returns_the_machines_time() -> None:
    """Within what two readings may lie apart."""
    clock = SystemClock()
    assert clock.now() == pytest.approx(time.time(), abs=0.5)
    assert clock.wall() == pytest.approx(time.time(), abs=0.5)
    before = clock.now()
    await clock.sleep(0.01)
    assert 0.009 < clock.now() - before < 5
