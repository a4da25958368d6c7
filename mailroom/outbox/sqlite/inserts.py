"""Inserts new messages, and recognizes repeated requests and events that may be handled only once."""

from collections import ChainMap
from collections.abc import Sequence
from typing import Final

import apsw
import msgspec

from mailroom.clock import Instant
from mailroom.errors import OutboxError
from mailroom.message import State, new_id
from mailroom.outbox import REPEAT_SECONDS, PutResult
from mailroom.outbox.rows import COLUMNS
from mailroom.outbox.sqlite.database import execute_bulk, rows_of

_INSERT: Final = f"INSERT INTO messages ({COLUMNS}) VALUES {{values}}"  # noqa: S608 - a constant

_REPEATED: Final = "SELECT state, created_at FROM messages WHERE id = ? AND repeat_key = ?"

SELECT_ONCE: Final = "SELECT message_id FROM once WHERE key = ? AND (until IS NULL OR until > ?)"

_INSERT_ONCE: Final = "INSERT OR REPLACE INTO once (key, message_id, until) VALUES (?, ?, ?)"

_RECENT: Final = """
    SELECT repeat_key, id, created_at
      FROM messages
     WHERE id >= ? AND repeat_key IS NOT NULL
     ORDER BY number
"""


class InsertRequest(msgspec.Struct, frozen=True, eq=False):
    """The arguments of a `put`, encoded for the database."""

    row: tuple[object, ...]
    id: str
    now: Instant
    repeat_key: bytes | None
    once: tuple[tuple[bytes, Instant | None], ...]
    """Keys that must not be stored yet, and until when each is stored."""


class RecentBodies:
    """Maps keys of request bodies to message ids, for the last 60 to 90 seconds.

    Held in memory: an index in the database would write one more page for each message.
    """

    def __init__(self) -> None:
        self._began: Instant = 0.0
        self._bodies: ChainMap[bytes, str] = ChainMap({}, {}, {})  # every 30 s the oldest map is dropped

    @classmethod
    def read(cls, connection: apsw.Connection, now: Instant) -> "RecentBodies":
        """Return the bodies of the last minute in the database."""
        recent = cls()
        for key, id_, created_at in rows_of(connection, _RECENT, (new_id(max(0.0, now - REPEAT_SECONDS), bytes(10)),)):
            recent.add(key, id_, created_at)
        return recent

    def find(self, key: bytes | None) -> str | None:
        """Return the id last stored for this body; its transaction may have been rolled back."""
        return self._bodies.get(key) if key else None

    def add(self, key: bytes, id: str, now: Instant) -> None:  # noqa: A002 - the field's word
        """Remember a body."""
        age = now - self._began
        if age >= REPEAT_SECONDS / 2 or age < -REPEAT_SECONDS:  # negative: the clock was set back
            self._began = now
            self._bodies.maps = [{}, *self._bodies.maps[:-1]]
        self._bodies[key] = id


class Inserter:
    """Inserts the messages of one transaction in few statements; one by one those that may be repeats."""

    def __init__(self, recent: RecentBodies) -> None:
        self._recent = recent

    def insert(self, connection: apsw.Connection, requests: Sequence[InsertRequest]) -> list[PutResult]:
        """Insert messages. Raises OutboxError when an id is stored already: the writer then runs each separately."""
        new: list[InsertRequest] = []
        results: dict[InsertRequest, PutResult] = {}
        for request in requests:
            if not request.once and not self._recent.find(request.repeat_key):
                new.append(request)
                results[request] = self._remember(request)
        try:
            execute_bulk(connection, _INSERT, [request.row for request in new])
            return [results.get(request) or self._insert_unless_repeated(connection, request) for request in requests]
        except apsw.ConstraintError:
            raise OutboxError(f"{requests[0].id} is stored already: an id is used once") from None

    def _insert_unless_repeated(self, connection: apsw.Connection, request: InsertRequest) -> PutResult:
        if earlier := self._recent.find(request.repeat_key):
            row = connection.execute(_REPEATED, (earlier, request.repeat_key)).fetchone()
            # No repeat if the earlier message failed, is too old, or its transaction was rolled back.
            if row and row[0] != State.FAILED and abs(request.now - row[1]) < REPEAT_SECONDS:
                return PutResult(earlier, fresh=False)
        for key, _ in request.once:
            if earlier := connection.execute(SELECT_ONCE, (key, request.now)).get:
                return PutResult(earlier, fresh=False)
        execute_bulk(connection, _INSERT, [request.row])
        connection.executemany(_INSERT_ONCE, [(key, request.id, until) for key, until in request.once])
        return self._remember(request)

    def _remember(self, request: InsertRequest) -> PutResult:
        if request.repeat_key:
            self._recent.add(request.repeat_key, request.id, request.now)
        return PutResult(request.id, fresh=True)


def delete(connection: apsw.Connection, request: InsertRequest) -> None:
    """Revert what `Inserter` has done for a request."""
    connection.execute("DELETE FROM messages WHERE id = ?", (request.id,))
    connection.execute("DELETE FROM once WHERE message_id = ?", (request.id,))


def remember(connection: apsw.Connection, key: bytes, until: Instant | None) -> None:
    """Store a `once` key that belongs to no message."""
    connection.execute(_INSERT_ONCE, (key, "", until))
