"""What the processes that serve from one PostgreSQL tell each other."""

from dataclasses import dataclass

from mailroom.outbox.postgres.shared.postgres_breakers import PostgresBreakers


@dataclass(frozen=True)
class PostgresShared:
    """See `mailroom.outbox.shared.Shared`."""

    breakers: PostgresBreakers
