"""Reading a body that comes late, in pieces, or never."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from handlers import request_body
from handlers.responses import RequestError

Event = dict[str, Any]


def _receive(*events: Event, late: bool = False) -> Callable[[], Awaitable[Event]]:
    """Give these events, each only after a turn of the loop if late; then nothing for ever."""
    left = list(events)

    async def receive() -> Event:
        if late:
            await asyncio.sleep(0)
        if not left:
            await asyncio.Event().wait()
        return left.pop(0)

    return receive


def _part(body: bytes, *, more: bool = False) -> Event:
    return {"type": "http.request", "body": body, "more_body": more}


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give nobody any time."""
    monkeypatch.setattr(request_body, "_SECONDS", 0.0)


async def test_what_is_there_already_costs_no_timer(impatient: None) -> None:
    assert await request_body.body([], _receive(_part(b"whole"))) == b"whole"


@pytest.mark.parametrize("late", [False, True])
async def test_what_comes_late_or_in_pieces_is_put_together(late: bool) -> None:  # noqa: FBT001 - a parameter of pytest
    assert await request_body.body([], _receive(_part(b"a", more=True), _part(b"b"), late=late)) == b"ab"
    assert await request_body.body([], _receive(_part(b"whole"), late=late)) == b"whole"


@pytest.mark.parametrize("events", [[], [_part(b"a", more=True)]])
async def test_what_does_not_come_in_time_is_a_408(impatient: None, events: list[Event]) -> None:
    with pytest.raises(RequestError) as refused:
        await request_body.body([], _receive(*events))
    assert refused.value.refusal.status == 408


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("events", [[], [_part(b"a", more=True)]])
async def test_who_goes_away_is_not_answered(events: list[Event], late: bool) -> None:  # noqa: FBT001 - a parameter of pytest
    with pytest.raises(request_body.Disconnected):
        await request_body.body([], _receive(*events, {"type": "http.disconnect"}, late=late))


async def test_a_reader_that_is_cancelled_leaves_nothing_running() -> None:
    """Closing what was begun by hand is ours to do."""
    ended = asyncio.Event()

    async def receive() -> Event:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return _part(b"")

    task = asyncio.create_task(request_body.body([], receive))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


@pytest.mark.parametrize("length", [b"1048577", b"9" * 5000])
async def test_an_announced_length_is_believed_before_reading(impatient: None, length: bytes) -> None:
    with pytest.raises(RequestError) as refused:
        await request_body.body([(b"content-length", length)], _receive())
    assert refused.value.refusal.status == 413


@pytest.mark.parametrize("length", [b"", b"-1", b"1e9", "²".encode(), b"many"])
async def test_a_length_that_is_no_number_is_not_believed(length: bytes) -> None:
    assert await request_body.body([(b"content-length", length)], _receive(_part(b"whole"))) == b"whole"


async def test_what_is_too_large_in_pieces_is_counted(impatient: None) -> None:
    pieces = [_part(b"x" * 400_000, more=True)] * 2
    with pytest.raises(RequestError) as refused:
        await request_body._rest(_part(b"x" * 400_000, more=True), _receive(*pieces))
    assert refused.value.refusal.status == 413


async def test_an_unwanted_body_is_read_up_to_a_bound() -> None:
    count = 0

    async def receive() -> Event:
        nonlocal count
        count += 1
        return _part(b"x" * 65536, more=True)

    await request_body.discard(receive)
    assert count == 65


async def test_an_unwanted_body_that_never_ends_is_not_waited_for(impatient: None) -> None:
    await request_body.discard(_receive())
