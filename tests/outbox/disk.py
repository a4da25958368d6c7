"""A simulated disk for SQLite that fails and loses power: writes that are not synced are only in memory."""

import random
from collections.abc import Callable
from itertools import count
from pathlib import Path
from threading import RLock
from typing import Any, Final, TypeAlias

import apsw

Fault: TypeAlias = Callable[[str, str], type[apsw.Error] | None]
"""Gets the operation (`write`, `sync`) and the file's name; returns the error to raise, or None."""

REAL_DISK: Final = apsw.vfs_names()[0]
"""SQLite's own default."""

_names: Final = count(1)


class Disk(apsw.VFS):
    """Use it by `apsw.set_default_vfs(disk.name)`.

    After `lose_power` the real files hold what a machine would find; open them with `REAL_DISK` as the default.
    """

    def __init__(self) -> None:
        self.name = f"disk-{next(_names)}"
        self.fault: Fault | None = None
        self.files: dict[str, _Content] = {}
        self.guard = RLock()
        self.syncs = 0
        self.dead = False
        super().__init__(self.name, REAL_DISK)

    def xOpen(self, name: Any, flags: list[int]) -> Any:  # noqa: N802 - SQLite's name
        """Open a file."""
        return _File(self, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: FBT001, N802 - SQLite's signature
        """Delete a file; its content is forgotten with it."""
        with self.guard:
            self.check("delete", filename)
            self.files.pop(filename, None)
            super().xDelete(filename, syncdir)

    def lose_power(self, chance: random.Random | None = None) -> None:
        """Drop what was not synced; with `chance` some of the writes had reached the disk by themselves, in any order.

        Nobody reaches the files through this disk afterwards.
        """
        with self.guard:
            self.dead = True
            for content in self.files.values():
                survivors = [] if chance is None else [one for one in content.unsynced if chance.random() < 0.5]
                if chance is not None:
                    chance.shuffle(survivors)
                content.flush(survivors)
                shared = Path(content.path.removesuffix("-wal") + "-shm")
                shared.unlink(missing_ok=True)  # memory
            self.files.clear()

    def check(self, operation: str, name: str) -> None:
        """Raise the error that `fault` returns."""
        if self.dead:
            raise apsw.IOError("the power is gone")
        error = self.fault(operation, name) if self.fault else None
        if error is not None:
            raise error(f"the disk says so ({operation})")


class _Content:
    """A file's content as programs read it, and the writes that are not synced."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.seen = bytearray(Path(path).read_bytes())
        self.unsynced: list[tuple[int, bytes | None]] = []
        """Writes at an offset; None: cut off there."""

    def write(self, offset: int, data: bytes) -> None:
        _apply(self.seen, offset, data)
        self.unsynced.append((offset, data))

    def cut(self, size: int) -> None:
        _apply(self.seen, size, None)
        self.unsynced.append((size, None))

    def flush(self, writes: list[tuple[int, bytes | None]]) -> None:
        """Apply these writes to the real file."""
        self.unsynced = []
        if writes and Path(self.path).exists():
            durable = bytearray(Path(self.path).read_bytes())
            for offset, data in writes:
                _apply(durable, offset, data)
            Path(self.path).write_bytes(durable)


def _apply(content: bytearray, offset: int, data: bytes | None) -> None:
    if data is None:
        del content[offset:]
        return
    if len(content) < offset:
        content += bytes(offset - len(content))
    content[offset : offset + len(data)] = data


class _File(apsw.VFSFile):
    """Reads and writes the content in memory; locks and shared memory are the real file's."""

    def __init__(self, disk: Disk, name: Any, flags: list[int]) -> None:
        super().__init__(REAL_DISK, name, flags)
        self._disk = disk
        if name is None:
            raise apsw.CantOpenError("no temporary files are expected here")
        self._name: str = name if isinstance(name, str) else name.filename()
        with disk.guard:
            if self._name not in disk.files:
                disk.files[self._name] = _Content(self._name)
            self._content = disk.files[self._name]

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802 - SQLite's name
        with self._disk.guard:
            return bytes(self._content.seen[offset : offset + amount])

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - SQLite's name
        with self._disk.guard:
            self._disk.check("write", self._name)
            self._content.write(offset, bytes(data))

    def xTruncate(self, newsize: int) -> None:  # noqa: N802 - SQLite's name
        with self._disk.guard:
            self._disk.check("truncate", self._name)
            self._content.cut(newsize)

    def xFileSize(self) -> int:  # noqa: N802 - SQLite's name
        with self._disk.guard:
            return len(self._content.seen)

    def xSync(self, flags: int) -> None:  # noqa: N802 - SQLite's name
        with self._disk.guard:
            self._disk.check("sync", self._name)
            self._disk.syncs += 1
            self._content.flush(self._content.unsynced)
