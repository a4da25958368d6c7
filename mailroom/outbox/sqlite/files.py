"""Detects that the outbox's files were deleted, moved or replaced while they are open, and recovers.

SQLite goes on writing to an open file that the next start will not find: the commit succeeds and is lost.
So `verify` is called after each commit, before its callers get their results.

- The log is missing: its content is written to the database, and a new log is created. Nothing is lost.
- The database is missing: new messages are refused. Messages accepted before are still sent from the open file.
  When the file is back at its path, it is used as before.
- Another file is at the path: if it is a copy of this outbox, unsettled messages are copied to it, and it is used
  from then on. Any other file is left alone, and new messages are refused.
"""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

import apsw
import msgspec
import structlog

from mailroom.errors import OutboxError
from mailroom.outbox.sqlite.database import Connection, connect, rows_of, truncate_log

_COLUMNS: Final = "SELECT name FROM pragma_table_info('messages') WHERE name <> 'number'"
_UNSETTLED: Final = "SELECT id FROM messages WHERE due_at IS NOT NULL"

log = structlog.get_logger()


class Files:
    """The writing connection to the database at `path`. Used by one thread.

    `admit` is called before a file is opened: it raises OutboxError unless that is our outbox, and locked by us.
    """

    def __init__(
        self, path: Path, connection: Connection | None = None, *, admit: Callable[[], None] = lambda: None
    ) -> None:
        self._path = path
        self._admit = admit
        self.connection = connection
        self.problem = ""
        """Why a restart would lose what is committed now; empty: it would not."""

    def connect(self) -> Connection:
        """Return the connection; opens it if it is closed. Raises apsw.Error."""
        if self.connection and self.connection.in_transaction:  # its rollback failed
            self.disconnect()
        if self.connection and self.problem:  # it may have been solved
            self.verify(self.connection)
        if self.connection is None:
            self.connection = self._open()
            self._report("")
        return self.connection

    def verify(self, connection: Connection) -> None:
        """Check that what was just committed is where a restart will find it; if not, recover or set `problem`."""
        problem = ""
        try:
            if connection.database_moved():
                problem = self._follow_database(connection)
            elif connection.log_moved():
                problem = self._save_log(connection)
        except (apsw.Error, OSError) as error:
            problem = f"nobody can tell whether {self._path} is still there: {error}"
        self._report(problem)

    def disconnect(self) -> None:
        """Close the connection; `connect` opens a new one."""
        connection, self.connection = self.connection, None
        if connection is not None:
            with contextlib.suppress(apsw.Error):  # it is closed even so
                connection.close(True)

    def _open(self) -> Connection:
        if not self._path.exists():
            raise apsw.CantOpenError(self._missing())
        try:
            self._admit()
        except (OSError, OutboxError) as error:
            raise apsw.CantOpenError(str(error)) from error
        return connect(self._path)

    def _report(self, problem: str) -> None:
        if problem and problem != self.problem:
            log.error("outbox.moved", problem=problem)
        elif self.problem and not problem:
            log.warning("outbox.recovered", path=str(self._path))
        self.problem = problem

    def _save_log(self, connection: Connection) -> str:
        problem = f"{self._path}-wal was deleted or replaced while it was open"
        try:
            if not truncate_log(connection):
                return f"{problem}, and another process reads the outbox: wait until it ends, or end it"
        except apsw.Error as error:
            return f"{problem}, and what it held cannot be saved: {error}"
        log.error("outbox.moved", problem=f"{problem}; what it held was saved. Leave this file to SQLite")
        self.disconnect()
        return ""

    def _follow_database(self, connection: Connection) -> str:
        if not self._path.exists():
            return self._missing()
        problem = f"{self._path} was replaced while it was open"
        try:
            self._admit()
            if not connection.log_moved():
                # These belong to the former database; SQLite would damage the new one with them.
                for suffix in ("-wal", "-shm"):
                    self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
            new = connect(self._path)
            try:
                _copy_unsettled(connection, new)
            except BaseException:
                new.close(True)
                raise
        except (apsw.Error, OSError, OutboxError) as error:
            return f"{problem}: {error}. Put the former file back, or restart to use this one"
        log.error("outbox.moved", problem=f"{problem} by a copy, which is used from now on")
        self.disconnect()
        self.connection = new
        return ""

    def _missing(self) -> str:
        return (
            f"{self._path} was deleted or moved while it was open: put it back, "
            "or restart to begin with an empty outbox. Until then no message can be kept"
        )


def _copy_unsettled(old: Connection, new: Connection) -> None:
    """Copy the old database's rows of messages that are unsettled in either, its `once` keys and its secrets."""
    columns = [name for (name,) in rows_of(old, _COLUMNS)]
    names, marks = ", ".join(columns), ", ".join("?" * len(columns))
    changes = ", ".join(f"{name} = excluded.{name}" for name in columns)
    ids = sorted({id_ for connection in (old, new) for (id_,) in rows_of(connection, _UNSETTLED)})
    read = f"SELECT {names} FROM messages WHERE id IN (SELECT value FROM json_each(?)) ORDER BY number"  # noqa: S608 - of the schema's names
    write = f"INSERT INTO messages ({names}) VALUES ({marks}) ON CONFLICT (id) DO UPDATE SET {changes}"  # noqa: S608 - likewise
    rows = rows_of(old, read, (msgspec.json.encode(ids).decode(),))
    with new:
        new.executemany(write, rows)
        new.executemany("INSERT OR IGNORE INTO once VALUES (?, ?, ?)", rows_of(old, "SELECT * FROM once"))
        new.executemany("INSERT OR REPLACE INTO secrets VALUES (?, ?)", rows_of(old, "SELECT * FROM secrets"))
