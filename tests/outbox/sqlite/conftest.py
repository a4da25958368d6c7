"""Outboxes on SQLite for the tests of this folder."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import pytest

from mailroom.outbox.sqlite import database
from mailroom.outbox.sqlite.database import SCHEMA
from mailroom.outbox.sqlite.engine import SqliteOutbox
from tests.clock import FakeClock

SECRET: Final = "a-secret-key-of-the-tests"
Open = Callable[..., Awaitable[SqliteOutbox]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the outbox's path; no file exists yet."""
    return tmp_path / "data" / "mailroom.db"


@pytest.fixture
def clock() -> FakeClock:
    """Return the clock of the outboxes."""
    return FakeClock()


@pytest.fixture
async def open_outbox(path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Open]:
    """Open an outbox as a server does; closed at the end."""
    async with AsyncExitStack() as stack:

        async def opened(schema: Path = SCHEMA, **more: Any) -> SqliteOutbox:
            monkeypatch.setattr(database, "SCHEMA", schema)
            outbox = await SqliteOutbox.open(
                path, **{"secret_keys": [SECRET], "clock": clock, "wait_seconds": 0, **more}
            )
            stack.push_async_callback(outbox.close)
            return outbox

        yield opened


@pytest.fixture
async def outbox(open_outbox: Open) -> SqliteOutbox:
    """Return an open outbox."""
    return await open_outbox()
