"""Permits of a provider, and the codes' share of them."""

import asyncio

from mailroom.courier.channels.limiter import NEVER
from mailroom.courier.channels.rated_limiter import RatedLimiter
from mailroom.courier.channels.rates import Rates
from mailroom.message import Priority
from mailroom.providers import Rate
from tests.clock import START, FakeClock


async def test_a_single_permit_is_for_all_mail() -> None:
    """With `concurrency = 1` nothing can be reserved, or other mail would never be sent."""
    limiter = RatedLimiter(1, Rates(FakeClock()))
    assert await limiter.acquire(Priority.EVENT)
    limiter.release(Priority.EVENT)
    assert await limiter.acquire(Priority.CODE)


async def test_a_wait_that_may_be_ended_is_ended() -> None:
    """Those that give up later go on, until all are ended that have an alternative."""
    limiter = RatedLimiter(1, Rates(FakeClock(0.0)))
    await limiter.acquire(Priority.CODE)
    soon, later, patient = (
        asyncio.create_task(limiter.acquire(Priority.CODE, give_up_at=at, has_alternative=has_alternative))
        for at, has_alternative in ((10.0, False), (NEVER, True), (20.0, False))
    )
    await _settled()
    limiter.end_waits(10.0)
    assert not await soon
    assert not later.done()
    limiter.end_waits(only_with_alternative=True)
    assert not await later
    assert limiter.is_full
    limiter.release(Priority.CODE)
    assert await patient


async def test_a_wait_that_would_be_over_does_not_begin() -> None:
    """A free permit is granted all the same."""
    limiter = RatedLimiter(1, Rates(FakeClock(10.0)))
    assert await limiter.acquire(Priority.CODE, give_up_at=10.0)
    assert not await limiter.acquire(Priority.CODE, give_up_at=10.0)


async def test_who_gave_up_blocks_nobody() -> None:
    """A code gives up, and the event behind it gets the permit that codes do not need."""
    limiter = RatedLimiter(5, Rates(FakeClock(0.0)))
    for _ in range(5):
        await limiter.acquire(Priority.CODE)
    code = asyncio.create_task(limiter.acquire(Priority.CODE, give_up_at=1.0))
    event = asyncio.create_task(limiter.acquire(Priority.EVENT))
    await _settled()
    limiter.end_waits(1.0)
    assert not await code
    limiter.release(Priority.CODE)
    assert await event


async def test_a_connection_too_many_lowers_the_concurrency_for_a_minute() -> None:
    """Seven of ten mails at the same time were refused: three are right."""
    limiter = RatedLimiter(10, Rates(clock := FakeClock()))
    for _ in range(10):
        await limiter.acquire(Priority.CODE)
    assert all(limiter.lower() for _ in range(7))
    for _ in range(7):
        limiter.release(Priority.CODE)
    waiting = asyncio.create_task(limiter.acquire(Priority.CODE))
    await _settled()
    await clock.advance(59)
    limiter.restore(clock.now())
    assert not waiting.done()
    await clock.advance(1)
    limiter.restore(clock.now())
    assert await waiting
    for _ in range(20):
        await clock.advance(60)
        limiter.restore(clock.now())
    assert limiter.total == 10


async def test_the_last_permit_stays() -> None:
    limiter = RatedLimiter(2, Rates(FakeClock()))
    assert [limiter.lower(), limiter.lower(), limiter.total] == [True, False, 1]


async def test_a_code_overtakes_everything_that_waits_for_a_permit() -> None:
    """Equals are served in the order of their requests."""
    limiter, went = RatedLimiter(2, Rates(FakeClock())), []
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
    limiter = RatedLimiter(5, Rates(FakeClock()))
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
    limiter = RatedLimiter(1, Rates(FakeClock()))
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


def _paced(rate: Rate, concurrency: int = 5) -> tuple[RatedLimiter, FakeClock]:
    clock = FakeClock()
    return RatedLimiter(concurrency, Rates(clock, rate=rate)), clock


async def test_permits_wait_for_the_rate_and_codes_go_first() -> None:
    """Each is granted at the moment when the rate allows it."""
    limiter, clock = _paced(Rate(2, 1.0))
    granted: list[tuple[str, float]] = []

    async def run(name: str, priority: Priority) -> None:
        await limiter.acquire(priority)
        granted.append((name, clock.now()))
        limiter.release(priority)

    async with asyncio.TaskGroup() as group:
        for name in ("event 1", "event 2", "event 3", "event 4"):
            group.create_task(run(name, Priority.EVENT))
        await _settled()
        assert [name for name, _ in granted] == ["event 1", "event 2"]
        group.create_task(run("code", Priority.CODE))
        await clock.advance(0.9)
        assert len(granted) == 2
        await clock.advance(0.2)
        assert [name for name, _ in granted[2:]] == ["code", "event 3"]
        assert 1 <= granted[2][1] - START < 1.02
        await clock.advance(1)
    assert granted[4][0] == "event 4"


async def test_a_cancelled_wait_for_the_rate_leaves_no_timer() -> None:
    """Nor does one that was ended."""
    limiter, clock = _paced(Rate(1, 60.0))
    await limiter.acquire(Priority.CODE)
    cancelled, ended = (asyncio.create_task(limiter.acquire(Priority.CODE)) for _ in range(2))
    await _settled()
    assert clock.sleeping == 1
    cancelled.cancel()
    await asyncio.gather(cancelled, return_exceptions=True)
    assert clock.sleeping == 1
    limiter.end_waits()
    assert not await ended
    await _settled()
    assert clock.sleeping == 0


async def test_a_rate_that_keeps_mail_waiting_is_no_provider_that_hangs() -> None:
    limiter, _ = _paced(Rate(1, 60.0), concurrency=1)
    await limiter.acquire(Priority.CODE)
    limiter.release(Priority.CODE)
    waiting = asyncio.create_task(limiter.acquire(Priority.CODE))
    await _settled()
    assert not limiter.is_full
    waiting.cancel()


async def test_a_failed_mail_leaves_its_part_of_the_quota_to_the_next_one() -> None:
    """What is in flight may still be accepted."""
    clock = FakeClock()
    limiter = RatedLimiter(5, Rates(clock, quota=Rate(1, 60.0)))
    await limiter.acquire(Priority.CODE)
    waiting = asyncio.create_task(limiter.acquire(Priority.CODE))
    await _settled()
    assert not waiting.done()
    limiter.release(Priority.CODE)
    assert await waiting


async def test_a_message_that_needs_no_permit_any_more_leaves_the_rate_to_the_next_one() -> None:
    """A code that a newer one has replaced, for one."""
    limiter, clock = _paced(Rate(1, 1.0))
    await limiter.acquire(Priority.CODE)
    replaced = asyncio.create_task(limiter.acquire(Priority.CODE, is_over=lambda: True))
    following = asyncio.create_task(limiter.acquire(Priority.CODE))
    await clock.advance(1.1)
    assert not await replaced
    assert following.done()


async def test_a_closed_limiter_lets_nobody_wait() -> None:
    limiter, _ = _paced(Rate(1, 60.0))
    assert await limiter.acquire(Priority.CODE)
    waiting = asyncio.create_task(limiter.acquire(Priority.CODE))
    await _settled()
    limiter.close()
    assert not await waiting
    assert not await limiter.acquire(Priority.CODE)
