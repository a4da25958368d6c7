"""Reading a body that arrives in pieces, or never completely; parsing it."""

import asyncio
from typing import Any

import pytest
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive

from handlers import request_body
from handlers.responses import ErrorResponse, RequestError

REFUSAL = ErrorResponse(408, "Too slow.")


def _receive(*messages: Message, late: bool = False) -> Receive:
    """Return these messages, each after an iteration of the loop if late; then nothing for ever."""
    left = list(messages)

    async def receive() -> Message:
        if late:
            await asyncio.sleep(0)
        if not left:
            await asyncio.Event().wait()
        return left.pop(0)

    return receive


def _scope(**more: Any) -> dict[str, Any]:
    return {"headers": [], **more}


def _part(body: bytes, *, more: bool = False) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


DISCONNECT = {"type": "http.disconnect"}


@pytest.mark.parametrize("late", [False, True])
async def test_pieces_are_joined(late: bool) -> None:  # noqa: FBT001 - a parameter of pytest
    assert await request_body.body(_scope(), _receive(_part(b"a", more=True), _part(b"b"), late=late)) == b"ab"
    assert await request_body.body(_scope(), _receive(_part(b"whole"), late=late)) == b"whole"


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("messages", [[], [_part(b"a", more=True)]])
async def test_a_client_that_disconnects_gets_no_response(messages: list[Message], late: bool) -> None:  # noqa: FBT001 - a parameter of pytest
    with pytest.raises(ClientDisconnect):
        await request_body.body(_scope(), _receive(*messages, DISCONNECT, late=late))


@pytest.mark.parametrize("messages", [[], [_part(b"a", more=True)]])
async def test_a_body_that_the_connection_refused_is_that_error(messages: list[Message]) -> None:
    """The connection has responded already; the endpoint logs and counts it."""
    with pytest.raises(RequestError) as raised:
        await request_body.body(_scope(**{request_body.REFUSAL: REFUSAL}), _receive(*messages, DISCONNECT))
    assert raised.value.response is REFUSAL


@pytest.mark.parametrize("length", [b"1048577", b"9" * 5000])
async def test_a_content_length_that_is_too_large_is_refused_before_reading(length: bytes) -> None:
    with pytest.raises(RequestError) as raised:
        await request_body.body({"headers": [(b"content-length", length)]}, _receive())
    assert raised.value.response.status == 413


@pytest.mark.parametrize("length", [b"", b"-1", b"1e9", "²".encode(), b"many"])
async def test_a_content_length_that_is_not_a_number_is_ignored(length: bytes) -> None:
    scope = {"headers": [(b"content-length", length)]}
    assert await request_body.body(scope, _receive(_part(b"whole"))) == b"whole"


async def test_a_body_that_is_too_large_in_pieces_is_refused_without_reading_the_rest() -> None:
    with pytest.raises(RequestError) as raised:
        await request_body.body(_scope(), _receive(*[_part(b"x" * 400_000, more=True)] * 3))
    assert raised.value.response.status == 413
