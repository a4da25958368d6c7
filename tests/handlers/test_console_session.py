"""Guessing the console's password is slow."""

import asyncio
from urllib.parse import quote

import pytest
from starlette.requests import Request

from handlers.console.session import Session
from tests.clock import FakeClock, settle
from tests.handlers.parts import settings

PASSWORD = "correct horse"


def _form(content: bytes) -> Request:
    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": content}

    return Request({"type": "http", "method": "POST", "headers": []}, receive)


async def _guess(session: Session, password: str) -> bool:
    return await session.accepts(_form(f"password={quote(password)}".encode()))


async def test_the_right_password_is_taken_at_once() -> None:
    assert await _guess(Session(settings(console={"password": PASSWORD}), FakeClock()), PASSWORD)


@pytest.mark.parametrize(
    "content", [b"", b"password=", b"password=correct", b"a=1&a=1&a=1&a=1&a=1", b"\xff\xfe", b"x" * 2_000_000]
)
async def test_what_is_not_the_password_is_refused(content: bytes) -> None:
    clock = FakeClock()
    guess = asyncio.create_task(Session(settings(console={"password": PASSWORD}), clock).accepts(_form(content)))
    await clock.advance(1)
    assert not await guess


async def test_four_wrong_guesses_a_second_are_answered_whoever_asks() -> None:
    clock = FakeClock()
    session = Session(settings(console={"password": PASSWORD}), clock)
    guesses = [asyncio.create_task(_guess(session, str(number))) for number in range(9)]
    await settle()
    assert sum(guess.done() for guess in guesses) == 0
    for answered in (4, 8, 9):
        await clock.advance(1)
        assert sum(guess.done() for guess in guesses) == answered
