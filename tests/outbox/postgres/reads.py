"""Counts what PostgreSQL reads: a plan is judged by that, not by its time; and waits until it waits for locks."""

import asyncio
from typing import Final

from mailroom.outbox.postgres.database_pool import Connection
from mailroom.outbox.postgres.records import PostgresRecords

_READ: Final = """
    SELECT (SELECT sum(seq_tup_read) FROM pg_stat_user_tables WHERE schemaname = 'mailroom')
         + (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE schemaname = 'mailroom')
"""


async def rows_read(outbox: PostgresRecords) -> int:
    """Return how many rows and index entries were read so far."""
    await outbox._database.rows("SELECT pg_stat_force_next_flush()")
    [(count,)] = await outbox._database.rows(_READ)
    return int(count)


async def wait_for_locks(connection: Connection, count: int = 1) -> None:
    """Return once so many transactions wait for a lock."""
    async with asyncio.timeout(10):
        while await connection.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted") < count:
            pass
