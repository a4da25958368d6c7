"""Migrates the schema, and reads the data key in it. Compare with `sqlite/database.py`.

Migrations go forward only. Each says in its first line which older programs still work with it, so that a deploy can
replace one process after the other.
"""

import re
from pathlib import Path
from typing import Final

from mailroom.errors import OutboxError
from mailroom.outbox.postgres.database_pool import Connection, Database
from mailroom.sealing import Entropy, Seal, new_data_key, unwrap, wrap

SCHEMA: Final = Path(__file__).parent / "schema"
"""The folder of the migrations: `postgres-1.sql`, `postgres-2.sql` …"""
_OLDEST: Final = re.compile(r"-- oldest: (\d+)\b")
_LOCK: Final = 0x4D41494C
"""Of all processes that start at the same time one migrates; the others wait."""
_LOCK_MILLISECONDS: Final = 5000
"""How long to wait for it, and for tables in use; then the server listens, answers 503, and tries again."""
_MIGRATION_SECONDS: Final = 3600.0

_CREATE: Final = """
    CREATE SCHEMA IF NOT EXISTS mailroom;
    CREATE TABLE IF NOT EXISTS mailroom.schema (
        version integer PRIMARY KEY,
        oldest  integer NOT NULL  -- the oldest version whose programs work with this one
    )
"""
# By a table: `to_regclass` would answer from a cache that waiting for the lock does not refresh.
_EXISTS: Final = "SELECT EXISTS (SELECT 1 FROM pg_tables WHERE schemaname = 'mailroom' AND tablename = 'schema')"
_VERSION: Final = "SELECT version, oldest FROM mailroom.schema ORDER BY version DESC LIMIT 1"
_ADD_VERSION: Final = "INSERT INTO mailroom.schema (version, oldest) VALUES ($1, $2)"
_WRAPPED: Final = "SELECT wrapped FROM mailroom.keys"
_SET_WRAPPED: Final = """
    INSERT INTO mailroom.keys (number, wrapped) VALUES (1, $1)
        ON CONFLICT (number) DO UPDATE SET wrapped = excluded.wrapped
"""


async def prepare(
    database: Database, secret_keys: list[str], entropy: Entropy, *, wrapped: bytes | None = None
) -> Seal:
    """Bring the database to the newest schema, and return its seal; creates what a new database lacks.

    `wrapped`: the data key that it has or gets, wrapped. Raises OutboxError, also when it has another one (CannotKeep
    while another process migrates), and SealBroken when no secret matches.
    """

    async def migrate(connection: Connection) -> Seal:
        await connection.execute(f"SET LOCAL lock_timeout = {_LOCK_MILLISECONDS}")
        await connection.execute(f"SELECT pg_advisory_xact_lock({_LOCK})")
        for number, sql in await _pending(connection):
            if number == 1:
                await connection.execute(_CREATE)
            await connection.execute(sql)
            await connection.execute(_ADD_VERSION, number, _oldest(sql))
        return await _create_or_unlock_seal(connection, secret_keys, entropy, wrapped)

    await database.rows(_EXISTS)  # a database that does not answer is noticed before the long time limit
    return await database.run(migrate, seconds=_MIGRATION_SECONDS)


async def unlock(database: Database, secret_keys: list[str]) -> Seal:
    """Return the seal of a database that a server has prepared. Raises OutboxError, SealBroken."""

    async def read(connection: Connection) -> bytes | None:
        if await _pending(connection):
            raise OutboxError("the outbox has an older schema: serve it once with this version of Mailroom")
        wrapped: bytes | None = await connection.fetchval(_WRAPPED)
        return wrapped

    wrapped = await database.run(read)
    if wrapped is None:
        raise OutboxError("it is being created: it has no data key yet")
    return Seal(unwrap(wrapped, secret_keys)[0])


async def _pending(connection: Connection) -> list[tuple[int, str]]:
    """Return the migrations to run. Raises OutboxError when the schema is too new for this program."""
    migrations = sorted((int(file.stem.removeprefix("postgres-")), file) for file in SCHEMA.glob("postgres-*.sql"))
    newest, _ = migrations[-1]
    row = await connection.fetchrow(_VERSION) if await connection.fetchval(_EXISTS) else None
    version, oldest = row or (0, 0)
    if oldest > newest:
        raise OutboxError(
            f"the outbox was written by a newer Mailroom (schema {version}, which this one, {newest}, cannot use): "
            "serve it with the newer version"
        )
    return [(number, file.read_text(encoding="utf-8")) for number, file in migrations if number > version]


def _oldest(sql: str) -> int:
    match = _OLDEST.match(sql)
    if not match:
        raise OutboxError("a migration does not say which older programs work with it")
    return int(match[1])


async def _create_or_unlock_seal(
    connection: Connection, secret_keys: list[str], entropy: Entropy, wanted: bytes | None
) -> Seal:
    stored: bytes | None = await connection.fetchval(_WRAPPED)
    wrapped = wanted if stored is None else stored
    data_key, is_current = (new_data_key(entropy), False) if wrapped is None else unwrap(wrapped, secret_keys)
    if wanted is not None and data_key != unwrap(wanted, secret_keys)[0]:
        raise OutboxError("this database is another outbox, with a data key of its own: use an empty one")
    if stored is None or not is_current:
        await connection.execute(_SET_WRAPPED, wrap(data_key, secret_keys[0], entropy))
    return Seal(data_key, entropy=entropy)
