"""An answer leaves in one packet, whatever kind of answer it is. That it arrives, all tests of the doors show."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from uvicorn.server import ServerState

from handlers.whole_answers import WholeAnswers
from tests.handlers.connection import Recording
from tests.handlers.serving import request


async def text(_: Request) -> Response:
    return PlainTextResponse("the body")


async def read(asked: Request) -> Response:
    return PlainTextResponse(await asked.body())


async def stream(_: Request) -> Response:
    async def parts() -> AsyncIterator[str]:
        yield "one"
        await asyncio.sleep(0)
        yield "two"

    return StreamingResponse(parts())


ROUTES = [Route("/", text), Route("/stream", stream), Route("/read", read, methods=["POST"])]


def connected() -> tuple[Recording, WholeAnswers, ServerState]:
    """Return a new connection."""
    config = uvicorn.Config(Starlette(routes=ROUTES), http=WholeAnswers, ws="none", lifespan="off", log_config=None)
    config.load()
    state, transport = ServerState(), Recording()
    protocol = WholeAnswers(config, state, {})
    protocol.connection_made(transport)
    return transport, protocol, state


async def answered(*requests: bytes, hang_up: bool = False) -> Recording:
    """Return what was written to requests over one connection."""
    transport, protocol, state = connected()
    for one in requests:
        protocol.data_received(one)
        if hang_up:
            transport.close()
            protocol.connection_lost(None)
        while state.tasks:
            await asyncio.gather(*state.tasks)
        await asyncio.sleep(0)
    if protocol.timeout_keep_alive_task:
        protocol.timeout_keep_alive_task.cancel()
    return transport


@pytest.mark.parametrize("path", ["/", "/nowhere"])
async def test_head_and_body_are_one_packet(path: str) -> None:
    transport = await answered(request("GET", path))
    (packet,) = transport.writes
    head, _, body = packet.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 ")
    assert body


async def test_each_answer_has_its_own(caplog: pytest.LogCaptureFixture) -> None:
    transport = await answered(request("GET", "/"), request("GET", "/"))
    assert len(transport.writes) == 2
    assert not caplog.records


async def test_an_answer_without_a_body_is_sent() -> None:
    transport = await answered(request("HEAD", "/"))
    (packet,) = transport.writes
    assert packet.endswith(b"\r\n\r\n")


async def test_a_stream_begins_with_its_head() -> None:
    transport = await answered(request("GET", "/stream"))
    assert len(transport.writes) == 3
    assert transport.writes[0].endswith(b"\r\n\r\n3\r\none\r\n")
    assert transport.writes[1:] == [b"3\r\ntwo\r\n", b"0\r\n\r\n"]


async def test_a_client_that_waits_is_told_to_go_on() -> None:
    head = b"POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
    transport, protocol, state = connected()
    protocol.data_received(head)
    for _ in range(5):
        await asyncio.sleep(0)
    assert transport.writes == [b"HTTP/1.1 100 Continue\r\n\r\n"]
    protocol.data_received(b"ok")
    while state.tasks:
        await asyncio.gather(*state.tasks)
    assert len(transport.writes) == 2
    assert transport.writes[1].endswith(b"\r\n\r\nok")


async def test_the_end_of_a_connection_takes_the_answer_along() -> None:
    transport = await answered(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert transport.closed
    (packet,) = transport.writes
    assert packet.endswith(b"the body")


async def test_what_is_no_request_is_answered() -> None:
    transport = await answered(b"nonsense\r\n\r\n")
    assert transport.closed
    (packet,) = transport.writes
    assert packet.startswith(b"HTTP/1.1 400 ")


async def test_nobody_is_answered_who_has_gone() -> None:
    transport = await answered(request("HEAD", "/"), hang_up=True)
    assert not transport.writes
