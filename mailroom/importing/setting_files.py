"""Reads the settings file and the environment file, creates or extends them; never overwrites."""

import os
import stat
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from mailroom.config import env_file
from mailroom.errors import ImportingError

_LARGEST: Final = 1024 * 1024


def read_toml(file: Path) -> dict[str, Any] | None:
    """Return the file as a tree, None if there is none. Raises ImportingError if it is not valid."""
    text = _read(file)
    try:
        return None if text is None else tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ImportingError(f"{file} is not TOML: {error}; correct it first") from None


def read_variables(file: Path) -> dict[str, str]:
    """Return the variables in the environment file; empty if there is none. Quotes around a value are removed."""
    return env_file.parse(_read(file) or "")


def _read(file: Path) -> str | None:
    try:
        with open(file, "rb", opener=_open_nonblocking) as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise ImportingError(f"{file} is not a file")
            raw: bytes = stream.read(_LARGEST + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ImportingError(f"cannot read {file}: {error.strerror}") from error
    if len(raw) > _LARGEST:
        raise ImportingError(f"{file} is larger than {_LARGEST // 1024} KiB")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise ImportingError(f"{file} is not UTF-8 text") from None


def _open_nonblocking(name: str, flags: int) -> int:
    return os.open(name, flags | os.O_NONBLOCK)  # opening a pipe without a writer would block forever


def create_toml(file: Path, text: str) -> None:
    """Write a new file. Raises ImportingError, also if the file exists."""
    _write(file, text, os.O_EXCL, 0o644)


def append_variables(file: Path, variables: Mapping[str, str]) -> None:
    """Append to the environment file, unless there is nothing to append; only its owner can read a new one."""
    if not variables:
        return
    try:
        ends_with_newline = (_read(file) or "\n").endswith("\n")
        lines = "".join(env_file.line(name, value) for name, value in variables.items())
        _write(file, ("" if ends_with_newline else "\n") + lines, os.O_APPEND, 0o600)
    except UnicodeEncodeError:
        raise ImportingError(f"cannot write {file}: a secret holds half a character") from None


def others_can_read(file: Path) -> bool:
    """Return whether others than its owner can access the environment file."""
    with suppress(OSError):
        return bool(file.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO))
    return False


def _write(file: Path, text: str, flags: int, mode: int) -> None:
    raw = text.encode()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | flags, mode)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(raw)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise ImportingError(f"cannot write {file}: {error.strerror}") from error
