"""Default values for `--dev`."""

import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Final

from mailroom.config.sources import RawConfig
from mailroom.errors import Fault

KEY_FILE: Final = Path("data/dev-secret-key")
"""Stored, so that the outbox can be opened again after a restart; readable by its owner only (0600)."""

DATABASE_URL: Final = "sqlite:///data/dev.db"
"""Not the default file: a server with real settings in the same folder has another key."""

_SENDER: Final = "Mailroom <mailroom@localhost.localdomain>"


def fill(raw: RawConfig) -> None:
    """Add a sender, a provider, a database and a secret key where there are none."""
    raw.tree.setdefault("from", _SENDER)
    raw.tree.setdefault("database_url", DATABASE_URL)
    raw.tree.setdefault("providers", {"capture": {"type": "capture"}})
    if "secret_key" not in raw.tree:
        try:
            raw.tree["secret_key"] = _load_or_create_key(KEY_FILE)
        except (OSError, UnicodeDecodeError) as error:
            raw.faults.append(Fault("secret_key", f"--dev cannot keep one in {KEY_FILE}: {error}"))
            raw.incomplete = True


def new_key() -> str:
    """Return a secret key: 256 random bits, as text that needs no quoting anywhere."""
    return secrets.token_urlsafe(32)


def _load_or_create_key(file: Path) -> str:
    """Return the key in the file; create it atomically if there is none, also when processes race."""
    with suppress(FileNotFoundError):
        return file.read_text().strip()
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f"{file.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as stream:
            stream.write(new_key() + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        with suppress(FileExistsError):
            file.hardlink_to(temporary)
    finally:
        temporary.unlink()
    return file.read_text().strip()
