"""The lock beside the file: whoever holds it is the one process that serves from the outbox."""

import errno
import fcntl
import os
from pathlib import Path
from typing import Final

import structlog

from mailroom.clock import Clock
from mailroom.errors import OutboxError, OutboxInUse
from mailroom.outbox.database import not_writable

_POLL_SECONDS: Final = 0.02
"""Requests wait for as long as nobody holds the lock."""

log = structlog.get_logger()


class Lock:
    """A held lock. The system lets go of it when the process dies, however it dies."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    @classmethod
    async def take(cls, path: Path, *, clock: Clock, wait_seconds: float | None) -> "Lock":
        """Hold `<path>.lock`, waiting for whoever holds it now: during a deploy two processes overlap.

        Raises OutboxInUse after `wait_seconds` (None: waits without limit), OutboxError when the lock's file cannot
        be written or locked.
        """
        beside = path.with_name(path.name + ".lock")
        try:
            descriptor = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise not_writable(beside, error) from error
        try:
            await _wait(descriptor, beside, path, clock=clock, wait_seconds=wait_seconds)
            try:
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, str(os.getpid()).encode(), 0)
            except OSError as error:
                raise not_writable(beside, error) from error
        except BaseException:
            os.close(descriptor)
            raise
        return cls(descriptor)

    def release(self) -> None:
        """Let go; the file stays, for removing it would race with who waits."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


async def _wait(descriptor: int, beside: Path, path: Path, *, clock: Clock, wait_seconds: float | None) -> None:
    """Return when the lock is ours."""
    give_up_at = None if wait_seconds is None else clock.monotonic() + wait_seconds
    is_logged = False
    while not _locked(descriptor, beside):
        pid = os.pread(descriptor, 20, 0).decode(errors="replace").strip()
        holder = f"process {pid}" if pid.isdecimal() else "another process"
        if give_up_at is not None and clock.monotonic() >= give_up_at:
            raise OutboxInUse(
                f"{path} is served by {holder}: one process may serve from a SQLite outbox; stop the other one, "
                'or use PostgreSQL (database_url = "postgresql://…") for several'
            )
        if not is_logged:
            log.info("outbox.awaited", holder=holder, at_most_seconds=wait_seconds)
            is_logged = True
        await clock.sleep(_POLL_SECONDS)


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
