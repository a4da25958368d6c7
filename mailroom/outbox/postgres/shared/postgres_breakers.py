"""The breakers of all processes: which providers are skipped, and which process may probe one.

One process gets the right to probe when it is time, for some seconds, and longer while its probe lasts. If it has no
message for it until then, the next one gets the right. A failed probe ends it, and doubles the time for all.
"""

from collections.abc import Collection, Mapping
from functools import partial
from typing import Any, Final

from mailroom.outbox.postgres.database_pool import Connection, Database
from mailroom.outbox.postgres.database_time import DatabaseTime
from mailroom.outbox.shared import Observation, OpenBreaker

RIGHT_SECONDS: Final = 10.0
"""How long a process has the right to probe, from its last exchange on."""
_MARGIN_SECONDS: Final = 2.0
"""A probe begins so long before the right ends, so that the next exchange prolongs it in time."""
KEPT_SECONDS: Final = 600.0
"""How long a row is kept that no process uses: its provider was renamed or removed, or works again."""
_PROLONGED_SECONDS: Final = 300.0
_TOLERANCE_SECONDS: Final = 60.0
"""A row of a later time was written before the database's clock was set back."""

_OBSERVE: Final = """
    INSERT INTO mailroom.breakers AS known
           (provider, reason, opened_at, observed_at, open_seconds, probe_at, until)
    SELECT provider, reason, at, at, seconds, at + seconds, $5
      FROM unnest($1::text[], $2::text[], $3::float8[], $4::float8[]) AS observed (provider, reason, at, seconds)
     ORDER BY provider
        ON CONFLICT (provider) DO UPDATE
       SET reason = excluded.reason,
           observed_at = excluded.observed_at,
           opened_at = CASE WHEN known.reason = '' THEN excluded.opened_at ELSE known.opened_at END,
           open_seconds = CASE WHEN known.reason = '' THEN excluded.open_seconds
                               ELSE greatest(known.open_seconds, excluded.open_seconds) END,
           probe_at = CASE WHEN known.reason = '' THEN excluded.probe_at
                           ELSE greatest(known.probe_at, excluded.probe_at) END,
           prober = CASE WHEN known.reason <> '' AND excluded.reason <> '' AND known.prober <> $6 THEN known.prober END,
           until = excluded.until
     WHERE excluded.observed_at >= known.observed_at
"""

_FORGET: Final = "DELETE FROM mailroom.breakers WHERE until NOT BETWEEN $1 AND $2"

_PROLONG: Final = """
    UPDATE mailroom.breakers
       SET until = $2
     WHERE provider = ANY($1::text[]) AND reason <> '' AND until < $3
"""

# The only process keeps the right. Of several each has its turn: others come first when a right has run out.
_TAKE: Final = f"""
    UPDATE mailroom.breakers
       SET prober = $1, prober_until = $2 + {RIGHT_SECONDS}
     WHERE provider = ANY($3::text[]) AND reason <> ''
       AND (prober = $1 AND (provider = ANY($4::text[]) OR NOT EXISTS (
                SELECT FROM mailroom.owners WHERE owner <> $1 AND alive_until > $2))
            OR probe_at <= $2
               AND (prober IS NULL
                    OR prober = $1 AND prober_until < $2 - {_MARGIN_SECONDS}
                    OR prober <> $1
                       AND (prober_until NOT BETWEEN $2 AND $2 + {RIGHT_SECONDS}
                            OR prober NOT IN (SELECT owner FROM mailroom.owners WHERE alive_until > $2))))
"""  # noqa: S608 - constants

_READ: Final = """
    SELECT provider, reason, opened_at, open_seconds, prober, prober_until, until
      FROM mailroom.breakers
     ORDER BY provider
"""

_READ_OPEN: Final = """
    SELECT provider, reason, opened_at, open_seconds
      FROM mailroom.breakers
     WHERE reason <> '' AND until > extract(epoch FROM clock_timestamp())
"""


async def read_open(connection: Connection) -> Mapping[str, OpenBreaker]:
    """Return which providers are skipped, for an operator: times are the database's."""
    rows = await connection.fetch(_READ_OPEN)
    return {provider: OpenBreaker(reason, since, seconds, None) for provider, reason, since, seconds in rows}


class PostgresBreakers:
    """See `mailroom.outbox.shared.SharedBreakers`."""

    def __init__(self, database: Database, time: DatabaseTime, owner: str) -> None:
        self._database = database
        self._time = time
        self._owner = owner

    async def exchange(
        self, observed: Mapping[str, Observation], *, providers: Collection[str], probing: Collection[str]
    ) -> Mapping[str, OpenBreaker]:
        """Store what this process has observed since the last call; return which providers are skipped."""
        return await self._database.run(
            partial(self._exchange, observed=observed, providers=list(providers), probing=list(probing))
        )

    async def _exchange(
        self, connection: Connection, observed: Mapping[str, Observation], providers: list[str], probing: list[str]
    ) -> Mapping[str, OpenBreaker]:
        now = self._time.now()
        if observed:
            rows = [
                (provider, one.reason.replace("\0", ""), self._time.there(one.at), one.open_seconds)
                for provider, one in observed.items()
            ]
            await connection.execute(_OBSERVE, *zip(*rows, strict=True), now + KEPT_SECONDS, self._owner)
        if await connection.fetch(_READ):  # seldom
            await connection.execute(_FORGET, now, now + KEPT_SECONDS + _TOLERANCE_SECONDS)
            await connection.execute(_PROLONG, providers, now + KEPT_SECONDS, now + _PROLONGED_SECONDS)
            await connection.execute(_TAKE, self._owner, now, providers, probing)
            return {row["provider"]: self._open(row) for row in await connection.fetch(_READ) if row["reason"]}
        return {}

    def _open(self, row: Mapping[str, Any]) -> OpenBreaker:
        here = self._time.here
        until = here(row["prober_until"] - _MARGIN_SECONDS) if row["prober"] == self._owner else None
        return OpenBreaker(row["reason"], here(row["opened_at"]), row["open_seconds"], until)
