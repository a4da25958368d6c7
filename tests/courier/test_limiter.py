"""Permits of a provider, and the codes' share of them."""

import asyncio

from mailroom.courier.limiter import NEVER, PriorityLimiter
from mailroom.message import Priority


async def test_a_single_permit_is_for_all_mail() -> None:
    """With `concurrency = 1` nothing can be reserved, or other mail would never be sent."""
    limiter = PriorityLimiter(1)
    assert await limiter.acquire(Priority.EVENT)
    limiter.release(Priority.EVENT)
    assert await limiter.acquire(Priority.CODE)


async def test_a_wait_that_may_be_ended_is_ended() -> None:
    """Those that give up later, or never, go on."""
    limiter = PriorityLimiter(1)
    await limiter.acquire(Priority.CODE)
    soon, later, patient = (
        asyncio.create_task(limiter.acquire(Priority.CODE, give_up_at=at)) for at in (10.0, 20.0, None)
    )
    await _settled()
    limiter.end_waits(10.0)
    assert not await soon
    assert not later.done()
    limiter.end_waits(NEVER)
    assert not await later
    assert limiter.is_full
    limiter.release(Priority.CODE)
    assert await patient


async def test_who_gave_up_blocks_nobody() -> None:
    """A code gives up, and the event behind it gets the permit that codes do not need."""
    limiter = PriorityLimiter(5)
    for _ in range(5):
        await limiter.acquire(Priority.CODE)
    code = asyncio.create_task(limiter.acquire(Priority.CODE, give_up_at=1.0))
    event = asyncio.create_task(limiter.acquire(Priority.EVENT))
    await _settled()
    limiter.end_waits(1.0)
    assert not await code
    limiter.release(Priority.CODE)
    assert await event


async def test_a_code_overtakes_everything_that_waits_for_a_permit() -> None:
    """Equals are served in the order of their requests."""
    limiter, went = PriorityLimiter(2), []
    leave = asyncio.Event()

    async def run(name: str, priority: Priority) -> None:
        await limiter.acquire(priority)
        went.append(name)
        await leave.wait()
        limiter.release(priority)

    async with asyncio.TaskGroup() as group:
        for name, priority in (
            ("code 1", Priority.CODE),
            ("code 2", Priority.CODE),
            ("welcome", Priority.EVENT),
            ("invitation", Priority.INVITATION),
            ("code 3", Priority.CODE),
        ):
            group.create_task(run(name, priority))
        await _settled()
        assert went == ["code 1", "code 2"]
        leave.set()
    assert went == ["code 1", "code 2", "code 3", "invitation", "welcome"]


async def test_other_mail_never_holds_the_permits_of_codes() -> None:
    """One of five permits is for codes only."""
    limiter = PriorityLimiter(5)
    leave = asyncio.Event()
    running = 0

    async def run(priority: Priority) -> None:
        nonlocal running
        await limiter.acquire(priority)
        running += 1
        await leave.wait()
        limiter.release(priority)

    async with asyncio.TaskGroup() as group:
        for _ in range(9):
            group.create_task(run(Priority.EVENT))
        await _settled()
        assert running == 4
        group.create_task(run(Priority.CODE))
        await _settled()
        assert running == 5
        leave.set()


async def test_a_cancelled_wait_loses_no_permit() -> None:
    """Neither while it waits nor in the moment in which the permit is granted."""
    limiter = PriorityLimiter(1)
    await limiter.acquire(Priority.CODE)
    waiting = asyncio.create_task(limiter.acquire(Priority.CODE))
    last = asyncio.create_task(limiter.acquire(Priority.CODE))
    await _settled()
    limiter.release(Priority.CODE)  # granted to `waiting`
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert await last
    limiter.release(Priority.CODE)
    assert await limiter.acquire(Priority.CODE)


async def _settled() -> None:
    """Let every task run until it waits."""
    for _ in range(10):
        await asyncio.sleep(0)
