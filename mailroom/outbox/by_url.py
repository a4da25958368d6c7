"""Chooses the engine that a `database_url` names, and imports no other."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from mailroom.clock import Clock
from mailroom.errors import OutboxError
from mailroom.outbox import Outbox
from mailroom.outbox.limits import RateLimit
from mailroom.outbox.operator_outbox import OperatorOutbox
from mailroom.sealing import buffered_entropy

SQLITE: Final = "sqlite:///"
POSTGRES: Final = ("postgresql://", "postgres://")


def is_postgres(url: str) -> bool:
    """Return whether the outbox is in PostgreSQL."""
    return url.startswith(POSTGRES)


def sqlite_path(url: str) -> Path:
    """Return the SQLite file."""
    return Path(url.removeprefix(SQLITE))


def place_of(url: str, *, absolute: bool = False) -> str:
    """Return where the outbox is, to be shown: without user and password; `absolute`: with the whole path of a file."""
    if not is_postgres(url):
        path = sqlite_path(url)
        return str(path.absolute() if absolute else path)
    parts = urlsplit(url)
    return f"postgresql://{parts.netloc.rpartition('@')[2]}{parts.path}"


async def open_outbox(
    url: str,
    *,
    secret_keys: Sequence[str],
    clock: Clock,
    wait_seconds: float | None,
    listen_url: str | None = None,
    recipient_limit: RateLimit | None,
    event_limit: RateLimit | None,
) -> Outbox:
    """Open the outbox for serving; `wait_seconds` is how long to wait for another process that has the file.

    `listen_url`: the way to PostgreSQL without a PgBouncer. Raises OutboxError, OutboxInUse and SealBroken.
    """
    options: dict[str, Any] = {
        "secret_keys": secret_keys,
        "clock": clock,
        "entropy": buffered_entropy,
        "recipient_limit": recipient_limit,
        "event_limit": event_limit,
    }
    if is_postgres(url):
        require_asyncpg()
        from mailroom.outbox.postgres.postgres_engine import PostgresOutbox  # noqa: PLC0415 - takes 100 ms

        return await PostgresOutbox.open(url, listen_url=listen_url, **options)
    from mailroom.outbox.sqlite.engine import SqliteOutbox  # noqa: PLC0415 - likewise

    return await SqliteOutbox.open(sqlite_path(url), wait_seconds=wait_seconds, **options)


async def open_operator_outbox(url: str, *, secret_keys: Sequence[str]) -> OperatorOutbox:
    """Open the outbox for a command, beside the servers that use it. Raises OutboxError, SealBroken."""
    if is_postgres(url):
        require_asyncpg()
        from mailroom.outbox.postgres.postgres_operator import open_operator  # noqa: PLC0415 - likewise

        return await open_operator(url, secret_keys=secret_keys)
    from mailroom.outbox.sqlite.operator import open_for_operator  # noqa: PLC0415 - half of a command's start-up time

    return await open_for_operator(sqlite_path(url), secret_keys=secret_keys)


def check_outbox(url: str, secret_keys: Sequence[str]) -> None:
    """Check, before a predecessor ends, what waiting for it would not change. Raises OutboxError, SealBroken.

    On PostgreSQL the predecessor serves until this process has opened the outbox, so there is nothing to check.
    """
    if not is_postgres(url):
        from mailroom.outbox.sqlite.database import check  # noqa: PLC0415 - likewise

        check(sqlite_path(url), secret_keys)


def require_asyncpg() -> None:
    """Raise OutboxError if the extra is not installed."""
    try:
        import asyncpg  # noqa: F401, PLC0415 - an extra
    except ImportError:
        raise OutboxError("PostgreSQL needs asyncpg: pip install 'mailroom[postgres]'") from None
