"""Creates and opens the SQLite file, migrates its schema, and reads the data key in it."""

import ctypes
import errno
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import apsw

from mailroom.errors import OutboxError
from mailroom.sealing import Entropy, Seal, new_data_key, unwrap, wrap

_BUSY_MILLISECONDS: Final = 1000
"""How long another process may lock the file before our callers get an error (503)."""
_CHECKPOINT_PAGES: Final = 4000
"""16 MB of log. With 10,000 pages the p99 of a put rose to 20 ms."""
_LARGEST_LOG: Final = 64 * 1024 * 1024
"""Octets to which SQLite cuts the log after a long read made it grow."""
_CACHE_KIB: Final = 8192

_APPLICATION_ID: Final = 0x4D41494C
SCHEMA: Final = Path(__file__).parent / "schema"
"""The folder of the migrations: `sqlite-1.sql`, `sqlite-2.sql` …"""
_OLDEST: Final = re.compile(r"-- oldest: (\d+)\b")
_CREATE_COMPATIBILITY: Final = """
    CREATE TABLE IF NOT EXISTS compatibility (
        number INTEGER PRIMARY KEY CHECK (number = 1),
        oldest INTEGER NOT NULL  -- the oldest schema whose programs work with this one
    ) STRICT
"""
_SET_OLDEST: Final = "INSERT OR REPLACE INTO compatibility (number, oldest) VALUES (1, ?)"


def create(path: Path) -> None:
    """Create the file and its directory, for their owner only, unless they exist. Raises OutboxError."""
    try:
        _make_directory(path.parent)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise not_writable(path, error) from error


def not_writable(path: Path, error: OSError) -> OutboxError:
    """Return the error for a file that the system does not let us write."""
    remedies = {
        errno.ENOSPC: "make room on this disk",
        errno.EDQUOT: "make room in the quota of the server's user",
        errno.EROFS: "mount this file system for writing, or set database_url to a place that can be written",
    }
    usually = "let the server's user own it and its directory, or set database_url to a place that it may write"
    return OutboxError(f"{path} cannot be written ({error.strerror}): {remedies.get(error.errno or 0, usually)}")


def not_usable(path: Path, error: apsw.Error) -> OutboxError:
    """Return the error for a file that SQLite cannot open or read."""
    if isinstance(error, (apsw.NotADBError, apsw.CorruptError)):
        remedy = (
            "the file is damaged, and was left as it is. Keep a copy of it and of the -wal file beside it; then "
            "put back a backup, or move both away to begin with an empty outbox"
        )
    else:
        remedy = "see that its disk has room, and can be read and written"
    return OutboxError(f"{path} cannot be opened as the outbox ({error}): {remedy}")


def check(path: Path, secret_keys: Sequence[str]) -> None:
    """Check a file that another process is using, for errors that will not go away by waiting.

    Raises OutboxError when it is not an outbox or its schema is too new, SealBroken when no secret matches.
    """
    # SQLite's own errors are left to whoever opens the file to serve; so is a file that is being created.
    with suppress(apsw.Error), closing(connect_readonly(path)) as connection:
        _pending_migrations(connection)
        unlock_seal(connection, secret_keys)


def _make_directory(directory: Path) -> None:
    if directory.is_dir():
        return
    _make_directory(directory.parent)
    directory.mkdir(mode=0o700, exist_ok=True)
    parent = os.open(directory.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(parent)  # SQLite does this for the files that it creates
    finally:
        os.close(parent)


class Connection(apsw.Connection):
    """A connection that can check whether its files are still the ones at their paths."""

    def __init__(self, path: Path, *, flags: int) -> None:
        super().__init__(str(path), flags=flags)
        self._log = f"{path}-wal"
        self._log_identity: tuple[int, int] | None = None
        self._has_moved = ctypes.c_int()
        self.set_busy_timeout(_BUSY_MILLISECONDS)

    def database_moved(self) -> bool:
        """Return whether the database was deleted, moved or replaced; 2 µs."""
        self.file_control("main", apsw.SQLITE_FCNTL_HAS_MOVED, ctypes.addressof(self._has_moved))
        return bool(self._has_moved.value)

    def log_moved(self) -> bool:
        """Return whether the write-ahead log was deleted, moved or replaced since the first call; 2 µs."""
        try:
            status = os.stat(self._log)  # noqa: PTH116 - for each commit; a Path costs as much again
        except OSError:  # SQLite creates it with the first write
            return self._log_identity is not None
        identity = status.st_dev, status.st_ino
        self._log_identity = self._log_identity or identity
        return identity != self._log_identity


def connect(path: Path) -> Connection:
    """Open the file for writing: write-ahead log, every commit synced. Raises apsw.Error."""
    connection = Connection(path, flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        if connection.pragma("journal_mode", "WAL") != "wal":
            raise apsw.CantOpenError("the file system lacks what SQLite's write-ahead log needs (shared memory)")  # noqa: TRY301 - the connection is closed below
        connection.pragma("synchronous", "FULL")
        connection.pragma("secure_delete", "FAST")
        connection.pragma("cache_size", -_CACHE_KIB)
        connection.pragma("journal_size_limit", _LARGEST_LOG)
        connection.wal_autocheckpoint(_CHECKPOINT_PAGES)
        connection.log_moved()
    except BaseException:
        connection.close(True)
        raise
    return connection


def connect_readonly(path: Path) -> Connection:
    """Open the file for reading, also while another process writes it. Raises apsw.Error."""
    return Connection(path, flags=apsw.SQLITE_OPEN_READONLY)


def truncate_log(connection: apsw.Connection) -> bool:
    """Copy the log to the database and empty it; False: not possible while another process reads.

    Raises apsw.Error.
    """
    connection.set_busy_timeout(0)
    try:
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    except apsw.BusyError:
        return False
    finally:
        connection.set_busy_timeout(_BUSY_MILLISECONDS)
    return True


@contextmanager
def transaction(connection: apsw.Connection) -> Iterator[None]:
    """Run the block as one transaction that may write."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # after some errors SQLite has rolled back already
            connection.execute("ROLLBACK")
        raise


def migrates_from(connection: apsw.Connection) -> int | None:
    """Return the file's schema if `migrate` will change it; None: it will not, or the file is new.

    Raises OutboxError as `expect_current` does.
    """
    return connection.pragma("user_version") or None if _pending_migrations(connection) else None


def migrate(connection: apsw.Connection) -> None:
    """Bring the file to the newest schema, one transaction per version. Raises OutboxError as `expect_current` does."""
    for number, migration in _pending_migrations(connection):
        sql = migration.read_text(encoding="utf-8")
        oldest = _OLDEST.match(sql)
        if not oldest:
            raise OutboxError(f"{migration.name} does not say which older programs work with it")
        with transaction(connection):
            connection.execute(sql)
            connection.execute(_CREATE_COMPATIBILITY)
            connection.execute(_SET_OLDEST, (int(oldest[1]),))
            connection.pragma("user_version", number)


def expect_current(connection: apsw.Connection) -> None:
    """Raise OutboxError unless the file is an outbox of the newest schema: read-only, it cannot be migrated."""
    if _pending_migrations(connection):
        raise OutboxError("the outbox has an older schema: serve it once with this version of Mailroom")


def _pending_migrations(connection: apsw.Connection) -> list[tuple[int, Path]]:
    """Return versions and files. Raises OutboxError when the file is no outbox, or its schema is newer."""
    migrations = sorted((int(path.stem.removeprefix("sqlite-")), path) for path in SCHEMA.glob("sqlite-*.sql"))
    newest, _ = migrations[-1]
    version = connection.pragma("user_version")
    assert isinstance(version, int)
    used = connection.execute("SELECT EXISTS (SELECT 1 FROM sqlite_schema)").get
    if used and connection.pragma("application_id") != _APPLICATION_ID:
        raise OutboxError("the file is a database, but not Mailroom's: set database_url to another file")
    if version > newest and (_oldest_program(connection) or version) > newest:
        raise OutboxError(
            f"the outbox was written by a newer Mailroom (schema {version}, which this one, {newest}, cannot use): "
            "serve it with the newer version, or restore the backup that was made before"
        )
    return [(number, path) for number, path in migrations if number > version]


def _oldest_program(connection: apsw.Connection) -> int | None:
    """Return the oldest schema whose programs work with this file; None: it was written before that was recorded."""
    try:
        oldest: int | None = connection.execute("SELECT oldest FROM compatibility").get
    except apsw.SQLError:  # no such table
        return None
    return oldest


def wrapped_key(connection: apsw.Connection) -> bytes | None:
    """Return the wrapped data key, which identifies an outbox and its copies; None: a new file."""
    wrapped: bytes | None = connection.execute("SELECT wrapped FROM keys").get
    return wrapped


def wrapped_key_at(path: Path) -> bytes | None:
    """Return the wrapped data key of a file that is not open; None: it has none.

    Only the database is read, without its log and without locks. Raises apsw.Error.
    """
    flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
    try:
        with closing(apsw.Connection(f"{path.absolute().as_uri()}?immutable=1", flags=flags)) as connection:
            return wrapped_key(connection)
    except apsw.SQLError:  # no such table
        return None


def unlock_seal(connection: apsw.Connection, secret_keys: Sequence[str]) -> Seal:
    """Return the seal of the data key in the file. Raises apsw.Error, and SealBroken when no secret matches."""
    wrapped = wrapped_key(connection)
    if wrapped is None:
        raise apsw.CantOpenError("it is being created: it has no data key yet")
    return Seal(unwrap(wrapped, secret_keys)[0])


def create_or_unlock_seal(connection: apsw.Connection, secret_keys: Sequence[str], entropy: Entropy) -> Seal:
    """Return the seal as `unlock_seal` does; creates the data key of a new file, and wraps it by the first secret."""
    wrapped = wrapped_key(connection)
    data_key, is_current = (new_data_key(entropy), False) if wrapped is None else unwrap(wrapped, secret_keys)
    if not is_current:
        wrapped = wrap(data_key, secret_keys[0], entropy)
        connection.execute("INSERT OR REPLACE INTO keys (number, wrapped) VALUES (1, ?)", (wrapped,))
    return Seal(data_key, entropy=entropy)


def rows_of(connection: apsw.Connection, sql: str, bindings: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """Return all rows of a query, each as the schema has it."""
    return connection.execute(sql, bindings).fetchall()


_ROWS_PER_STATEMENT: Final = (64, 16, 4, 1)
"""Few sizes, so that all of these statements stay prepared."""


def execute_bulk(connection: apsw.Connection, sql: str, rows: Sequence[Sequence[object]]) -> int:
    """Execute a statement for rows of equal length, which stand for `{values}` in it; return how many it changed."""
    changed = start = 0
    for size in _ROWS_PER_STATEMENT:
        while len(rows) - start >= size:
            group = rows[start : start + size]
            marks = f"({','.join('?' * len(group[0]))})"
            connection.execute(sql.format(values=",".join([marks] * size)), [value for row in group for value in row])
            changed += connection.changes()
            start += size
    return changed
