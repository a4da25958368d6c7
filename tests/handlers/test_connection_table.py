"""Which connections are evicted when there are too many, and how that is reported."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest
from starlette.routing import Router
from structlog.testing import capture_logs

from handlers.connection_table import MOST_CONNECTIONS, ConnectionTable, connection_limit
from handlers.health import Readiness
from handlers.lifecycle import Server
from mailroom.metrics import Metrics
from tests.clock import FakeClock
from tests.handlers.connection import Connected

ROOT = Path(__file__).parents[2]
GET = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n"


def full_server(count: int) -> list[Connected]:
    """Return the connections of a server that accepts no more."""
    first = Connected()
    others = [Connected(first) for _ in range(count - 1)]
    first.table._most = count
    return [first, *others]


def evicted(connections: list[Connected]) -> list[int]:
    """Return which of them were ended, and report that to the protocol as the transport would."""
    ended = [number for number, connection in enumerate(connections) if connection.transport.closed]
    for number in ended:
        if connections[number].protocol in connections[0].state.connections:
            connections[number].lose()
    return ended


async def test_a_connection_idle_for_more_than_six_seconds_is_evicted_first() -> None:
    """Logto closes a connection that it has not used for 5 s."""
    connections = full_server(4)
    await connections[1].send(b"GET /")
    await connections[2].send(GET)
    connections[0].pass_seconds(1)
    await connections[3].send(GET)
    connections[0].pass_seconds(6)
    newcomer = Connected(connections[0])
    assert evicted(connections) == [2]
    assert connections[2].statuses == [200]
    assert not newcomer.end()


async def test_then_the_oldest_incomplete_head_then_the_oldest_idle_one() -> None:
    connections = full_server(4)
    for number in (2, 3):
        await connections[number].send(GET)
    await connections[1].send(b"GET /")
    connections[0].pass_seconds(5)
    newcomers = [Connected(connections[0])]
    assert evicted(connections) == [0]
    assert connections[0].written == b""
    newcomers.append(Connected(connections[0]))
    assert evicted(connections) == [0, 1]
    assert connections[1].statuses == [503]
    for newcomer in newcomers:
        await newcomer.send(GET)
    newcomers.append(Connected(connections[0]))
    assert evicted(connections) == [0, 1, 2]
    assert not any(newcomer.end() for newcomer in newcomers)


async def test_a_new_connection_is_spared_as_long_as_others_idle() -> None:
    """Its head is on the way. Found when many idle connections left one place for all new ones."""
    connections = full_server(8)
    for connection in connections[:7]:
        await connection.send(GET)
    connections[7].pass_seconds(1)
    connections[7].protocol.evict()
    connections[7].lose()
    honest, newcomer = Connected(connections[0]), Connected(connections[0])
    assert evicted(connections) == [0, 7]
    await honest.send(GET)
    assert honest.statuses == [200]
    assert not newcomer.end()


async def test_then_bodies_and_never_what_is_being_served() -> None:
    connections = full_server(2)
    connections[0].app.may_respond.clear()
    await connections[0].send(POST)
    await connections[1].send(GET)
    newcomer = Connected(connections[0])
    assert evicted(connections) == [0]
    assert connections[0].statuses == [503]
    await newcomer.send(GET)
    another = Connected(connections[0])
    assert another.statuses == [503]
    assert another.end() == "closed"
    another.lose()
    connections[0].app.may_respond.set()
    await newcomer.settle()
    assert [connection.statuses for connection in (connections[1], newcomer)] == [[200], [200]]


async def test_a_refused_connection_is_evicted_when_there_are_too_many() -> None:
    connections = full_server(2)
    await connections[0].send(b"nonsense\r\n\r\n")
    connections[0].pass_seconds(1)
    await connections[1].send(GET)
    Connected(connections[0])
    assert connections[0].end() == "aborted"
    assert not connections[1].end()


async def test_evictions_are_counted_and_logged_once_a_minute() -> None:
    connections = full_server(3)
    with capture_logs() as lines:
        for _ in range(5):
            connections.append(Connected(connections[0]))
            evicted(connections)
        connections[0].pass_seconds(1)
        assert [(line["event"], line["count"], line["most"]) for line in lines] == [("connections.evicted", 5, 3)]
        connections.append(Connected(connections[0]))
        evicted(connections)
        connections[0].pass_seconds(59)
        assert len(lines) == 1
        connections[0].pass_seconds(1)
        assert [line["count"] for line in lines] == [5, 1]
    text = connections[0].metrics.text()
    assert b'mailroom_connections_evicted_total{reason="descriptors"} 6.0' in text


@pytest.mark.parametrize(
    ("limits", "most"),
    [((256, 1024), 768), ((128, 128), 96), ((1024, 1_000_000), MOST_CONNECTIONS), ((64, -1), 48), ((-1, -1), 4096)],
)
def test_the_limit_of_open_files_is_raised_and_some_are_reserved(
    limits: tuple[int, int], most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """-1 is unlimited; where the system refuses that (macOS), the limit is unchanged."""
    current = limits

    def set_limits(_: int, wanted: tuple[int, int]) -> None:
        nonlocal current
        if wanted[0] == resource.RLIM_INFINITY:
            raise ValueError
        current = wanted

    monkeypatch.setattr(resource, "getrlimit", lambda _: current)
    monkeypatch.setattr(resource, "setrlimit", set_limits)
    assert connection_limit() == most


def test_a_real_process_raises_its_soft_limit() -> None:
    script = (
        "import resource; from handlers.connection_table import connection_limit;"
        "print(connection_limit(), *resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    shell = 'ulimit -Sn 200; ulimit -Hn 512; exec "$0" -c "$1"'
    done = subprocess.run(["sh", "-c", shell, sys.executable, script], cwd=ROOT, capture_output=True, check=True)
    assert done.stdout.split() == [b"384", b"512", b"512"]


async def test_uvicorns_tick_sweeps() -> None:
    clock = FakeClock()
    listener = Server(Router(), readiness=Readiness(), metrics=Metrics(), clock=clock)
    began = listener._connections.now
    await clock.advance(0.5)
    await listener.on_tick(1)
    assert listener._connections.now == began + 0.5


def test_a_full_table_without_an_evictable_connection_has_no_room() -> None:
    table = ConnectionTable(0.0, most=1, metrics=Metrics())
    assert table.make_room(0)
    assert not table.make_room(1)
