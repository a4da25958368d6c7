"""The outbox is opened as soon as it can be, and what is wrong is logged once a minute."""

import asyncio
from collections.abc import Iterator

import pytest
import structlog.testing

from mailroom.errors import CannotKeep, OutboxError, OutboxInUse, SealBroken
from mailroom.outbox.deferred import UnavailableOutbox, open_with_retry
from tests.clock import FakeClock


class Attempts:
    """Fails as told, then opens."""

    def __init__(self, *failures: Exception) -> None:
        self._failures: Iterator[Exception] = iter(failures)
        self.waits: list[float | None] = []

    async def __call__(self, wait_seconds: float | None) -> str:
        self.waits.append(wait_seconds)
        for failure in self._failures:
            raise failure
        return "open"


async def test_it_is_opened_at_the_first_attempt() -> None:
    attempts, trouble = Attempts(), asyncio.Event()
    assert await open_with_retry(attempts, wait_seconds=12, clock=FakeClock(), in_trouble=trouble.set) == "open"
    assert attempts.waits == [12]
    assert not trouble.is_set()


async def test_trouble_is_told_once_a_minute_until_it_opens() -> None:
    clock, trouble = FakeClock(), asyncio.Event()
    attempts = Attempts(*[OutboxError("the disk is full")] * 40)
    with structlog.testing.capture_logs() as told:
        opening = asyncio.create_task(open_with_retry(attempts, wait_seconds=12, clock=clock, in_trouble=trouble.set))
        await clock.until_asleep()
        assert trouble.is_set()
        assert [line["problem"] for line in told] == ["the disk is full"]
        await clock.advance(59)
        assert len(told) == 1
        await clock.advance(2)
        assert len(told) == 2
        await clock.advance(30)
        assert await opening == "open"
    assert len(told) == 2
    assert {line["log_level"] for line in told} == {"error"}
    assert attempts.waits == [12, *[0.0] * 40]


@pytest.mark.parametrize("failure", [OutboxInUse("by process 7"), SealBroken("no key fits")])
async def test_what_does_not_pass_is_raised(failure: Exception) -> None:
    with pytest.raises(type(failure)):
        await open_with_retry(Attempts(failure), wait_seconds=12, clock=FakeClock(), in_trouble=asyncio.Event().set)


async def test_a_key_that_fits_nothing_is_raised_after_trouble_too() -> None:
    clock = FakeClock()
    attempts = Attempts(OutboxError("damaged"), OutboxInUse("by process 7"), SealBroken("no key fits"))
    opening = asyncio.create_task(
        open_with_retry(attempts, wait_seconds=12, clock=clock, in_trouble=asyncio.Event().set)
    )
    await clock.until_asleep()
    await clock.advance(5)
    with pytest.raises(SealBroken):
        await opening


async def test_until_then_nothing_is_kept() -> None:
    unopened = UnavailableOutbox()
    for call in (unopened.put, unopened.accept, unopened.depth, unopened.captured.newest):
        with pytest.raises(CannotKeep, match="not open yet"):
            await call("whatever", limit=1)
