"""Fills in what `--dev` does not ask for."""

import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Final

from mailroom.errors import Fault
from mailroom.loading.given import Given

KEY_FILE: Final = Path("data/dev-secret-key")
"""Kept, so that yesterday's outbox opens today; only its owner can read it."""

DATABASE_URL: Final = "sqlite:///data/dev.db"
"""Not the file that a server with real settings would use in the same folder: its key is another."""

_SENDER: Final = "Mailroom <mailroom@localhost.localdomain>"


def fill(given: Given) -> None:
    """Add a sender, a provider, a database and a secret key where there are none."""
    given.tree.setdefault("from", _SENDER)
    given.tree.setdefault("database_url", DATABASE_URL)
    given.tree.setdefault("providers", {"capture": {"type": "capture"}})
    if "secret_key" not in given.tree:
        try:
            given.tree["secret_key"] = _kept_key(KEY_FILE)
        except (OSError, UnicodeDecodeError) as error:
            given.faults.append(Fault("secret_key", f"--dev cannot keep one in {KEY_FILE}: {error}"))
            given.incomplete = True


def new_key() -> str:
    """Return a secret key: 256 random bits, as text that needs no quoting anywhere."""
    return secrets.token_urlsafe(32)


def _kept_key(file: Path) -> str:
    """Return the file's key; a new one appears there whole or not at all, whoever else does the same."""
    with suppress(FileNotFoundError):
        return file.read_text().strip()
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f"{file.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as opened:
            opened.write(new_key() + "\n")
            opened.flush()
            os.fsync(opened.fileno())
        with suppress(FileExistsError):
            file.hardlink_to(draft)
    finally:
        draft.unlink()
    return file.read_text().strip()
