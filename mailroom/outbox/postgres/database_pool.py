"""Connects to PostgreSQL and runs transactions, each within a bounded time.

    database = await Database.create("postgresql://mailroom@db1,db2/mailroom?sslmode=verify-full&sslrootcert=/etc/ca.pem")
    count = await database.run(lambda connection: connection.fetchval("SELECT count(*) FROM mailroom.messages"))

The URL is libpq's, as asyncpg reads it: several hosts, `target_session_attrs`, `sslmode`, `sslrootcert`, `passfile`.
`pgbouncer=true` is ours: no prepared statements, so that PgBouncer may give each transaction another connection.
Settings of the session are then made in each transaction, for the same reason.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Final, TypeAlias, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import asyncpg

from mailroom.errors import CannotKeep

Result = TypeVar("Result")
Connection: TypeAlias = Any
"""asyncpg.Connection, or a pool's proxy of one: asyncpg ships no types for them."""

ANSWER_SECONDS: Final = 2.0
"""How long a transaction may take, its connection included; `POST /email` then answers 503."""
_STATEMENT_MILLISECONDS: Final = 1800
"""A statement ends before its transaction is given up, so that the server does not go on with it alone."""
_LOCK_MILLISECONDS: Final = 1400
"""Longer than PostgreSQL's `deadlock_timeout`: then one of two that wait for each other ends, and is repeated."""
_CONNECTIONS: Final = 8
"""Per process: four that write in batches, two of them puts; the others for claims and readers."""
_RETRIES: Final = 3
"""Of transactions that PostgreSQL ended because of others: deadlocks, serialization failures, migrations."""

_CONFLICTS: Final = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError, asyncpg.InvalidCachedStatementError)
_REFUSALS: Final = (asyncpg.UniqueViolationError, asyncpg.DataError)
"""Errors that a single operation causes, by what it stores."""
FAILURES: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
"""Everything else that can be wrong with a database or the way to it; with no host that can store it is the third."""
_STALE: Final = (
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
)
"""The server is a standby now, or shuts down: other connections to it are as useless."""


class Database:
    """A pool of connections, opened when they are needed."""

    def __init__(self, pool: Any, seconds: float, *, keeps_sessions: bool) -> None:
        self.seconds = seconds
        self._pool = pool
        self._keeps_sessions = keeps_sessions
        """Whether settings of a connection last longer than its transaction: not through PgBouncer."""

    @classmethod
    async def create(cls, url: str, *, seconds: float = ANSWER_SECONDS) -> "Database":
        """Return a pool without connections; `seconds`: how long a transaction may take, unless `run` is told.

        Raises CannotKeep for a URL or a file in it that cannot be used.
        """

        async def keep_session(_: Connection) -> None:
            """Skip the round trip in which asyncpg resets a session: ours keep the settings of `set_up`."""

        async def set_up(connection: Connection) -> None:
            if keeps_sessions:
                await connection.execute(_settings(seconds, "SESSION"))

        dsn, options = connect_options(url)
        keeps_sessions = not is_pooled(url)
        try:
            pool = await asyncpg.create_pool(
                dsn, min_size=0, max_size=_CONNECTIONS, init=set_up, reset=keep_session, **options
            )
        except (*FAILURES, ValueError) as error:
            raise CannotKeep(f"the database cannot be used: {describe(error)}") from error
        return cls(pool, seconds, keeps_sessions=keeps_sessions)

    async def run(self, work: Callable[[Connection], Awaitable[Result]], *, seconds: float | None = None) -> Result:
        """Run work in one transaction and return its result once that is durable.

        Raises CannotKeep when the database did not answer in time or refused: the transaction may have been
        committed all the same if the connection broke meanwhile. Raises asyncpg's UniqueViolationError and DataError.
        """
        seconds = self.seconds if seconds is None else seconds
        begin = ["BEGIN"]
        if not self._keeps_sessions or seconds != self.seconds:
            begin.append(_settings(seconds, "LOCAL"))

        async def transact(connection: Connection) -> Result:
            await connection.execute("; ".join(begin))  # one round trip
            result = await work(connection)
            await connection.execute("COMMIT")
            return result

        return await self._within(seconds, transact)

    async def rows(self, sql: str, *arguments: object) -> Sequence[Any]:
        """Run one statement, which is a transaction of its own; return all its rows. Raises as `run`."""

        async def fetch(connection: Connection) -> Sequence[Any]:
            rows: Sequence[Any] = await connection.fetch(sql, *arguments)
            return rows

        return await (self._within(self.seconds, fetch) if self._keeps_sessions else self.run(fetch))

    async def _within(self, seconds: float, work: Callable[[Connection], Awaitable[Result]]) -> Result:
        """Run work on a connection, again if it lost against another transaction. Raises as `run`."""
        try:
            async with asyncio.timeout(seconds):
                for _ in range(_RETRIES):
                    with suppress(*_CONFLICTS):
                        return await self._connected(work)
                return await self._connected(work)
        except _REFUSALS:
            raise
        except TimeoutError as error:
            raise CannotKeep(f"the database did not answer within {seconds:g} s") from error
        except FAILURES as error:
            if isinstance(error, _STALE):
                await self._pool.expire_connections()
            raise CannotKeep(f"the database cannot be used: {describe(error)}") from error

    async def _connected(self, work: Callable[[Connection], Awaitable[Result]]) -> Result:
        connection = await self._pool.acquire()
        try:
            return await work(connection)
        except BaseException as error:
            await _abandon(connection, error)
            raise
        finally:
            await self._pool.release(connection)

    async def close(self) -> None:
        """Close all connections."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._pool.close()
        except (TimeoutError, *FAILURES):
            self._pool.terminate()


async def _abandon(connection: Connection, error: BaseException) -> None:
    """Roll back after an error of the server; close the connection if it ends or a query may be running."""
    is_usable = False
    try:
        if isinstance(error, asyncpg.PostgresError) and not isinstance(error, _STALE):
            with suppress(*FAILURES):
                if connection.is_in_transaction():
                    await connection.execute("ROLLBACK")
                is_usable = True
    finally:
        if not is_usable:
            with suppress(asyncpg.InterfaceError):  # it is closed already
                connection.terminate()


def connect_options(url: str) -> tuple[str, dict[str, Any]]:
    """Return the DSN and the arguments with which asyncpg connects."""
    parts = urlsplit(url)
    query = parse_qsl(parts.query, keep_blank_values=True)
    kept = [(name, value) for name, value in query if name != "pgbouncer"]
    if not any(name == "target_session_attrs" for name, _ in kept):
        kept.append(("target_session_attrs", "read-write"))  # of several hosts the one that can store
    dsn = urlunsplit(parts._replace(query=urlencode(kept)))
    options: dict[str, Any] = {"timeout": ANSWER_SECONDS, "server_settings": {"application_name": "mailroom"}}
    if is_pooled(url):
        options["statement_cache_size"] = 0
    return dsn, options


def is_pooled(url: str) -> bool:
    """Return whether each transaction may get another connection: `pgbouncer=true`."""
    return dict(parse_qsl(urlsplit(url).query)).get("pgbouncer", "").lower() in {"true", "1", "yes", "on"}


def describe(error: BaseException) -> str:
    """Return what an operator is told of an error: no values, no statement."""
    if isinstance(error, asyncpg.PostgresError):
        return f"{error.args[0] if error.args else type(error).__name__} (SQLSTATE {error.sqlstate})"
    return str(error) or type(error).__name__


def _settings(seconds: float, scope: str) -> str:
    """Return statements for transactions that may take so long; `scope`: SESSION or LOCAL.

    `synchronous_commit = off`, a server's or a role's default, would acknowledge what a crash loses. The planner reads
    a whole table if it was small when the statement was planned, and goes on while the table grows: settling 100
    messages rose from 3 to 9 ms within 15,000. Before version 18 a table that must be read all the same then seems so
    dear that the statement is compiled: 80 ms of CPU each time.
    """
    statement = min(_STATEMENT_MILLISECONDS, int(seconds * 900)) if seconds <= ANSWER_SECONDS else int(seconds * 1000)
    return (
        f"SET {scope} statement_timeout = {statement}; SET {scope} lock_timeout = {_LOCK_MILLISECONDS};"
        f" SET {scope} enable_seqscan = off; SET {scope} jit = off;"
        f" SELECT set_config('synchronous_commit', 'on', {'true' if scope == 'LOCAL' else 'false'})"
        " WHERE current_setting('synchronous_commit') IN ('off', 'local')"
    )
