"""Stores the secrets that providers get while they run, sealed."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

import apsw

from mailroom.outbox.sqlite.database import rows_of
from mailroom.outbox.sqlite.queries import Reader
from mailroom.sealing import Seal

_COLUMN: Final = "secret"
_SELECT: Final = "SELECT secret FROM secrets WHERE name = ?"
_REPLACE: Final = "INSERT OR REPLACE INTO secrets (name, secret) VALUES (?, ?)"


class SqliteSecrets:
    """See `mailroom.sealing.SecretStore`. `call` runs a function in a transaction."""

    def __init__(
        self, reader: Reader, call: Callable[[Callable[[apsw.Connection], Any]], Awaitable[Any]], seal: Seal
    ) -> None:
        self._reader = reader
        self._call = call
        self._seal = seal

    async def get(self, name: str) -> str | None:
        """Return a secret; None: none is stored. Raises OutboxError, SealBroken."""
        rows = await self._reader.rows(_SELECT, (name,))
        return self._seal.open(name, _COLUMN, rows[0][0]).decode() if rows else None

    async def put(self, name: str, secret: str) -> None:
        """Store a secret in place of the last one; durable when this returns. Raises OutboxError."""
        row = (name, self._seal.seal(name, _COLUMN, secret.encode()))
        await self._call(lambda connection: rows_of(connection, _REPLACE, row))
