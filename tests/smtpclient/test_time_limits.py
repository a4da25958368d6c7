"""A timeout cancels a block that takes too long, and nothing else."""

import asyncio
from collections.abc import Callable

import pytest

from mailroom.smtpclient.time_limits import SharedTimer
from tests.clock import settle

SOON = 0.005
NEVER = 3600.0


async def for_ever() -> None:
    await asyncio.get_running_loop().create_future()


async def test_a_block_that_takes_too_long_is_cancelled() -> None:
    with pytest.raises(TimeoutError), SharedTimer().timeout(SOON):
        await for_ever()
    task = asyncio.current_task()
    assert task
    assert not task.cancelling(), "whoever waits next would be cancelled"


async def test_a_block_that_ends_in_time_returns() -> None:
    with SharedTimer().timeout(NEVER):
        await asyncio.sleep(0)


async def test_each_block_has_its_own_deadline() -> None:
    timer = SharedTimer()
    ended: list[str] = []

    async def block(name: str) -> None:
        try:
            with timer.timeout(SOON):
                await for_ever()
        except TimeoutError:
            ended.append(name)

    for _ in range(2):  # the second time after the timer had nothing left to do
        first = asyncio.create_task(block("first"))
        await asyncio.sleep(0)
        with timer.timeout(SOON):
            await asyncio.sleep(0)
        second = asyncio.create_task(block("second"))
        await asyncio.gather(first, second)
    assert ended == ["first", "second"] * 2


async def test_a_deadline_can_be_moved(pass_time: Callable[[float], None]) -> None:
    """Forward and back, also past the deadlines of other blocks."""
    timer = SharedTimer()
    loop = asyncio.get_running_loop()
    ended: list[str] = []

    async def block(name: str, *seconds: float) -> None:
        try:
            with timer.timeout(30) as timeout:
                for later in seconds:
                    timeout.reschedule(loop.time() + later)
                await for_ever()
        except TimeoutError:
            ended.append(name)

    blocks = [block("usual"), block("soon", 5), block("late", 5, 60), block("soonest", 60, 1)]
    tasks = [asyncio.create_task(one) for one in blocks]
    await settle()
    for seconds, expected in [(1, "soonest"), (4, "soon"), (25, "usual"), (30, "late")]:
        assert expected not in ended
        pass_time(seconds)
        await settle()
        assert ended[-1] == expected
    await asyncio.gather(*tasks)
    assert not timer.running


async def test_a_finished_block_is_not_cancelled() -> None:
    timer = SharedTimer()
    with timer.timeout(SOON):
        await asyncio.sleep(0)
    await asyncio.create_task(_cut_off(timer))  # the timer has struck for both
    await asyncio.sleep(0)


async def _cut_off(timer: SharedTimer) -> None:
    with pytest.raises(TimeoutError), timer.timeout(SOON):
        await for_ever()


async def test_limits_can_be_nested() -> None:
    outer, inner = SharedTimer(), SharedTimer()
    with outer.timeout(NEVER):
        with pytest.raises(TimeoutError), inner.timeout(SOON):
            await for_ever()
        await asyncio.sleep(0)
    with pytest.raises(TimeoutError), outer.timeout(SOON), inner.timeout(NEVER):  # the outer one this time
        await for_ever()


async def test_a_cancelled_task_stays_cancelled() -> None:
    async def block() -> None:
        with SharedTimer().timeout(NEVER):
            await for_ever()

    task = asyncio.create_task(block())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_task_that_is_cancelled_when_its_time_ends_stays_cancelled() -> None:
    async def block() -> None:
        with SharedTimer().timeout(SOON):
            try:
                await for_ever()
            except asyncio.CancelledError:
                task.cancel()  # by somebody else, before the block has ended
                raise

    task = asyncio.create_task(block())
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_error_after_the_deadline_is_not_hidden() -> None:
    async def block() -> None:
        with SharedTimer().timeout(SOON):
            try:
                await for_ever()
            finally:
                raise KeyError

    with pytest.raises(KeyError):
        await block()
