"""Operations of one kind share transactions, of which a few run at the same time."""

import asyncio
from collections.abc import Sequence

import pytest

from mailroom.errors import CannotKeep
from mailroom.outbox.postgres.batches import Batches
from mailroom.outbox.postgres.postgres_engine import PostgresOutbox
from tests.clock import settle
from tests.outbox.contract import message
from tests.outbox.postgres.conftest import Open


class _Transactions:
    """Each lasts until the test ends it."""

    def __init__(self) -> None:
        self.begun: list[Sequence[int]] = []
        self.ends: list[asyncio.Event] = []

    async def run(self, arguments: Sequence[int]) -> list[int]:
        end = asyncio.Event()
        self.ends.append(end)
        self.begun.append(arguments)
        await end.wait()
        return [-argument for argument in arguments]


@pytest.mark.parametrize(("waiting", "at_once", "beside"), [(20, 2, [20]), (20, 1, []), (5, 2, [])])
async def test_another_batch_runs_beside_the_first_if_enough_operations_wait(
    waiting: int, at_once: int, beside: list[int]
) -> None:
    transactions = _Transactions()
    batches = Batches(transactions.run, at_once=at_once)
    first = [asyncio.create_task(batches.run(number)) for number in range(1, 4)]
    await settle()
    later = [asyncio.create_task(batches.run(number)) for number in range(4, 4 + waiting)]
    await settle()
    assert [len(batch) for batch in transactions.begun] == [3, *beside]
    transactions.ends[0].set()
    assert await asyncio.gather(*first) == [-1, -2, -3]
    await settle()
    assert [len(batch) for batch in transactions.begun] == [3, waiting]
    transactions.ends[1].set()
    assert await asyncio.gather(*later) == [-number for number in range(4, 4 + waiting)]


async def test_closing_finishes_all_batches() -> None:
    transactions = _Transactions()
    batches = Batches(transactions.run, at_once=2)
    running = [asyncio.create_task(batches.run(number)) for number in range(40)]
    await settle()
    running += [asyncio.create_task(batches.run(number)) for number in range(40, 80)]
    await settle()
    closing = asyncio.create_task(batches.close())
    for end in transactions.ends:
        await settle()
        assert not closing.done()
        end.set()
    await closing
    assert await asyncio.gather(*running) == [-number for number in range(80)]


async def test_an_operation_that_comes_as_a_batch_ends_is_not_left_waiting() -> None:
    transactions = _Transactions()
    batches = Batches(transactions.run)
    for number in range(5):
        running = asyncio.create_task(batches.run(number))
        await settle()
        transactions.ends[-1].set()
        async with asyncio.timeout(5):
            assert await running == -number  # and the next one comes before anything else runs


async def test_puts_beside_each_other_store_each_body_once(open_outbox: Open) -> None:
    """Two processes, each with two transactions of puts, which have bodies and recipients in common."""
    outboxes = await open_outbox(), await open_outbox()

    async def put(outbox: PostgresOutbox, number: int) -> bool:
        one = message(recipient=f"user{number % 40}@example.com")
        return (await outbox.put(one, repeat_of=str(number % 150).encode())).fresh

    fresh = await asyncio.gather(*(put(outboxes[number % 2], number) for number in range(600)))
    assert sum(fresh) == 150
    assert len(await outboxes[0].find(limit=1000)) == 150


async def test_an_operation_that_waits_too_long_is_given_up() -> None:
    """Its transaction goes on, and the next operations do; those that have come later have as long."""
    transactions = _Transactions()
    batches = Batches(transactions.run, seconds=1.0)
    first = [asyncio.create_task(batches.run(number)) for number in (1, 2)]
    await settle()
    unbegun = asyncio.create_task(batches.run(3))
    for refused in (*first, unbegun):
        with pytest.raises(CannotKeep, match="within 1 s"):
            await refused
    later = asyncio.create_task(batches.run(4))
    await settle()
    transactions.ends[0].set()
    await settle()
    transactions.ends[1].set()
    assert await later == -4
    assert transactions.begun == [[1, 2], [4]]
    await batches.close()
