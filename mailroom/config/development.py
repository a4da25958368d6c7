"""Default values for `--dev`."""

import os
import secrets
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Final

from mailroom.config.sources import RawConfig
from mailroom.errors import Fault

KEY_FILE: Final = Path("data/dev-secret-key")
"""Stored, so that the outbox can be read after a restart; only its owner can read it (0600)."""

DATABASE_URL: Final = "sqlite:///data/dev.db"
"""Not the default: a server with real settings in the same folder has another key, so needs another file."""

_SENDER: Final = "Mailroom <mailroom@localhost.localdomain>"


def fill(raw: RawConfig) -> None:
    """Add a sender, a provider, a database and a secret key where there are none."""
    raw.tree.setdefault("from", _SENDER)
    raw.tree.setdefault("database_url", DATABASE_URL)
    raw.tree.setdefault("providers", {"capture": {"type": "capture"}})
    if "secret_key" not in raw.tree:
        try:
            raw.tree["secret_key"] = _load_or_create_key(raw.folder / KEY_FILE)
        except (OSError, UnicodeDecodeError) as error:
            raw.faults.append(Fault("secret_key", f"--dev cannot store one in {KEY_FILE}: {error}"))
            raw.incomplete = True


def new_key() -> str:
    """Return a secret key: 256 random bits, as text that needs no quoting anywhere."""
    return secrets.token_urlsafe(32)


def _load_or_create_key(file: Path) -> str:
    """Return the key in the file; create it atomically if there is none, also when processes race."""
    with suppress(FileNotFoundError):
        return file.read_text().strip()
    file.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile("w", dir=file.parent) as temporary:  # mode 0600; its name is deleted in the end
        temporary.write(new_key() + "\n")
        temporary.flush()
        os.fsync(temporary.fileno())
        with suppress(FileExistsError):
            file.hardlink_to(temporary.name)
    return file.read_text().strip()
