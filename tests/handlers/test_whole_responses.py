"""A response is written at once, whatever kind it is. The tests of the endpoints show that it arrives."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from uvicorn.server import ServerState

from handlers.connection_table import ConnectionTable
from handlers.http_protocol import BoundedHttpProtocol
from mailroom.metrics import Metrics
from tests.handlers.connection import Recording
from tests.handlers.serving import request


async def text(_: Request) -> Response:
    return PlainTextResponse("the body")


async def read(incoming: Request) -> Response:
    return PlainTextResponse(await incoming.body())


async def stream(_: Request) -> Response:
    async def parts() -> AsyncIterator[str]:
        yield "one"
        await asyncio.sleep(0)
        yield "two"

    return StreamingResponse(parts())


ROUTES = [Route("/", text), Route("/stream", stream), Route("/read", read, methods=["POST"])]


def connected() -> tuple[Recording, BoundedHttpProtocol, ServerState]:
    """Return a new connection."""
    config = uvicorn.Config(Starlette(routes=ROUTES), ws="none", lifespan="off", log_config=None)
    config.load()
    state, transport = ServerState(), Recording()
    table = ConnectionTable(0.0, most=10, metrics=Metrics())
    protocol = BoundedHttpProtocol(table, config=config, server_state=state, app_state={})
    protocol.connection_made(transport)
    return transport, protocol, state


async def written_for(*requests: bytes, hang_up: bool = False) -> Recording:
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
    return transport


@pytest.mark.parametrize("path", ["/", "/nowhere"])
async def test_head_and_body_are_one_write(path: str) -> None:
    transport = await written_for(request("GET", path))
    (packet,) = transport.writes
    head, _, body = packet.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 ")
    assert body


async def test_each_response_is_one_write(caplog: pytest.LogCaptureFixture) -> None:
    transport = await written_for(request("GET", "/"), request("GET", "/"))
    assert len(transport.writes) == 2
    assert not caplog.records


async def test_a_response_without_a_body_is_sent() -> None:
    transport = await written_for(request("HEAD", "/"))
    (packet,) = transport.writes
    assert packet.endswith(b"\r\n\r\n")


async def test_a_stream_begins_with_its_head() -> None:
    transport = await written_for(request("GET", "/stream"))
    assert len(transport.writes) == 3
    assert transport.writes[0].endswith(b"\r\n\r\n3\r\none\r\n")
    assert transport.writes[1:] == [b"3\r\ntwo\r\n", b"0\r\n\r\n"]


async def test_100_continue_is_sent_at_once() -> None:
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


async def test_a_response_that_closes_the_connection_is_sent_before() -> None:
    transport = await written_for(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert transport.closed
    (packet,) = transport.writes
    assert packet.endswith(b"the body")


async def test_invalid_http_is_answered() -> None:
    transport = await written_for(b"nonsense\r\n\r\n")
    assert transport.half_closed
    (packet,) = transport.writes
    assert packet.startswith(b"HTTP/1.1 400 ")


async def test_nothing_is_written_to_a_closed_connection() -> None:
    transport = await written_for(request("HEAD", "/"), hang_up=True)
    assert not transport.writes
