"""Copies the database to a file while a server uses it: SQLite's online backup, https://sqlite.org/backup.html."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import apsw

from mailroom.errors import OutboxError
from mailroom.outbox.sqlite.database import connect_readonly

_PAGES: Final = 2048
"""Pages of 4 KiB in one step."""


def backup(path: Path, target: Path, on_progress: Callable[[float], None]) -> None:
    """Copy the outbox at `path` to `target`, which is complete as soon as it exists.

    `on_progress` gets the percentage copied since its last call. Raises OutboxError.
    """
    unfinished = target.with_name(f".{target.name}.unfinished")
    try:
        os.close(os.open(unfinished, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600))
        with contextlib.closing(connect_readonly(path)) as source:
            source.execute(
                "BEGIN; SELECT count(*) FROM sqlite_schema"
            )  # sees no later change: each would restart the copy
            _copy(source, unfinished, on_progress)
        _sync(unfinished)
        unfinished.replace(target)
        _sync(target.parent)
    except (apsw.Error, OSError) as error:
        unfinished.unlink(missing_ok=True)
        raise OutboxError(f"{target} cannot be written: {error}") from error


def _copy(source: apsw.Connection, target: Path, on_progress: Callable[[float], None]) -> None:
    with contextlib.closing(apsw.Connection(str(target))) as copy:
        with copy.backup("main", source, "main") as pages:
            while not pages.done:
                pages.step(_PAGES)
                on_progress(100 * min(1, _PAGES / pages.page_count))
        copy.pragma("journal_mode", "DELETE")  # one file; a server that opens it turns the log on again


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
