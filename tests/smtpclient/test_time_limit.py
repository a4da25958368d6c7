"""A time limit cancels a block that takes too long, and nothing else."""

import asyncio

import pytest

from mailroom.smtpclient.time_limit import TimeLimit

SOON = 0.005
NEVER = 3600.0


async def for_ever() -> None:
    await asyncio.get_running_loop().create_future()


async def test_a_block_that_takes_too_long_is_cancelled() -> None:
    with pytest.raises(TimeoutError), TimeLimit(SOON)():
        await for_ever()
    task = asyncio.current_task()
    assert task
    assert not task.cancelling(), "whoever waits next would be cancelled"


async def test_a_block_that_ends_in_time_returns() -> None:
    limit = TimeLimit(NEVER)
    with limit():
        await asyncio.sleep(0)


async def test_each_block_has_its_own_deadline() -> None:
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


async def test_a_finished_block_is_not_cancelled() -> None:
    limit = TimeLimit(SOON)
    with limit():
        await asyncio.sleep(0)
    await asyncio.create_task(_cut_off(limit))  # the timer has struck for both
    await asyncio.sleep(0)


async def _cut_off(limit: TimeLimit) -> None:
    with pytest.raises(TimeoutError), limit():
        await for_ever()


async def test_limits_can_be_nested() -> None:
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


async def test_a_task_that_is_cancelled_when_its_time_ends_stays_cancelled() -> None:
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


async def test_an_error_after_the_deadline_is_not_hidden() -> None:
    limit = TimeLimit(SOON)

    async def block() -> None:
        with limit():
            try:
                await for_ever()
            finally:
                raise KeyError

    with pytest.raises(KeyError):
        await block()
