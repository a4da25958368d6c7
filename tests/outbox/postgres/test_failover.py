"""A synchronous standby is promoted under load: what was acknowledged by the primary is there."""

import asyncio
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailroom.clock import SystemClock
from mailroom.errors import CannotKeep
from mailroom.message import State
from mailroom.outbox import Lease, Settlement
from mailroom.outbox.postgres.postgres_engine import PostgresOutbox
from tests.outbox.contract import message
from tests.outbox.postgres.conftest import SECRET
from tests.postgres_server import PostgresServer

_WITHIN = 3.5
"""Seconds; 2 by the outbox, the rest for a busy machine."""


@pytest.fixture
def pair() -> Iterator[tuple[PostgresServer, PostgresServer]]:
    """Return a primary and its synchronous standby, both running."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        primary = PostgresServer.create(folder)
        primary.start()
        standby = primary.clone(folder)
        standby.start()
        primary.psql("ALTER SYSTEM SET synchronous_standby_names = '*'")
        primary.psql("SELECT pg_reload_conf()")
        yield primary, standby
        for server in (primary, standby):
            if server.is_running():
                server.stop("immediate")


async def test_a_failover_to_a_synchronous_standby_loses_nothing(pair: tuple[PostgresServer, PostgresServer]) -> None:
    """Both hosts are in the URL. Each put is stored or refused in a bounded time; outcomes are as recorded."""
    primary, standby = pair
    url = f"postgresql://postgres@127.0.0.1:{primary.port},127.0.0.1:{standby.port}/postgres"
    clock = SystemClock()
    outbox = await PostgresOutbox.open(url, secret_keys=[SECRET], clock=clock)
    acknowledged, sent, longest = set[str](), set[str](), 0.0
    stored_after, ended = asyncio.Event(), asyncio.Event()
    is_promoted = False

    async def write() -> None:
        nonlocal longest
        while not ended.is_set():
            one, began = message(clock.now()), time.monotonic()
            try:
                await outbox.put(one, lease=Lease("main", 300))
                acknowledged.add(one.id)
                if is_promoted:
                    stored_after.set()
                if (await outbox.settle(Settlement(one.id, State.SENT, ()))).is_recorded:
                    sent.add(one.id)
            except CannotKeep:
                await asyncio.sleep(0.01)  # as a client that tries again
            longest = max(longest, time.monotonic() - began)

    writers = [asyncio.create_task(write()) for _ in range(8)]
    while len(sent) < 100:  # noqa: ASYNC110 - the writers have no event for it
        await asyncio.sleep(0.01)
    await asyncio.to_thread(primary.stop, "immediate")
    await asyncio.to_thread(standby.promote)
    is_promoted = True
    await asyncio.wait_for(stored_after.wait(), 20)
    ended.set()
    await asyncio.gather(*writers)
    states = {record.id: record.state for record in await outbox.find(limit=100_000)}
    assert acknowledged <= set(states)
    assert {id_ for id_ in sent if states[id_] is not State.SENT} == set()
    assert longest < 2 * _WITHIN  # a put and an outcome
    await outbox.close()
