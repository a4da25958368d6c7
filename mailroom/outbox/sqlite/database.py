"""The SQLite file: how it is made, opened, and brought to the present schema."""

import ctypes
import errno
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import apsw

from mailroom.errors import OutboxError
from mailroom.sealing import Entropy, Seal, new_data_key, unwrap, wrap

_BUSY_MILLISECONDS: Final = 1000
"""How long an operator's command may hold the file before those who wait for us are told 503."""
_CHECKPOINT_PAGES: Final = 4000
"""16 MB of log; 10,000 pages raised p99 to 20 ms."""
_LARGEST_LOG: Final = 64 * 1024 * 1024
"""The log is cut back to this after a long reader let it grow."""
_CACHE_KIB: Final = 8192

_APPLICATION: Final = 0x4D41494C
SCHEMA: Final = Path(__file__).parent / "schema"


def create(path: Path) -> None:
    """Make the file, readable by its owner only, and its directory, unless they are there.

    Raises OutboxError when that is not possible.
    """
    try:
        _make_directory(path.parent)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise not_writable(path, error) from error


def not_writable(path: Path, error: OSError) -> OutboxError:
    """Return what to raise when the system does not let us write a file."""
    remedy = _REMEDIES.get(
        error.errno or 0,
        "let the server's user own it and its directory, or set database_url to a place that it may write",
    )
    return OutboxError(f"{path} cannot be written ({error.strerror}): {remedy}")


_REMEDIES: Final = {
    errno.ENOSPC: "make room on this disk",
    errno.EDQUOT: "make room in the quota of the server's user",
    errno.EROFS: "mount this file system for writing, or set database_url to a place that can be written",
}


def not_usable(path: Path, error: apsw.Error) -> OutboxError:
    """Return what to raise when SQLite cannot open or read the file."""
    if isinstance(error, (apsw.NotADBError, apsw.CorruptError)):
        remedy = (
            "the file is damaged, and was left as it is. Keep a copy of it and of the -wal file beside it; then "
            "put back a backup, or move both away to begin with an empty outbox"
        )
    else:
        remedy = "see that its disk has room, and can be read and written"
    return OutboxError(f"{path} cannot be opened as the outbox ({error}): {remedy}")


def check(path: Path, secret_keys: Sequence[str], *, schema: Path = SCHEMA) -> None:
    """Look at a file that another process serves from, for what waiting will not change.

    Raises OutboxError when it is not ours or too new, SealBroken when no secret fits.
    """
    try:
        connection = connect_readonly(path)
        try:
            if _version(connection, newest=max(_steps(schema))):
                unlock_seal(connection, secret_keys, entropy=os.urandom)
        finally:
            connection.close(True)
    except apsw.Error:  # it is missing or in trouble: whoever opens it to serve will see
        return


def _make_directory(directory: Path) -> None:
    if directory.is_dir():
        return
    _make_directory(directory.parent)
    directory.mkdir(mode=0o700, exist_ok=True)
    parent = os.open(directory.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(parent)  # SQLite does the same for what it makes itself
    finally:
        os.close(parent)


class Connection(apsw.Connection):
    """A connection that can tell whether its files are still the ones at their paths."""

    def __init__(self, path: Path, *, flags: int, vfs: str | None) -> None:
        super().__init__(str(path), flags=flags, vfs=vfs)
        self._log = f"{path}-wal"
        self._log_identity: tuple[int, int] | None = None
        self._answer = ctypes.c_int()
        self._answer_address = ctypes.addressof(self._answer)

    def database_moved(self) -> bool:
        """Tell whether the database was deleted, moved or replaced; 2 µs."""
        self.file_control("main", apsw.SQLITE_FCNTL_HAS_MOVED, self._answer_address)
        return bool(self._answer.value)

    def log_moved(self) -> bool:
        """Tell whether the write-ahead log was deleted, moved or replaced since this was asked first; 2 µs."""
        try:
            found = os.stat(self._log)  # noqa: PTH116 - for each commit; a Path costs as much again
        except OSError:  # SQLite makes it when it writes first
            return self._log_identity is not None
        identity = found.st_dev, found.st_ino
        self._log_identity = self._log_identity or identity
        return identity != self._log_identity


def connect(path: Path, *, vfs: str | None = None) -> Connection:
    """Open the file for writing as we want it written. Raises apsw.Error."""
    connection = Connection(path, flags=apsw.SQLITE_OPEN_READWRITE, vfs=vfs)
    try:
        connection.set_busy_timeout(_BUSY_MILLISECONDS)
        _log_ahead(connection)
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


def _log_ahead(connection: apsw.Connection) -> None:
    if connection.pragma("journal_mode", "WAL") != "wal":
        raise apsw.CantOpenError("the file system lacks what SQLite's write-ahead log needs (shared memory)")


def connect_readonly(path: Path, *, vfs: str | None = None) -> Connection:
    """Open the file for reading, beside whoever writes it. Raises apsw.Error."""
    connection = Connection(path, flags=apsw.SQLITE_OPEN_READONLY, vfs=vfs)
    connection.set_busy_timeout(_BUSY_MILLISECONDS)
    return connection


def truncate_log(connection: apsw.Connection) -> bool:
    """Write what is in the log to the database, and empty the log; False: not now, somebody else reads.

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


def migrate(connection: apsw.Connection, schema: Path = SCHEMA) -> None:
    """Bring the file to the present schema, version by version (`sqlite-1.sql`, `sqlite-2.sql` …), each whole or not.

    Raises OutboxError when the file is newer than we are, or not ours.
    """
    steps = _steps(schema)
    version = _version(connection, newest=max(steps))
    for number in range(version + 1, max(steps) + 1):
        connection.execute("BEGIN IMMEDIATE")
        try:
            connection.execute(steps[number].read_text(encoding="utf-8"))
            connection.pragma("user_version", number)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def expect_current(connection: apsw.Connection, schema: Path = SCHEMA) -> None:
    """Raise OutboxError unless the file has the present schema: who only reads cannot mend it."""
    newest = max(_steps(schema))
    if _version(connection, newest=newest) < newest:
        raise OutboxError("the outbox has an older schema: serve it once with this version of Mailroom")


def _version(connection: apsw.Connection, *, newest: int) -> int:
    """Return the schema's version, 0 for a new file."""
    version = connection.pragma("user_version")
    assert isinstance(version, int)
    used = connection.execute("SELECT EXISTS (SELECT 1 FROM sqlite_schema)").get
    if used and connection.pragma("application_id") != _APPLICATION:
        raise OutboxError("the file is a database, but not Mailroom's: set database_url to another file")
    if version > newest:
        raise OutboxError(
            f"the outbox was written by a newer Mailroom (schema {version}, this one knows {newest}): "
            "serve it with the newer version, or restore the backup that was made before"
        )
    return version


def _steps(schema: Path) -> dict[int, Path]:
    found = {path: re.fullmatch(r"sqlite-(\d+)\.sql", path.name) for path in schema.iterdir()}
    return {int(match[1]): path for path, match in found.items() if match}


def unlock_seal(connection: apsw.Connection, secret_keys: Sequence[str], *, entropy: Entropy) -> Seal:
    """Return the seal whose data key lies in the file. Raises SealBroken when no secret fits."""
    data_key, _ = unwrap(connection.execute(_WRAPPED).get, secret_keys)
    return Seal(data_key, entropy=entropy)


def wrapped_key(connection: apsw.Connection) -> bytes | None:
    """Return the wrapped data key, which identifies an outbox and its copies."""
    wrapped: bytes | None = connection.execute(_WRAPPED).get
    return wrapped


def wrapped_at(path: Path, *, vfs: str | None = None) -> bytes | None:
    """Return that of a file that is not open; None: it has none.

    Only the database is read, without its log and without locks. Raises apsw.Error.
    """
    flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
    connection = apsw.Connection(f"{path.absolute().as_uri()}?immutable=1", flags=flags, vfs=vfs)
    try:
        return wrapped_key(connection)
    except apsw.SQLError:  # no such table
        return None
    finally:
        connection.close(True)


def own_seal(connection: apsw.Connection, secret_keys: Sequence[str], *, entropy: Entropy) -> Seal:
    """Do the same, make a data key for a new file, and see that the first secret is the one that wraps it."""
    wrapped = connection.execute(_WRAPPED).get
    data_key, current = (new_data_key(entropy), False) if wrapped is None else unwrap(wrapped, secret_keys)
    if not current:
        connection.execute(_WRAP, (wrap(data_key, secret_keys[0], entropy),))
    return Seal(data_key, entropy=entropy)


_WRAPPED: Final = "SELECT wrapped FROM keys"
_WRAP: Final = "INSERT OR REPLACE INTO keys (number, wrapped) VALUES (1, ?)"


def rows_of(connection: apsw.Connection, sql: str, bindings: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """Return all rows of a query, each as the schema has it."""
    return connection.execute(sql, bindings).fetchall()


Item = TypeVar("Item")

_SIZES: Final = (64, 16, 4, 1)
"""Rows a statement; few sizes, so that all of them stay prepared."""


def in_bulk(items: Sequence[Item]) -> list[Sequence[Item]]:
    """Cut a list into pieces of few sizes, for `values`."""
    pieces: list[Sequence[Item]] = []
    start = 0
    for size in _SIZES:
        while len(items) - start >= size:
            pieces.append(items[start : start + size])
            start += size
    return pieces


def values(rows: Sequence[Sequence[object]]) -> str:
    """Return `(?,?),(?,?)` for rows of equal length."""
    row = f"({','.join('?' * len(rows[0]))})"
    return ",".join([row] * len(rows))


def flat(rows: Sequence[Sequence[object]]) -> list[Any]:
    """Return what is bound to `values`."""
    return [value for row in rows for value in row]
