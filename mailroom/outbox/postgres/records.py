"""Reads the outbox: for the console, metrics, and commands. Compare with `sqlite/queries.py`.

Look-ups span the unsettled messages and the history. Times are the database's.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from mailroom.clock import Instant
from mailroom.errors import OutboxError
from mailroom.message import Outcome, Priority, State, new_id
from mailroom.outbox import AttemptSummary, Depth, Record
from mailroom.outbox.postgres.database_pool import Database
from mailroom.outbox.postgres.periods import in_any_period
from mailroom.outbox.rows import RECORD_COLUMNS, languages_of_text, recipient_key, record_of
from mailroom.sealing import Seal

_DAY_SECONDS: Final = 86400.0
_SHORTEST_ID: Final = len("01234567-89ab")
"""Characters of an id that are the time of acceptance in milliseconds (UUIDv7)."""
_ALL: Final = 2**62
"""A LIMIT that is none."""

_OF_MESSAGES: Final = RECORD_COLUMNS.replace("settled_at", "NULL::float8 AS settled_at")
_OF_HISTORY: Final = RECORD_COLUMNS.replace("due_at", "NULL::float8 AS due_at")

_FIND_WAITING: Final = (
    f"(SELECT {_OF_MESSAGES} FROM mailroom.messages"  # noqa: S608 - constants
    "  JOIN (SELECT id, recipient_key, record FROM mailroom.contents) AS content USING (id)"
    " WHERE {where} ORDER BY {order} DESC LIMIT $1)"
)
_FIND_SETTLED: Final = f"(SELECT {_OF_HISTORY} FROM mailroom.history WHERE {{where}} ORDER BY {{order}} DESC LIMIT $1)"  # noqa: S608 - constants
_FIND_SETTLED_OF_RECIPIENT: Final = _FIND_SETTLED.replace("{where}", in_any_period() + " AND {where}")
_FIND: Final = "SELECT * FROM ({found}) AS found ORDER BY id DESC LIMIT $1"
"""`found` is one of the above, or two with a UNION ALL between them."""

_LANGUAGES: Final = f"""
    SELECT id, languages
      FROM mailroom.messages
      JOIN (SELECT id, recipient_key FROM mailroom.contents) AS content USING (id)
     WHERE recipient_key = $1 AND languages <> '[]'
     UNION ALL
    SELECT id, languages
      FROM mailroom.history
     WHERE {in_any_period()} AND recipient_key = $1 AND languages <> '[]'
     ORDER BY id DESC
     LIMIT 1
"""  # noqa: S608 - a constant

_DEPTH: Final = """
    SELECT priority, count(*), min(created_at)
      FROM mailroom.messages
     WHERE state IN ('queued', 'sending')
     GROUP BY priority
"""

_HELD: Final = """
    SELECT reason, count(*)
      FROM mailroom.messages
     WHERE state = 'held' AND ($1::smallint IS NULL OR priority = $1)
     GROUP BY reason
"""

_PAUSED: Final = "SELECT provider, since FROM mailroom.paused ORDER BY provider"

_PREFIX: Final = """
    SELECT id FROM mailroom.messages WHERE id >= $1 AND id < $1 || 'g'
     UNION ALL
    SELECT id FROM mailroom.history WHERE id >= $1 AND id < $1 || 'g'
     ORDER BY id
     LIMIT 2
"""

_OF_PROVIDER: Final = f"""
    SELECT id FROM mailroom.messages WHERE provider_message_id = $1 AND provider_message_id <> ''
     UNION ALL
    SELECT id
      FROM mailroom.history
     WHERE {in_any_period()} AND provider_message_id = $1 AND provider_message_id <> ''
     LIMIT 2
"""  # noqa: S608 - a constant

_NEIGHBOURS: Final = """
    SELECT value,
           (SELECT max(id) FROM mailroom.messages WHERE id < value),
           (SELECT min(id) FROM mailroom.messages WHERE id > value),
           (SELECT max(id) FROM mailroom.history WHERE id < value),
           (SELECT min(id) FROM mailroom.history WHERE id > value)
      FROM unnest($1::text[]) AS value
"""

_IN_STATE: Final = "SELECT id FROM mailroom.messages WHERE state = $1 ORDER BY number"

_COUNT_SETTLED: Final = "SELECT count(*) FROM mailroom.history WHERE id < $1 AND created_at < $2"

# At most $2 of the newest messages since $1, and as many of the older ones that are not settled.
_RECENT: Final = """
    WITH recent (attempts, priority) AS (
        (SELECT attempts, priority FROM mailroom.history WHERE id >= $1 ORDER BY id DESC LIMIT $2)
        UNION ALL
        (SELECT attempts, priority FROM mailroom.messages ORDER BY id DESC LIMIT $2)
    )"""

_TRIED: Final = f"""{_RECENT},
    tried (provider, outcome, started_at, words) AS (
        SELECT one ->> 'provider', one ->> 'outcome', (one ->> 'started_at')::float8,
               coalesce(one ->> 'words', '')  -- what is empty may be left out
          FROM recent CROSS JOIN LATERAL json_array_elements(attempts) AS one
         WHERE $4::smallint IS NULL OR priority = $4
    )
    SELECT provider, outcome, count(*), max(started_at), (array_agg(words ORDER BY started_at DESC))[1]
      FROM tried
     WHERE started_at >= $3
     GROUP BY provider, outcome
     ORDER BY max(started_at) DESC
"""  # noqa: S608 - a constant

_ACCEPTED: Final = f"""{_RECENT},
    ended (at) AS (
        SELECT (one ->> 'started_at')::float8 + coalesce((one ->> 'duration_seconds')::float8, 0)
          FROM recent CROSS JOIN LATERAL json_array_elements(attempts) AS one
         WHERE one ->> 'provider' = $4 AND one ->> 'outcome' IN ('accepted', 'uncertain')
    )
    SELECT max(at), count(*)
      FROM ended
     WHERE at >= $3
     GROUP BY floor(at / $5)
     ORDER BY 1
"""  # noqa: S608 - a constant


class PostgresRecords:
    """The read-only methods of the outbox."""

    def __init__(self, database: Database, seal: Seal) -> None:
        self._database = database
        self._seal = seal

    async def get(self, id: str) -> Record | None:  # noqa: A002 - the field's word
        """Return one message's record."""
        records = await self._find([_FIND_WAITING, _FIND_SETTLED], ["id = $2"], "id", 1, id)
        return records[0] if records else None

    async def find(
        self,
        *,
        recipient: str | None = None,
        state: State | None = None,
        before: str | None = None,
        limit: int = 50,
    ) -> list[Record]:
        """Return records, newest first; `before` is the id at which the last page ended."""
        where: list[str] = ["true"]
        find_settled = _FIND_SETTLED if recipient is None else _FIND_SETTLED_OF_RECIPIENT
        tables = [_FIND_WAITING, find_settled]
        bindings: list[bytes | str] = []
        order = "id"

        def bind(condition: str, value: bytes | str) -> None:
            bindings.append(value)
            where.append(condition.format(f"${len(bindings) + 1}"))

        if recipient is not None:
            try:
                bind("recipient_key = {}", recipient_key(self._seal, recipient))
            except ValueError:  # not an address, so it has no messages
                return []
            order = "(id || '')"  # sorting these few is faster than a search by id among all
        if state is not None:
            bind("state = {}", state.value)
            tables = [find_settled if state.settled else _FIND_WAITING]
            if state.settled and state not in {State.SENT, State.DELIVERED}:
                where.append("state NOT IN ('sent', 'delivered')")  # the partial index has this condition
        if before is not None:
            bind(f"{order} < {{}}", before)
        return await self._find(tables, where, order, limit, *bindings)

    async def _find(
        self, tables: list[str], where: list[str], order: str, limit: int, *bindings: object
    ) -> list[Record]:
        found = " UNION ALL ".join(tables).format(where=" AND ".join(where), order=order)
        sql = _FIND.format(found=found)
        return [record_of(tuple(row), self._seal) for row in await self._database.rows(sql, limit, *bindings)]

    async def languages(self, recipient: str) -> tuple[str, ...]:
        """Return the languages of the last mail to this address that had any, or ()."""
        try:
            key = recipient_key(self._seal, recipient)
        except ValueError:  # not an address, so it has no messages
            return ()
        rows = await self._database.rows(_LANGUAGES, key)
        return languages_of_text(rows[0]["languages"]) if rows else ()

    async def depth(self) -> Mapping[Priority, Depth]:
        """Return the number and age of waiting messages, by priority."""
        rows = await self._database.rows(_DEPTH)
        depths = {Priority(priority): Depth(count, oldest) for priority, count, oldest in rows}
        return {priority: depths.get(priority, Depth(0, None)) for priority in Priority}

    async def held(self, *, priority: Priority | None = None) -> Mapping[str, int]:
        """Return how many messages are held, by reason; `priority`: only these."""
        return {reason: count for reason, count in await self._database.rows(_HELD, priority)}  # noqa: C416 - rows are no pairs

    async def paused(self) -> Mapping[str, Instant]:
        """Return the providers that an operator has paused, and since when."""
        return {provider: since for provider, since in await self._database.rows(_PAUSED)}  # noqa: C416 - likewise

    async def resolve(self, prefix: str) -> str:
        """Return the id that begins so, or has this provider's id. Raises OutboxError when none has, or several."""
        prefix = prefix.replace("\0", "")
        rows = await self._database.rows(_PREFIX, prefix.lower()) if prefix else []
        if prefix and not rows:
            rows = await self._database.rows(_OF_PROVIDER, prefix)
        ids: list[str] = [row["id"] for row in rows]
        if not ids:
            raise OutboxError(f"there is no message {prefix}; records are deleted after `retention`")
        if len(ids) > 1:
            raise OutboxError(f"more than one id begins with {prefix}: write more of it")
        return ids[0]

    async def short_ids(self, ids: Sequence[str]) -> Mapping[str, str]:
        """Return for each id its shortest prefix that no other id has; at least its time of acceptance."""
        rows = await self._database.rows(_NEIGHBOURS, list(ids))
        return {id_: _shorten(id_, [other for other in others if other]) for id_, *others in rows}

    async def in_state(self, state: State) -> list[str]:
        """Return the ids of all messages that wait in this state, oldest first."""
        return [row["id"] for row in await self._database.rows(_IN_STATE, state.value)]

    async def count_settled(self, *, before: Instant) -> int:
        """Return how many settled messages were accepted before."""
        [(count,)] = await self._database.rows(_COUNT_SETTLED, new_id(max(0.0, before), bytes(10)), before)
        return int(count)

    async def tried(
        self, *, since: Instant, accepted: Instant, priority: Priority | None = None, limit: int = -1
    ) -> list[AttemptSummary]:
        """Return the numbers of attempts that began at `since` or later, by provider and outcome, newest first.

        Counts messages accepted at `accepted` or later, and older ones that are not settled yet. `priority`: only
        these; `limit`: at most so many of the newest settled messages, and as many of the others.
        """
        oldest = new_id(max(0.0, accepted), bytes(10))
        rows = await self._database.rows(_TRIED, oldest, limit if limit >= 0 else _ALL, since, priority)
        return [
            AttemptSummary(provider, Outcome(outcome) if outcome else None, count, last_at, words)
            for provider, outcome, count, last_at, words in rows
        ]

    async def accepted(self, provider: str, *, since: Instant, slice_seconds: float) -> list[tuple[Instant, int]]:
        """Return how many mails a provider has accepted since then, or may have: time and number for each slice.

        Reads messages of the period and of the day before it, and older ones that are not settled yet.
        """
        oldest = new_id(max(0.0, since - _DAY_SECONDS), bytes(10))
        rows = await self._database.rows(_ACCEPTED, oldest, _ALL, since, provider, slice_seconds)
        return [(at, count) for at, count in rows]

    async def free_bytes(self) -> int | None:
        """Return None: the database's disk is not ours to see."""
        return None

    async def close(self) -> None:
        """Close the connections."""
        await self._database.close()


def _shorten(id_: str, others: Sequence[str]) -> str:
    """Return the shortest prefix of an id that others do not begin with."""
    prefixes = (id_[:length] for length in range(_SHORTEST_ID, len(id_) + 1))
    return next(prefix for prefix in prefixes if not any(other.startswith(prefix) for other in others))
