"""Writes files into the operator's templates folder only; files that the operator edited are not changed."""

import errno
import os
import secrets
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from mailroom.errors import ImportingError
from mailroom.importing.plan import OVERLAY, ImportLog, OverlayFile


class FileStatus(StrEnum):
    """What was done with a file; in a dry run, what would be done."""

    WRITTEN = "written"
    UNCHANGED = "unchanged"
    """It exists, byte for byte."""
    KEPT = "kept"
    """It exists with other content, the operator's."""
    OVERWRITTEN = "overwritten"
    REFUSED = "refused"
    """There is a symbolic link or a device with its name."""
    STALE = "stale"
    """It is from an earlier import, and the template no longer has this part."""


_LEFT_OUT: Final = {
    FileStatus.KEPT: ("it was edited since, or has changed in Logto", "compare; --force overwrites it"),
    FileStatus.REFUSED: ("a symbolic link or something else that is not a file has its name", "move that away"),
    FileStatus.STALE: ("it is another part of an imported template", "delete it, unless you want both parts"),
}
"""Files that were not imported: reason and remedy."""

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_ENDINGS: Final = ("html", "txt")


@dataclass(frozen=True, slots=True)
class PlacedFile:
    """A file of the import, and what was done with it."""

    path: str
    """Below the folder."""
    status: FileStatus


def place(
    files: Sequence[OverlayFile], root: Path, log: ImportLog, *, force: bool = False, dry_run: bool = False
) -> list[PlacedFile]:
    """Write the files below `root`, which is made if it is missing; log those that are left as they are.

    Below `root` no symbolic link is followed. Raises ImportingError when a file cannot be written; those before it
    are, and another run does the rest.
    """
    if not files:
        return []
    try:
        if not dry_run:
            root.mkdir(parents=True, exist_ok=True)
        folder = os.open(root, _FOLDER)
    except FileNotFoundError:  # in a dry run
        return [PlacedFile(file.path, FileStatus.WRITTEN) for file in files]
    except OSError as error:
        raise ImportingError(f"cannot use the folder {root}: {error.strerror}") from error
    try:
        placed = [PlacedFile(file.path, _place(folder, file, root, force=force, dry_run=dry_run)) for file in files]
        placed += _stale(folder, files)
    finally:
        os.close(folder)
    for file in placed:
        if file.status in _LEFT_OUT:
            log.leave_out(str(root), file.path, *_LEFT_OUT[file.status])
    return placed


def _place(root: int, file: OverlayFile, named: Path, *, force: bool, dry_run: bool) -> FileStatus:
    with ExitStack() as opened:
        try:
            folder = _descend(root, file.kind, opened, make=not dry_run)
            status = _compare(folder, file)
            if status is FileStatus.KEPT and force:
                status = FileStatus.OVERWRITTEN
            if not dry_run and status in (FileStatus.WRITTEN, FileStatus.OVERWRITTEN):
                _write(folder, file, replace=status is FileStatus.OVERWRITTEN)
        except FileNotFoundError:  # in a dry run
            return FileStatus.WRITTEN
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.ENXIO):
                return FileStatus.REFUSED
            raise ImportingError(f"cannot write {named / file.path}: {error.strerror}") from error
        return status


def _descend(root: int, kind: str, opened: ExitStack, *, make: bool) -> int:
    """Open `<kind>/logto` step by step, so that no symbolic link is followed, even if one is made meanwhile."""
    folder = root
    for part in (kind, OVERLAY):
        if make:
            with suppress(FileExistsError):
                os.mkdir(part, dir_fd=folder)
        folder = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
        opened.callback(os.close, folder)
    return folder


def _compare(folder: int, file: OverlayFile) -> FileStatus:
    def open_in_folder(name: str, flags: int) -> int:
        return os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)

    try:
        with open(file.name, "rb", opener=open_in_folder) as existing:
            if not stat.S_ISREG(os.fstat(existing.fileno()).st_mode):
                return FileStatus.REFUSED
            same = existing.read(len(file.content) + 1) == file.content
    except FileNotFoundError:
        return FileStatus.WRITTEN
    return FileStatus.UNCHANGED if same else FileStatus.KEPT


def _write(folder: int, file: OverlayFile, *, replace: bool) -> None:
    """Write a temporary file and move it into place; a file that appeared meanwhile stays unless `replace`."""
    temporary = f".{file.name}.{secrets.token_hex(4)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o644, dir_fd=folder)
    try:
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(file.content)
            opened.flush()
            os.fsync(opened.fileno())
        if replace:
            os.rename(temporary, file.name, src_dir_fd=folder, dst_dir_fd=folder)
        else:
            os.link(temporary, file.name, src_dir_fd=folder, dst_dir_fd=folder)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=folder)


def _stale(root: int, files: Sequence[OverlayFile]) -> Iterator[PlacedFile]:
    """Yield other parts of the same templates, left by an earlier import."""
    imported = {file.path for file in files}
    for file in files:
        stem, _, ending = file.name.rpartition(".")
        if ending != "toml":
            continue
        for other in (f"{file.kind}/{OVERLAY}/{stem}.{part}" for part in _ENDINGS):
            with suppress(OSError):
                if other not in imported:
                    os.stat(other, dir_fd=root, follow_symlinks=False)
                    yield PlacedFile(other, FileStatus.STALE)
