"""A shutdown takes at most `shutdown_timeout`, whatever is connected."""

import asyncio
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailroom.clock import SystemClock
from tests.e2e.harness import AUTHORIZATION, Server, configuration

CONNECTIONS = 1000
SHUTDOWN_SECONDS = 3.0
GRACE_SECONDS = 2.0
"""For the interpreter to end on a busy machine. Waiting for a client would take 10 s, the limit of a head or body."""

CAPTURE = 'type = "capture"'
HEAD = f"POST /email HTTP/1.1\r\nhost: mailroom\r\nauthorization: {AUTHORIZATION}\r\ncontent-length: 1000\r\n\r\n"
SENT = {
    "nothing": b"",
    "half a head": HEAD.encode()[:40],
    "half a body": HEAD.encode() + b'{"to": ',
    "a whole request": b"GET /livez HTTP/1.1\r\nhost: mailroom\r\n\r\n",
}


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """Give this process, and the server that it starts, enough of them."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize("sent", SENT)
async def test_a_thousand_connections_do_not_lengthen_the_shutdown(
    tmp_path: Path, many_descriptors: None, sent: str, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = SystemClock()
    settings = f'shutdown_timeout = "{SHUTDOWN_SECONDS:.0f}s"\n{configuration(CAPTURE)}'
    async with Server(tmp_path, settings) as server:
        writers = []
        for _ in range(CONNECTIONS):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(SENT[sent])
            if SENT[sent].endswith(b"\r\n\r\n"):
                await reader.readuntil(b"alive\n")
            writers.append(writer)
        began = clock.monotonic()
        await server.stop()
        took = clock.monotonic() - began
        with capsys.disabled():
            print(f"\n{CONNECTIONS} connections that sent {sent}: ended after {took:.2f} s")  # noqa: T201 - a figure
        for writer in writers:
            writer.transport.abort()
    assert took <= SHUTDOWN_SECONDS + GRACE_SECONDS
