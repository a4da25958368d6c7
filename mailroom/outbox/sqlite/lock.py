"""Locks the outbox, so that only one process serves from it.

Two files are locked: `<path>.lock`, which also holds the process's id, and one octet of the database itself. So after
`rm data/*.lock` a second process still cannot serve from the same database.
"""

import errno
import fcntl
import os
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from mailroom.clock import Clock
from mailroom.errors import OutboxError, OutboxInUse
from mailroom.outbox.sqlite.database import not_writable

_POLL_SECONDS: Final = 0.02
"""Short, because during a restart requests wait for the lock."""

log = structlog.get_logger()

# `struct flock`, padded as on this machine: one octet at 1 TiB, far beyond the octets at 1 GiB that SQLite locks.
_ONE_OCTET: Final = struct.pack("@hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 1 << 40, 1, 0)


class Lock:
    """A lock on the outbox at `path`. The kernel frees it when the process ends, also by SIGKILL."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock_path = path.with_name(path.name + ".lock")
        self._lock_descriptor: int | None = None
        # Open for as long as SQLite has the file open: closing any descriptor of it drops the process's POSIX locks.
        self._descriptor: int | None = None

    @classmethod
    async def take(cls, path: Path, *, clock: Clock, wait_seconds: float | None) -> "Lock":
        """Return the lock, once no other process has it: during a restart two processes overlap.

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
        descriptor = _lock_file(self._lock_path, self._lock_descriptor, _lock_whole, os.O_CREAT)
        if descriptor is None:
            return False
        self._lock_descriptor = descriptor
        if self._path.exists():
            database = _lock_file(self._path, self._descriptor, _lock_octet)
            if database is None:
                return False
            self._descriptor = database
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        except OSError as error:
            raise not_writable(self._lock_path, error) from error
        return True

    def is_on_database(self) -> bool:
        """Return whether the file at the path is the database that was locked."""
        return self._descriptor is not None and _is_at(self._path, self._descriptor)

    def holder(self) -> str:
        """Return who has the lock, for messages."""
        try:
            pid = self._lock_path.read_text(errors="replace").strip()
        except OSError:
            pid = ""
        return f"process {pid}" if pid.isdecimal() else "another process"

    def refusal(self) -> str:
        """Return the message that says who has the lock, and what to do."""
        return (
            f"{self._path} is served by {self.holder()}: one process may serve from a SQLite outbox; "
            'stop the other one, or use PostgreSQL (database_url = "postgresql://…") for several'
        )

    def release(self) -> None:
        """Unlock; SQLite must have closed the database. The lock's file stays: other processes may wait for it."""
        for descriptor in (self._lock_descriptor, self._descriptor):
            if descriptor is not None:
                os.close(descriptor)
        self._lock_descriptor = self._descriptor = None


def _lock_file(path: Path, current: int | None, lock: Callable[[int], None], flags: int = 0) -> int | None:
    """Return a locked descriptor of the file at the path; None: another process has locked it.

    `current` is the descriptor locked before: kept if it is of this file, otherwise closed once the new one is locked.
    """
    try:
        if current is not None and _is_at(path, current):
            descriptor = current
        else:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | flags, 0o600)
    except OSError as error:
        raise not_writable(path, error) from error
    try:
        lock(descriptor)
    except OSError as error:
        if descriptor != current:
            os.close(descriptor)
        if isinstance(error, BlockingIOError):
            return None
        raise OutboxError(
            f"{path} cannot be locked ({errno.errorcode.get(error.errno or 0)}): SQLite needs a local disk, "
            "not a network file system; use PostgreSQL otherwise"
        ) from error
    if current is not None and current != descriptor:
        os.close(current)
    return descriptor


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _lock_whole(descriptor: int) -> None:
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _lock_octet(descriptor: int) -> None:
    """Lock an octet of the database for this descriptor; not for the process: SQLite's closing would drop that.

    Not by flock: on network file systems, and on other systems than Linux, that collides with SQLite's own locks.
    """
    if sys.platform == "linux":
        try:
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _ONE_OCTET)
        except BlockingIOError:
            raise
        except OSError:  # this file system has no such locks: the lock on the other file is enough
            return
