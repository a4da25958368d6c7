"""Outboxes on PostgreSQL for the tests of this folder."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, Final

import pytest

from mailroom.outbox.postgres.database_pool import Connection
from mailroom.outbox.postgres.postgres_engine import PostgresOutbox
from tests.clock import FakeClock
from tests.postgres_server import PostgresServer

SECRET: Final = "a-secret-key-of-the-tests"
Open = Callable[..., Awaitable[PostgresOutbox]]


def new_url(server: PostgresServer) -> str:
    """Return the URL of an empty database; the one that the test before has used is emptied."""
    server.psql("DROP SCHEMA IF EXISTS mailroom CASCADE")
    return server.dsn()


@pytest.fixture
def url(postgres: PostgresServer) -> str:
    """Return the URL of an empty database."""
    return new_url(postgres)


@pytest.fixture
def clock() -> FakeClock:
    """Return the clock of the outboxes, and of the database."""
    return FakeClock()


@pytest.fixture
async def open_outbox(url: str, clock: FakeClock) -> AsyncIterator[Open]:
    """Open an outbox as a server does; closed at the end."""
    async with AsyncExitStack() as stack:

        async def read_time(_: Connection) -> float:
            return clock.now()

        async def opened(where: str = url, **more: Any) -> PostgresOutbox:
            arguments = {"secret_keys": [SECRET], "clock": clock, "read_time": read_time, **more}
            outbox = await PostgresOutbox.open(where, **arguments)
            stack.push_async_callback(outbox.close)
            return outbox

        yield opened


@pytest.fixture
async def outbox(open_outbox: Open) -> PostgresOutbox:
    """Return an open outbox."""
    return await open_outbox()
