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
        # The database's is open for as long as SQLite's: closing any descriptor of it drops the process's POSIX locks.
        self._descriptors: dict[Path, int] = {}

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
                    raise OutboxInUse(lock.refusal(wait_seconds))  # noqa: TRY301 - what was opened is closed below
                if not is_logged:
                    log.info(
                        "outbox.waiting",
                        problem=f"{path} is served by another process; this one serves when that one has ended",
                        holder=lock.holder(),
                        at_most_seconds=wait_seconds,
                    )
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
        if not self._lock_file(self._lock_path, _lock_whole, os.O_CREAT):
            return False
        if self._path.exists() and not self._lock_file(self._path, _lock_octet):
            return False
        try:
            self._lock_path.write_text(str(os.getpid()))
        except OSError as error:
            raise not_writable(self._lock_path, error) from error
        return True

    def holds(self, path: Path) -> bool:
        """Return whether the file at the path is the one that was locked."""
        try:
            return path in self._descriptors and os.path.samestat(os.fstat(self._descriptors[path]), path.stat())
        except OSError:
            return False

    def holder(self) -> str:
        """Return who has the lock, for messages."""
        try:
            pid = self._lock_path.read_text(errors="replace").strip()
        except OSError:
            pid = ""
        return f"process {pid}" if pid.isdecimal() else "another process"

    def refusal(self, waited_seconds: float | None = None) -> str:
        """Return the message that says who has the lock, and what to do."""
        waited = f", still after {waited_seconds:g} s" if waited_seconds else ""
        return (
            f"{self._path} is served by {self.holder()}{waited}. One process may serve from a SQLite outbox: "
            'stop the other one, or use PostgreSQL (database_url = "postgresql://…") for several'
        )

    def release(self) -> None:
        """Unlock; SQLite must have closed the database. The lock's file stays: other processes may wait for it."""
        while self._descriptors:
            os.close(self._descriptors.popitem()[1])

    def _lock_file(self, path: Path, lock: Callable[[int], None], flags: int = 0) -> bool:
        if self.holds(path):
            return True
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | flags, 0o600)
        except OSError as error:
            raise not_writable(path, error) from error
        try:
            lock(descriptor)
        except OSError as error:
            os.close(descriptor)
            if isinstance(error, BlockingIOError):
                return False
            raise OutboxError(
                f"{path} cannot be locked ({errno.errorcode.get(error.errno or 0)}): SQLite needs a local disk, "
                "not a network file system; use PostgreSQL otherwise"
            ) from error
        if path in self._descriptors:
            os.close(self._descriptors[path])
        self._descriptors[path] = descriptor
        return True


def is_served(path: Path) -> bool:
    """Return whether a process serves from the outbox. Raises OSError."""
    try:
        descriptor = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        _lock_whole(descriptor)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
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
