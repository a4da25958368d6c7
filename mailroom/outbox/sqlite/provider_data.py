"""Stores what providers put into the outbox's file, sealed: the mails of `capture`, a limited number, and secrets."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final

import apsw
import msgspec

from mailroom.clock import Clock
from mailroom.message import Email
from mailroom.outbox.captured_mails import CapturedMail
from mailroom.outbox.rows import captured_of, captured_row
from mailroom.outbox.sealed_secrets import SealedSecrets
from mailroom.outbox.sqlite.database import rows_of
from mailroom.outbox.sqlite.queries import Reader
from mailroom.outbox.sqlite.writer import Writer
from mailroom.sealing import Seal

_MAX_MAILS: Final = 1000
_MAX_OCTETS: Final = 64 * 1024 * 1024

_INSERT: Final = "INSERT INTO captured (id, captured_at, size, head, raw) VALUES (?, ?, ?, ?, ?)"

_TRIM: Final = f"""
    DELETE FROM captured
     WHERE number <= (
           SELECT number
             FROM (SELECT number,
                          count(*) OVER newest_first AS mails,
                          sum(size) OVER newest_first AS octets
                     FROM captured
                   WINDOW newest_first AS (ORDER BY number DESC))
            WHERE mails > {_MAX_MAILS} OR octets > {_MAX_OCTETS}
            LIMIT 1)
"""  # noqa: S608 - constants

_NEWEST: Final = "SELECT id, captured_at, size, head FROM captured ORDER BY number DESC LIMIT ?"

_RAW: Final = "SELECT raw FROM captured WHERE id = ? ORDER BY number DESC LIMIT 1"

_SELECT_STORED: Final = "SELECT name, secret FROM secrets WHERE name IN (SELECT value FROM json_each(?))"
_REPLACE_STORED: Final = "INSERT OR REPLACE INTO secrets (name, secret) VALUES (?, ?)"


class SqliteCaptured:
    """See `mailroom.outbox.CapturedMails`."""

    def __init__(self, writer: Writer, reader: Reader, *, seal: Seal, clock: Clock) -> None:
        self._writer = writer
        self._reader = reader
        self._seal = seal
        self._clock = clock

    async def keep(self, email: Email) -> None:
        """Store a mail. Raises CannotKeep."""
        await self._writer.run(_insert, captured_row(email, self._seal, self._clock.now()))

    async def newest(self, limit: int) -> list[CapturedMail]:
        """Return the latest mails, newest first."""
        rows = await self._reader.rows(_NEWEST, (limit,))
        return [captured_of(tuple(row), self._seal) for row in rows]

    async def raw(self, id: str) -> bytes | None:  # noqa: A002 - the field's word
        """Return a mail as RFC 5322 text; None: unknown id."""
        rows = await self._reader.rows(_RAW, (id,))
        return self._seal.open(id, "raw", rows[0][0]) if rows else None


def _insert(connection: apsw.Connection, rows: Sequence[tuple[Any, ...]]) -> list[None]:
    connection.executemany(_INSERT, rows)
    connection.execute(_TRIM)
    return [None] * len(rows)


class SqliteSecrets(SealedSecrets):
    """See `mailroom.sealing.EntityStore`. `call` runs a function in a transaction."""

    def __init__(
        self, reader: Reader, call: Callable[[Callable[[apsw.Connection], Any]], Awaitable[Any]], seal: Seal
    ) -> None:
        super().__init__(seal)
        self._reader = reader
        self._call = call

    async def _select(self, names: Sequence[str]) -> Iterable[tuple[str, bytes]]:
        return await self._reader.rows(_SELECT_STORED, (msgspec.json.encode(names).decode(),))

    async def _replace(self, name: str, sealed: bytes) -> None:
        await self._call(lambda connection: rows_of(connection, _REPLACE_STORED, (name, sealed)))
