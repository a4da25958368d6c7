"""Shutting down without losing a request, and the sockets to listen on."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Self

import pytest
from starlette.routing import Router

from handlers import application
from handlers.code_limits import CodeLimits
from handlers.health import Readiness
from handlers.lifecycle import ListenError, Server, Shutdown, adopt_socket, bind_socket
from mailroom.clock import Clock, SystemClock
from mailroom.message import Message
from mailroom.metrics import Metrics
from mailroom.outbox import DedupKey, PutResult
from supervisor import systemd_descriptors
from tests.clock import FakeClock
from tests.handlers.parts import AUTHORIZATION, MemoryParts, settings
from tests.handlers.serving import request
from tests.rendering.samples import make_renderer

EMAIL = request("POST", "/email", body=b'{"to": "ada@example.com"}', authorization=AUTHORIZATION)
LIVEZ = request("GET", "/livez")
ROOT = Path(__file__).parents[2]


class SlowParts(MemoryParts):
    """Stores nothing until `go_on` is set."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.asked = asyncio.Event()
        self.go_on = asyncio.Event()

    async def accept(
        self,
        message: Message,
        *,
        repeat_of: bytes | None = None,
        once: Sequence[DedupKey] = (),
        due_at: float | None = None,
    ) -> PutResult:
        self.asked.set()
        await self.go_on.wait()
        return await super().accept(message, repeat_of=repeat_of, once=once)


@dataclass(slots=True)
class Running:
    """A listener that serves."""

    port: int
    shutdown: Shutdown
    readiness: Readiness
    metrics: Metrics
    parts: SlowParts
    clock: FakeClock
    served: "asyncio.Task[float]"


@asynccontextmanager
async def running(
    clock: Clock | None = None,
    *,
    shutdown_seconds: float = 8,
    finish: Callable[[], Coroutine[Any, Any, None]] | None = None,
) -> AsyncIterator[Running]:
    fake = FakeClock()
    parts = SlowParts(fake)
    parts.go_on.set()
    readiness, metrics, shutdown = Readiness(), Metrics(), Shutdown()
    app = application(
        settings=settings(),
        acceptor=parts,
        outbox=parts.outbox,
        renderer=make_renderer(),
        clock=fake,
        entropy=Random(1).randbytes,
        metrics=metrics,
        readiness=readiness,
        limits=CodeLimits(settings().limits, fake, metrics),
    )
    own = bind_socket("127.0.0.1", 0)
    port = own.getsockname()[1]
    listener = Server(app, readiness=readiness, metrics=metrics, clock=clock or fake)
    served = asyncio.create_task(
        listener.serve_until(shutdown, [own], shutdown_seconds=shutdown_seconds, finish=finish)
    )
    try:
        async with await Connection.open(port) as probe:
            await probe.ask(LIVEZ)
        yield Running(port, shutdown, readiness, metrics, parts, fake, served)
    finally:
        shutdown.request_immediate()
        parts.go_on.set()
        await served


class Connection:
    """One connection, kept alive as long as the server likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, port: int) -> Self:
        """Connect."""
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()
        await self._writer.wait_closed()

    async def ask(self, sent: bytes) -> tuple[int, bytes]:
        """Send a request; return the answer's status and head."""
        self._writer.write(sent)
        return await self.answer()

    async def answer(self) -> tuple[int, bytes]:
        """Read an answer; return its status and head."""
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        length = next(line for line in head.splitlines() if line.startswith(b"content-length:"))
        await self._reader.readexactly(int(length.split(b":")[1]))
        return int(head.split(b" ", 2)[1]), head

    async def is_closed(self) -> bool:
        """Wait for the server to close in an orderly way."""
        return await self._reader.read() == b""


async def _drained(server: Running) -> None:
    """Return when the server drains."""
    while not server.clock.sleeping:  # noqa: ASYNC110 - a clock has no event for this
        await asyncio.sleep(0)


async def test_while_draining_connections_are_accepted_and_every_response_says_close() -> None:
    async with running() as server, await Connection.open(server.port) as kept:
        assert b"connection: close" not in (await kept.ask(EMAIL))[1]
        server.shutdown.request()
        await _drained(server)
        status, head = await kept.ask(EMAIL)
        assert status == 200
        assert b"\r\nconnection: close\r\n" in head
        assert await kept.is_closed()
        for sent, expected in (
            (EMAIL, 200),
            (request("GET", "/readyz"), 503),
            (request("GET", "/livez"), 200),
            (request("GET", "/email"), 405),
            (request("GET", "/nowhere"), 404),
            (request("POST", "/email", body=b"{}"), 401),
            (b"this is no HTTP\r\n\r\n", 400),
        ):
            async with await Connection.open(server.port) as fresh:
                status, head = await fresh.ask(sent)
                assert status == expected
                assert b"\r\nconnection: close\r\n" in head
                assert await fresh.is_closed()
        assert b"mailroom_draining 1.0" in server.metrics.text()


async def test_a_request_that_was_being_served_when_the_drain_began_is_answered() -> None:
    async with running() as server, await Connection.open(server.port) as kept:
        server.parts.asked.clear()
        server.parts.go_on.clear()
        answer = asyncio.create_task(kept.ask(EMAIL))
        await server.parts.asked.wait()
        server.shutdown.request()
        await _drained(server)
        server.parts.go_on.set()
        assert (await answer)[0] == 200


async def test_connections_are_refused_after_six_seconds_which_is_more_than_logtos_five() -> None:
    async with running() as server:
        server.shutdown.request()
        await _drained(server)
        await server.clock.advance(5.9)
        async with await Connection.open(server.port) as fresh:
            assert (await fresh.ask(EMAIL))[0] == 200
        await server.clock.advance(0.2)
        assert await server.served == pytest.approx(8 - 6.1)
        with pytest.raises(ConnectionRefusedError):
            await Connection.open(server.port)


async def test_requests_are_answered_while_deliveries_end() -> None:
    """Otherwise clients would wait for a slow provider until the next process serves."""
    finished = asyncio.Event()

    async def finish() -> None:
        await finished.wait()

    async with running(finish=finish) as server:
        server.shutdown.request()
        await _drained(server)
        await server.clock.advance(6.1)
        async with await Connection.open(server.port) as fresh:
            assert (await fresh.ask(EMAIL))[0] == 200
        finished.set()
        assert await server.served == pytest.approx(8 - 6.1)


async def test_deliveries_that_do_not_end_are_abandoned_a_second_before_the_end() -> None:
    async def finish() -> None:
        await asyncio.Event().wait()

    async with running(finish=finish) as server:
        server.shutdown.request()
        await _drained(server)
        await server.clock.advance(6.9)
        assert not server.served.done()
        await server.clock.advance(0.2)
        await server.served


async def test_a_short_shutdown_timeout_shortens_the_drain() -> None:
    async with running(shutdown_seconds=3) as server:
        server.shutdown.request()
        await _drained(server)
        await server.clock.advance(1.1)
        await server.served


async def test_a_second_request_to_shut_down_after_a_second_ends_it_at_once() -> None:
    async with running() as server:
        server.shutdown.request()
        await _drained(server)
        server.shutdown.request()  # platforms signal every process, and the parent passes it on
        assert not server.shutdown.immediate.is_set()
        server.shutdown._requested_at -= 1
        server.shutdown.request()
        assert await server.served <= 1


async def test_an_immediate_shutdown_skips_the_drain() -> None:
    async with running() as server:
        server.shutdown.request_immediate()
        assert await server.served <= 1


async def test_requests_in_flight_are_answered_before_the_end() -> None:
    async with running() as server, await Connection.open(server.port) as kept:
        server.parts.asked.clear()
        server.parts.go_on.clear()
        answer = asyncio.create_task(kept.ask(EMAIL))
        await server.parts.asked.wait()
        server.shutdown.request()
        await _drained(server)
        await server.clock.advance(6.1)
        assert not server.served.done()
        server.parts.go_on.set()
        assert (await answer)[0] == 200
        await server.served


async def test_a_connection_accepted_last_may_still_send_its_request() -> None:
    """Left alone uvicorn closes a connection without a request, and one that is on its way meets a reset."""
    async with running(SystemClock(), shutdown_seconds=2.2) as server:
        async with await Connection.open(server.port) as last, await Connection.open(server.port) as other:
            await other.ask(LIVEZ)  # so the server has accepted the one before, too
            server.shutdown.request()
            while True:
                try:
                    async with await Connection.open(server.port) as probe:
                        await probe.ask(LIVEZ)
                except ConnectionError:
                    break
            status, head = await last.ask(EMAIL)
            assert status == 200
            assert b"\r\nconnection: close\r\n" in head
        await server.served


async def test_signals_request_a_shutdown() -> None:
    shutdown = Shutdown()
    shutdown.install_signal_handlers()
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        await shutdown.requested.wait()
        assert not shutdown.immediate.is_set()
        shutdown._requested_at -= 1
        os.kill(os.getpid(), signal.SIGTERM)
        await shutdown.immediate.wait()
        other = Shutdown()
        other.install_signal_handlers()
        os.kill(os.getpid(), signal.SIGINT)
        await other.immediate.wait()
        assert other.requested.is_set()
    finally:
        asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)
        asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)


def test_idle_connections_stay_open_well_past_logtos_five_seconds() -> None:
    listener = Server(Router(), readiness=Readiness(), metrics=Metrics(), clock=FakeClock())
    assert listener.config.timeout_keep_alive == 75


def test_an_inherited_socket_is_taken_over() -> None:
    with socket.create_server(("127.0.0.1", 0)) as own, adopt_socket(os.dup(own.fileno())) as adopted:
        assert adopted.getsockname() == own.getsockname()
        assert not adopted.get_inheritable()


@pytest.mark.parametrize("kind", ["closed", "file", "idle", "unix"])
def test_a_descriptor_of_anything_but_a_listening_tcp_socket_is_refused(kind: str, tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file, socket.socket() as idle, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(tmp_path / "unix"))
        unix.listen()
        fd = {"closed": 1_000_000, "file": file.fileno(), "idle": idle.fileno(), "unix": unix.fileno()}[kind]
        with pytest.raises(ListenError, match=r"File descriptor \d+ is not a (listening TCP )?socket"):
            adopt_socket(fd)


def test_systemds_sockets_are_for_the_process_that_they_name() -> None:
    assert systemd_descriptors({"LISTEN_PID": "1", "LISTEN_FDS": "1"}) == []
    assert systemd_descriptors({"LISTEN_FDS": "1"}) == []
    assert systemd_descriptors({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "many"}) == []


def test_systemds_sockets_are_taken_over() -> None:
    script = (
        "import os; from handlers.lifecycle import adopt_socket; from supervisor import systemd_descriptors; "
        "print(adopt_socket(systemd_descriptors(os.environ)[0]).getsockname()[1])"
    )
    with socket.create_server(("127.0.0.1", 0)) as own:
        printed = subprocess.run(
            ["sh", "-c", 'LISTEN_FDS=1 LISTEN_PID=$$ exec "$0" -c "$1" 3<&0', sys.executable, script],
            cwd=ROOT,
            stdin=own.fileno(),
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        assert int(printed) == own.getsockname()[1]


def test_a_port_in_use_is_reported() -> None:
    with socket.create_server(("127.0.0.1", 0)) as own:
        port = own.getsockname()[1]
        with pytest.raises(
            ListenError,
            match=rf"port {port}: Address already in use\. End the program that",
        ):
            bind_socket("127.0.0.1", port)


def test_an_invalid_host_is_reported() -> None:
    with pytest.raises(ListenError, match="Cannot listen on 'no such host'"):
        bind_socket("no such host", 0)
