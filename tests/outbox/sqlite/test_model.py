"""The model test, on SQLite, with what may happen to its files."""

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis.stateful import rule

from mailroom.errors import CannotKeep
from mailroom.outbox.sqlite.engine import SqliteOutbox
from tests.outbox.contract import message
from tests.outbox.model import OutboxModel


class SqliteModel(OutboxModel):
    """The model, and SQLite's files."""

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        super().__init__()

    def _open(self) -> Any:
        path = Path(self.folder.name) / "mailroom.db"
        return self._run(SqliteOutbox.open(path, secret_keys=["x"], clock=self.clock, wait_seconds=0))

    def _count(self) -> tuple[int, int]:
        sql = "SELECT count(*) FILTER (WHERE sealed IS NULL), count(rendered) FROM messages"
        [(unsealed, rendered)] = self._run(self.outbox._reader.rows(sql))
        return unsealed, rendered

    def teardown(self) -> None:
        """Close everything."""
        super().teardown()
        self.folder.cleanup()

    @rule()
    def truncate_log(self) -> None:
        """Empty SQLite's log; nothing else changes."""
        assert self._run(self.outbox.truncate_log())

    @rule()
    def lose_log(self) -> None:
        """Delete SQLite's log; the next commit saves its content."""
        log = Path(self.folder.name) / "mailroom.db-wal"
        log.unlink(missing_ok=True)
        self._run(self.outbox.index(limit=1))

    @rule()
    def lose_database(self) -> None:
        """Move the database away and back; in between nothing is stored."""
        database = Path(self.folder.name) / "mailroom.db"
        away = database.rename(database.with_name("away"))
        try:
            self._run(self.outbox.put(message(self.clock.now())))
        except CannotKeep:
            away.rename(database)
        else:
            raise AssertionError("it was kept where nobody finds it")


TestSqliteModel = SqliteModel.TestCase
TestSqliteModel.settings = settings(max_examples=25, stateful_step_count=25, deadline=None, derandomize=True)
