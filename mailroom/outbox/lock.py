"""The lock beside the file: whoever holds it is the one process that serves from the outbox."""

import errno
import fcntl
import os
from pathlib import Path
from typing import Final

from mailroom.clock import Clock
from mailroom.errors import OutboxError, OutboxInUse

_POLL_SECONDS: Final = 0.1


class Lock:
    """A held lock. The system lets go of it when the process dies, however it dies."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    @classmethod
    async def take(cls, path: Path, *, clock: Clock, wait_seconds: float) -> "Lock":
        """Hold `<path>.lock`, waiting for whoever holds it now: during a deploy two processes overlap.

        Raises OutboxInUse after `wait_seconds`, OutboxError when the file system cannot lock.
        """
        beside = path.with_name(path.name + ".lock")
        try:
            descriptor = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise OutboxError(
                f"{beside} cannot be written ({error.strerror}): let the server's user own the directory"
            ) from error
        try:
            waited_until = clock.monotonic() + wait_seconds
            while not _locked(descriptor, beside):
                _give_up_after(waited_until, clock, path, descriptor)
                await clock.sleep(_POLL_SECONDS)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        except BaseException:
            os.close(descriptor)
            raise
        return cls(descriptor)

    def release(self) -> None:
        """Let go; the file stays, for removing it would race with who waits."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


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


def _give_up_after(end: float, clock: Clock, path: Path, descriptor: int) -> None:
    if clock.monotonic() < end:
        return
    pid = os.pread(descriptor, 20, 0).decode(errors="replace").strip()
    holder = f"process {pid}" if pid.isdecimal() else "another process"
    raise OutboxInUse(
        f"{path} is served by {holder}: one process may serve from a SQLite outbox; stop the other one, "
        'or use PostgreSQL (database_url = "postgresql://…") for several'
    )
