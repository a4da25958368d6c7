"""What the processes that serve from one PostgreSQL tell each other."""

from dataclasses import dataclass

from mailroom.outbox.postgres.shared.postgres_breakers import PostgresBreakers
from mailroom.outbox.postgres.shared.postgres_counts import PostgresCounts


@dataclass(frozen=True)
class PostgresShared:
    """See `mailroom.outbox.shared.Shared`."""

    counts: PostgresCounts
    breakers: PostgresBreakers
