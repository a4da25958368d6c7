"""Stores what providers put into the database, sealed: the mails of `capture`, a limited number, and secrets.

Compare with `sqlite/provider_data.py`.
"""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, Final

from mailroom.clock import Clock
from mailroom.message import Email
from mailroom.outbox.captured_mails import CapturedMail
from mailroom.outbox.postgres.batches import Batches
from mailroom.outbox.postgres.database_pool import Connection, Database
from mailroom.outbox.rows import captured_of, captured_row
from mailroom.outbox.sealed_secrets import SealedSecrets
from mailroom.sealing import Seal

_MAX_MAILS: Final = 1000
_MAX_OCTETS: Final = 64 * 1024 * 1024
_STORE_SECONDS: Final = 30.0
"""For a mail of many megabytes."""

_INSERT: Final = """
    INSERT INTO mailroom.captured (id, captured_at, size, head, raw)
    SELECT * FROM unnest($1::text[], $2::float8[], $3::integer[], $4::bytea[], $5::bytea[])
"""

_TRIM: Final = f"""
    DELETE FROM mailroom.captured
     WHERE number <= (
           SELECT number
             FROM (SELECT number,
                          count(*) OVER newest_first AS mails,
                          sum(size) OVER newest_first AS octets
                     FROM mailroom.captured
                   WINDOW newest_first AS (ORDER BY number DESC)) AS counted
            WHERE mails > {_MAX_MAILS} OR octets > {_MAX_OCTETS}
            ORDER BY number DESC
            LIMIT 1)
"""  # noqa: S608 - constants

_NEWEST: Final = "SELECT id, captured_at, size, head FROM mailroom.captured ORDER BY number DESC LIMIT $1"

_RAW: Final = "SELECT raw FROM mailroom.captured WHERE id = $1 ORDER BY number DESC LIMIT 1"

_LOCK: Final = "LOCK TABLE mailroom.captured IN SHARE ROW EXCLUSIVE MODE"
"""One at a time: they delete each other's rows."""

_SELECT_STORED: Final = "SELECT name, secret FROM mailroom.secrets WHERE name = ANY($1::text[])"
_REPLACE_STORED: Final = """
    INSERT INTO mailroom.secrets (name, secret) VALUES ($1, $2)
        ON CONFLICT (name) DO UPDATE SET secret = excluded.secret
"""


class PostgresCaptured:
    """See `mailroom.outbox.CapturedMails`."""

    def __init__(self, database: Database, *, seal: Seal, clock: Clock) -> None:
        self._database = database
        self._seal = seal
        self._clock = clock
        self._batches: Batches[tuple[Any, ...], None] = Batches(self._insert_all, seconds=_STORE_SECONDS)

    async def keep(self, email: Email) -> None:
        """Store a mail. Raises CannotKeep."""
        await self._batches.run(captured_row(email, self._seal, self._clock.now()))

    async def newest(self, limit: int) -> list[CapturedMail]:
        """Return the latest mails, newest first."""
        rows = await self._database.rows(_NEWEST, limit)
        return [captured_of(tuple(row), self._seal) for row in rows]

    async def raw(self, id: str) -> bytes | None:  # noqa: A002 - the field's word
        """Return a mail as RFC 5322 text; None: unknown id."""
        rows = await self._database.rows(_RAW, id)
        return self._seal.open(id, "raw", rows[0]["raw"]) if rows else None

    async def close(self) -> None:
        """Finish what waits."""
        await self._batches.close()

    async def _insert_all(self, rows: Sequence[tuple[Any, ...]]) -> list[None]:
        return await self._database.run(partial(_insert, rows=rows), seconds=_STORE_SECONDS)


async def _insert(connection: Connection, rows: Sequence[tuple[Any, ...]]) -> list[None]:
    await connection.execute(_LOCK)
    await connection.execute(_INSERT, *zip(*rows, strict=True))
    await connection.execute(_TRIM)
    return [None] * len(rows)


class PostgresSecrets(SealedSecrets):
    """See `mailroom.sealing.EntityStore`."""

    def __init__(self, database: Database, seal: Seal) -> None:
        super().__init__(seal)
        self._database = database

    async def _select(self, names: Sequence[str]) -> Iterable[tuple[str, bytes]]:
        return [(name, sealed) for name, sealed in await self._database.rows(_SELECT_STORED, names)]

    async def _replace(self, name: str, sealed: bytes) -> None:
        await self._database.rows(_REPLACE_STORED, name, sealed)
