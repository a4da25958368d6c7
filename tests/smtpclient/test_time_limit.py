"""A time limit ends what takes too long, and nothing else."""

import asyncio

import pytest

from mailroom.smtpclient.time_limit import TimeLimit

SOON = 0.005
NEVER = 3600.0


async def for_ever() -> None:
    await asyncio.get_running_loop().create_future()


async def test_what_takes_too_long_is_cut_off() -> None:
    with pytest.raises(TimeoutError), TimeLimit(SOON)():
        await for_ever()
    task = asyncio.current_task()
    assert task
    assert not task.cancelling(), "whoever waits next would be cancelled"


async def test_what_ends_in_time_returns() -> None:
    limit = TimeLimit(NEVER)
    with limit():
        await asyncio.sleep(0)


async def test_each_block_has_its_own_end() -> None:
    limit = TimeLimit(SOON)
    ended: list[str] = []

    async def block(name: str) -> None:
        try:
            with limit():
                await for_ever()
        except TimeoutError:
            ended.append(name)

    for _ in range(2):  # the second time after the timer had nothing left to do
        first = asyncio.create_task(block("first"))
        await asyncio.sleep(0)
        with limit():
            await asyncio.sleep(0)
        second = asyncio.create_task(block("second"))
        await asyncio.gather(first, second)
    assert ended == ["first", "second"] * 2


async def test_a_block_that_is_over_is_left_alone() -> None:
    limit = TimeLimit(SOON)
    with limit():
        await asyncio.sleep(0)
    await asyncio.create_task(_cut_off(limit))  # the timer has struck for both
    await asyncio.sleep(0)


async def _cut_off(limit: TimeLimit) -> None:
    with pytest.raises(TimeoutError), limit():
        await for_ever()


async def test_limits_lie_in_each_other() -> None:
    outer, inner = TimeLimit(NEVER), TimeLimit(SOON)
    with outer():
        with pytest.raises(TimeoutError), inner():
            await for_ever()
        await asyncio.sleep(0)
    with pytest.raises(TimeoutError), inner(), outer():  # the outer one this time
        await for_ever()


async def test_a_cancelled_task_stays_cancelled() -> None:
    limit = TimeLimit(NEVER)

    async def block() -> None:
        with limit():
            await for_ever()

    task = asyncio.create_task(block())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_task_that_is_cancelled_and_cut_off_at_once_is_cancelled() -> None:
    limit = TimeLimit(SOON)

    async def block() -> None:
        with limit():
            try:
                await for_ever()
            except asyncio.CancelledError:
                task.cancel()  # by somebody else, before the block has ended
                raise

    task = asyncio.create_task(block())
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_error_on_the_way_out_is_not_hidden() -> None:
    limit = TimeLimit(SOON)

    async def block() -> None:
        with limit():
            try:
                await for_ever()
            finally:
                raise KeyError

    with pytest.raises(KeyError):
        await block()
