"""Places and turns of a provider, and the codes' share of both."""

import asyncio

from mailroom.courier.limiter import PriorityLimiter
from mailroom.message import Priority


def test_codes_keep_places_when_other_mail_fills_the_lane() -> None:
    """Ten turns make twenty places, of which four are the codes' alone."""
    lane = PriorityLimiter(10)
    others = sum(lane.take(code=False) for _ in range(100))
    codes = sum(lane.take(code=True) for _ in range(100))
    assert (others, codes) == (16, 4)


def test_codes_may_take_every_place() -> None:
    """The share is theirs alone; the rest is for everybody."""
    lane = PriorityLimiter(10)
    assert sum(lane.take(code=True) for _ in range(100)) == 20
    assert not lane.take(code=False)


def test_a_single_turn_is_for_everybody() -> None:
    """With `concurrency = 1` nothing can be reserved, or other mail would never go."""
    lane = PriorityLimiter(1)
    assert lane.take(code=False)
    assert lane.take(code=True)
    assert not lane.take(code=True)


async def test_who_waits_for_a_place_gets_it_codes_first() -> None:
    """And nobody overtakes: what arrives now stands behind what waits."""
    lane = PriorityLimiter(2)
    places = sum(lane.take(code=True) for _ in range(4))
    assert places == 4
    order: list[str] = []

    async def want(name: str, *, code: bool) -> None:
        await lane.place(code=code, patience_seconds=60)
        order.append(name)

    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        for name, code in (("welcome", False), ("code", True), ("another code", True)):
            group.create_task(want(name, code=code))
            await asyncio.sleep(0)
        lane.give_back(code=True)
        assert not lane.take(code=True)
        assert not lane.take(code=False)
        lane.give_back(code=True)
        await asyncio.sleep(0)
        assert order == ["code", "another code"]
        lane.give_back(code=True)
    assert order[2:] == ["welcome"]
    assert lane.free(code=True) == 0


async def test_a_code_does_not_wait_behind_other_mail() -> None:
    """The places that are the codes' alone are free while a welcome wants one of the others."""
    lane = PriorityLimiter(10)
    while lane.take(code=False):
        pass
    waiting = asyncio.create_task(lane.place(code=False, patience_seconds=60))
    await asyncio.sleep(0)
    assert lane.take(code=True)
    async with asyncio.timeout(5):
        await lane.place(code=True, patience_seconds=60)
        lane.give_back(code=False)
        await waiting


async def test_who_gave_up_waiting_has_no_place() -> None:
    """Not even when it came in the very moment."""
    lane = PriorityLimiter(1)
    assert lane.take(code=True)
    assert lane.take(code=True)
    gone, late = (
        asyncio.create_task(lane.place(code=True, patience_seconds=60)),
        asyncio.create_task(lane.place(code=True, patience_seconds=60)),
    )
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.wait([gone])
    lane.give_back(code=True)
    late.cancel()
    await asyncio.wait([late])
    assert lane.free(code=True) == 1
    assert lane.take(code=True)


async def test_patience_ends() -> None:
    """And who had it no longer stands in the way of the others."""
    lane = PriorityLimiter(1)
    assert lane.take(code=True)
    assert lane.take(code=True)
    assert not await lane.place(code=True, patience_seconds=0.001)
    lane.give_back(code=True)
    assert lane.take(code=True)


async def test_what_a_claim_leaves_goes_to_who_waits() -> None:
    """The loan was all there was."""
    lane = PriorityLimiter(1)
    lane.lend(most=2)
    waiting = asyncio.create_task(lane.place(code=True, patience_seconds=60))
    await asyncio.sleep(0)
    assert not waiting.done()
    lane.take_back(codes=1, others=0)
    async with asyncio.timeout(5):
        await waiting
    assert lane.free(code=True) == 0


def test_what_a_claim_does_not_spend_is_given_back() -> None:
    """And what it spends is the messages' until they give it back."""
    lane = PriorityLimiter(10)
    loan = lane.lend(most=6)
    assert lane.free(code=True) == 14
    assert loan.spend(code=True)
    assert loan.spend(code=False)
    lane.take_back(codes=1, others=1)
    assert lane.free(code=True) == 18
    lane.give_back(code=True)
    lane.give_back(code=False)
    assert (lane.free(code=True), lane.free(code=False)) == (20, 16)


def test_a_claim_that_failed_has_spent_nothing() -> None:
    """Its transaction was rolled back, perhaps after the places had been spent, perhaps twice."""
    lane = PriorityLimiter(10)
    loan = lane.lend(most=6)
    assert loan.spend(code=True)
    assert loan.spend(code=False)
    lane.take_back(codes=0, others=0)
    assert (lane.free(code=True), lane.free(code=False)) == (20, 16)


def test_a_loan_keeps_the_codes_share() -> None:
    """A claim full of welcomes leaves the codes' places alone."""
    loan = PriorityLimiter(10).lend(most=100)
    assert sum(loan.spend(code=False) for _ in range(100)) == 16
    assert sum(loan.spend(code=True) for _ in range(100)) == 4


async def test_a_code_overtakes_everything_that_waits_for_a_turn() -> None:
    """Whoever asked first goes first among equals."""
    lane, went = PriorityLimiter(2), []
    leave = asyncio.Event()

    async def run(name: str, priority: Priority) -> None:
        async with lane.turn(priority):
            went.append(name)
            await leave.wait()

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


async def test_other_mail_never_holds_the_codes_turn() -> None:
    """Of five turns one waits for a code."""
    lane = PriorityLimiter(5)
    leave = asyncio.Event()
    running = 0

    async def run(priority: Priority) -> None:
        nonlocal running
        async with lane.turn(priority):
            running += 1
            await leave.wait()

    async with asyncio.TaskGroup() as group:
        for _ in range(9):
            group.create_task(run(Priority.EVENT))
        await _settled()
        assert running == 4
        group.create_task(run(Priority.CODE))
        await _settled()
        assert running == 5
        leave.set()


async def test_giving_up_the_wait_loses_no_turn() -> None:
    """Neither while waiting nor in the very moment in which the turn comes."""
    lane = PriorityLimiter(1)
    first, second, third = (lane.turn(Priority.CODE) for _ in range(3))
    await first.__aenter__()
    waiting = asyncio.create_task(second.__aenter__())
    last = asyncio.create_task(third.__aenter__())
    await _settled()
    await first.__aexit__(None, None, None)  # the turn is the second's now
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await last
    await third.__aexit__(None, None, None)
    async with lane.turn(Priority.CODE):
        pass


async def _settled() -> None:
    """Let every task run until it waits."""
    for _ in range(10):
        await asyncio.sleep(0)
