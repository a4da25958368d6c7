"""Tests of opening the outbox with retries: problems are logged once a minute."""

import asyncio
from collections.abc import Iterator

import pytest
import structlog.testing

from mailroom.errors import CannotKeep, OutboxError, OutboxInUse, SealBroken
from mailroom.outbox.deferred import UnavailableOutbox, open_with_retry
from tests.clock import FakeClock


class Attempts:
    """Raises these errors, then returns."""

    def __init__(self, *failures: Exception) -> None:
        self._failures: Iterator[Exception] = iter(failures)
        self.waits: list[float | None] = []

    async def __call__(self, wait_seconds: float | None) -> str:
        self.waits.append(wait_seconds)
        for failure in self._failures:
            raise failure
        return "open"


async def test_the_outbox_is_opened_at_the_first_attempt() -> None:
    attempts, trouble = Attempts(), asyncio.Event()
    assert await open_with_retry(attempts, wait_seconds=12, clock=FakeClock(), in_trouble=trouble.set) == "open"
    assert attempts.waits == [12]
    assert not trouble.is_set()


async def test_the_problem_is_logged_once_a_minute_until_the_outbox_opens() -> None:
    clock, trouble = FakeClock(), asyncio.Event()
    attempts = Attempts(*[OutboxError("the disk is full")] * 40)
    with structlog.testing.capture_logs() as lines:
        opening = asyncio.create_task(open_with_retry(attempts, wait_seconds=12, clock=clock, in_trouble=trouble.set))
        await clock.until_asleep()
        assert trouble.is_set()
        assert [line["problem"] for line in lines] == ["the disk is full"]
        await clock.advance(59)
        assert len(lines) == 1
        await clock.advance(2)
        assert len(lines) == 2
        await clock.advance(30)
        assert await opening == "open"
    assert len(lines) == 2
    assert {line["log_level"] for line in lines} == {"error"}
    assert attempts.waits == [12, *[0.0] * 40]


@pytest.mark.parametrize("failure", [OutboxInUse("by process 7"), SealBroken("no key fits")])
async def test_errors_that_do_not_go_away_are_raised(failure: Exception) -> None:
    with pytest.raises(type(failure)):
        await open_with_retry(Attempts(failure), wait_seconds=12, clock=FakeClock(), in_trouble=asyncio.Event().set)


async def test_a_wrong_secret_key_is_raised_after_retries_too() -> None:
    clock = FakeClock()
    attempts = Attempts(OutboxError("damaged"), OutboxInUse("by process 7"), SealBroken("no key fits"))
    opening = asyncio.create_task(
        open_with_retry(attempts, wait_seconds=12, clock=clock, in_trouble=asyncio.Event().set)
    )
    await clock.until_asleep()
    await clock.advance(5)
    with pytest.raises(SealBroken):
        await opening


async def test_an_unavailable_outbox_raises_cannot_keep() -> None:
    unopened = UnavailableOutbox()
    for call in (unopened.put, unopened.accept, unopened.depth, unopened.captured.newest, unopened.secrets.get):
        with pytest.raises(CannotKeep, match="not open yet"):
            await call("whatever", limit=1)
