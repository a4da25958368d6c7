"""The outbox on SQLite: the contract, and what is its own."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mailroom.outbox.sqlite import SqliteOutbox
from tests.clock import FakeClock
from tests.outbox.contract import OutboxContract

SECRET = "a-secret-key-of-the-tests"


class TestContract(OutboxContract):
    """What every outbox promises."""

    @pytest.fixture
    async def outbox(self, tmp_path: Path, clock: FakeClock) -> AsyncIterator[SqliteOutbox]:
        """Open a new file."""
        outbox = await SqliteOutbox.open(tmp_path / "mailroom.db", secret_keys=[SECRET], clock=clock)
        yield outbox
        await outbox.close()
