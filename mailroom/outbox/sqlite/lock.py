"""The lock that makes one process the only one to serve from the outbox.

Two files are locked: `<path>.lock`, which also tells who holds it, and an octet of the database itself. So after
`rm data/*.lock` a second process still cannot serve from the same database.
"""

import errno
import fcntl
import os
import struct
import sys
from pathlib import Path
from typing import Final

import structlog

from mailroom.clock import Clock
from mailroom.errors import OutboxError, OutboxInUse
from mailroom.outbox.sqlite.database import not_writable

_POLL_SECONDS: Final = 0.02
"""Requests wait for as long as nobody holds the lock."""

log = structlog.get_logger()

# `struct flock`, whose padding is the machine's own: one octet far beyond what SQLite locks, at 1 GiB.
_ONE_OCTET: Final = struct.pack("@hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 1 << 40, 1, 0)


class Lock:
    """A lock on the outbox at `path`. The system lets go of it when the process dies, however it dies."""

    def __init__(self, path: Path) -> None:
        self._beside = path.with_name(path.name + ".lock")
        self._path = path
        self._beside_descriptor: int | None = None
        # Open for as long as SQLite has the file open: closing any descriptor of it drops the process's POSIX locks.
        self._descriptor: int | None = None

    @classmethod
    async def take(cls, path: Path, *, clock: Clock, wait_seconds: float | None) -> "Lock":
        """Hold the lock, waiting for whoever holds it now: during a deploy two processes overlap.

        Raises OutboxInUse after `wait_seconds` (None: waits without limit), OutboxError when the lock's file cannot
        be written or locked.
        """
        lock = cls(path)
        give_up_at = None if wait_seconds is None else clock.monotonic() + wait_seconds
        is_logged = False
        try:
            while not lock.hold():
                if give_up_at is not None and clock.monotonic() >= give_up_at:
                    raise OutboxInUse(lock.refusal())  # noqa: TRY301 - what was opened is closed below
                if not is_logged:
                    log.info("outbox.awaited", holder=lock.holder(), at_most_seconds=wait_seconds)
                    is_logged = True
                await clock.sleep(_POLL_SECONDS)
        except BaseException:
            lock.release()
            raise
        return lock

    def hold(self) -> bool:
        """Lock the files that are at their paths now, unless they are locked already; False: another process has them.

        A database that is not at its path any more stays locked unless another one there could be locked.
        """
        beside = _opened(self._beside, self._beside_descriptor, os.O_CREAT)
        self._beside_descriptor = _replaced(self._beside_descriptor, beside)
        if not _locked(beside, self._beside):
            return False
        if self._path.exists():
            database = _opened(self._path, self._descriptor)
            if not _octet_locked(database):
                if database != self._descriptor:
                    os.close(database)
                return False
            self._descriptor = _replaced(self._descriptor, database)
        try:
            os.ftruncate(beside, 0)
            os.pwrite(beside, str(os.getpid()).encode(), 0)
        except OSError as error:
            raise not_writable(self._beside, error) from error
        return True

    def is_on_database(self) -> bool:
        """Tell whether the file at the path is the database that was locked."""
        return self._descriptor is not None and _is_at(self._path, self._descriptor)

    def holder(self) -> str:
        """Say who holds the lock."""
        written = b"" if self._beside_descriptor is None else os.pread(self._beside_descriptor, 20, 0)
        pid = written.decode(errors="replace").strip()
        return f"process {pid}" if pid.isdecimal() else "another process"

    def refusal(self) -> str:
        """Say who holds the lock, and what to do."""
        return (
            f"{self._path} is served by {self.holder()}: one process may serve from a SQLite outbox; "
            'stop the other one, or use PostgreSQL (database_url = "postgresql://…") for several'
        )

    def release(self) -> None:
        """Let go; the file stays, for removing it would race with who waits. SQLite must have closed the database."""
        self._beside_descriptor = _replaced(self._beside_descriptor, None)
        self._descriptor = _replaced(self._descriptor, None)


def _opened(path: Path, descriptor: int | None, flags: int = 0) -> int:
    """Return the descriptor if it is that of the file at the path, else a new one."""
    try:
        if descriptor is not None and _is_at(path, descriptor):
            return descriptor
        return os.open(path, os.O_RDWR | os.O_CLOEXEC | flags, 0o600)
    except OSError as error:
        raise not_writable(path, error) from error


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _replaced(old: int | None, new: int | None) -> int | None:
    if old is not None and old != new:
        os.close(old)
    return new


def _locked(descriptor: int, path: Path) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise OutboxError(
            f"{path} cannot be locked ({errno.errorcode.get(error.errno or 0)}): SQLite needs a local disk, "
            "not a network file system; use PostgreSQL otherwise"
        ) from error
    return True


def _octet_locked(descriptor: int) -> bool:
    """Lock an octet of the database for this descriptor; not for the process: SQLite's closing would drop that.

    Not by flock: a network file system would let it collide with SQLite's own locks, as other systems than Linux do.
    """
    if sys.platform != "linux":
        return True
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _ONE_OCTET)
    except BlockingIOError:
        return False
    except OSError:  # this file system has no such locks: the other file's must do
        return True
    return True
