"""Inserts new messages, and recognizes repeated requests and events that may be handled only once."""

from collections import deque
from collections.abc import Sequence
from typing import Final

import apsw
import msgspec

from mailroom.clock import Instant
from mailroom.errors import LimitExceeded, OutboxError
from mailroom.message import Priority, State, new_id
from mailroom.outbox import HELD_FLOOD, REPEAT_SECONDS, PutResult
from mailroom.outbox.limits import RateLimit, SlidingWindow
from mailroom.outbox.rows import COLUMNS
from mailroom.outbox.sqlite.database import execute_bulk, rows_of
from mailroom.outbox.sqlite.recent_keys import RecentKeys
from mailroom.outbox.sqlite.recipient_limit import RecipientLimiter

_CODE, _EVENT = Priority.CODE, Priority.EVENT  # looked up once: each access takes 0.15 µs on Python 3.11

_INSERT: Final = f"INSERT INTO messages ({COLUMNS}) VALUES {{values}}"  # noqa: S608 - a constant

_REPEATED: Final = "SELECT state, created_at FROM messages WHERE id = ? AND repeat_key = ?"

SELECT_ONCE: Final = "SELECT message_id FROM once WHERE key = ? AND (until IS NULL OR until > ?)"

_INSERT_ONCE: Final = "INSERT OR REPLACE INTO once (key, message_id, until) VALUES (?, ?, ?)"

_HOLD: Final = """
    UPDATE messages
       SET state = 'held', reason = ?, owner = NULL, attempts = '[]', due_at = expires_at
     WHERE id = ?
"""

_CONTEST: Final = """
    UPDATE messages
       SET contested = 1
     WHERE number IN (
           SELECT number FROM recipients WHERE recipient_key = ?1
            UNION ALL
           SELECT number FROM messages WHERE number > (SELECT indexed FROM progress) AND recipient_key = ?1)
       AND supersede_key = ?2 AND due_at IS NOT NULL
"""

_EXISTS: Final = "SELECT EXISTS (SELECT 1 FROM messages WHERE id = ?)"

_UNSETTLED_KEYS: Final = """
    SELECT supersede_key
      FROM messages
     WHERE priority = ? AND due_at IS NOT NULL AND supersede_key IS NOT NULL
"""

_RECENT: Final = """
    SELECT repeat_key, id, created_at
      FROM messages
     WHERE id >= ? AND repeat_key IS NOT NULL
     ORDER BY number
"""


_RECENT_EVENTS: Final = """
    SELECT created_at
      FROM messages
     WHERE id >= ?1 AND created_at > ?2 AND created_at <= ?3 AND priority = ?4 AND reason <> ?5
       AND id <> ?6
     ORDER BY number
"""


class InsertRequest(msgspec.Struct, frozen=True, eq=False):
    """The arguments of a `put`, encoded for the database."""

    row: tuple[object, ...]
    id: str
    created_at: Instant
    now: Instant
    """The engine's time."""
    priority: Priority
    recipient_key: bytes
    repeat_key: bytes | None
    supersede_key: bytes | None
    once: tuple[tuple[bytes, Instant | None], ...]
    """Keys that must not be stored yet, and until when each is stored."""


class RecentBodies:
    """Maps keys of request bodies to message ids, for the last 60 to 90 seconds.

    Held in memory: an index in the database would write one more page for each message.
    """

    def __init__(self) -> None:
        self._began: Instant = 0.0
        self._bodies: deque[dict[bytes, str]] = deque([{}], 3)  # a map for each 30 s, the latest first

    @classmethod
    def read(cls, connection: apsw.Connection, now: Instant) -> "RecentBodies":
        """Return the bodies of the last minute in the database."""
        recent = cls()
        for key, id_, created_at in rows_of(connection, _RECENT, (new_id(max(0.0, now - REPEAT_SECONDS), bytes(10)),)):
            recent.add(key, id_, created_at)
        return recent

    def find(self, key: bytes | None) -> str | None:
        """Return the id last stored for this body; its transaction may have been rolled back."""
        if key:
            for bodies in self._bodies:
                if earlier := bodies.get(key):
                    return earlier
        return None

    def add(self, key: bytes, id: str, now: Instant) -> None:  # noqa: A002 - the field's word
        """Remember a body."""
        age = now - self._began
        if age >= REPEAT_SECONDS / 2 or age < -REPEAT_SECONDS:  # negative: the clock was set back
            self._began = now
            self._bodies.appendleft({})
        self._bodies[0][key] = id


class Inserter:
    """Inserts the messages of one transaction in few statements; one by one those that need to be compared first.

    These are messages that may be repeats, codes that may exceed their recipient's limit or have an earlier one for the
    same sign-in, and events.
    """

    def __init__(
        self, recent: RecentBodies, recipients: RecipientLimiter | None = None, events: SlidingWindow | None = None
    ) -> None:
        self._recent = recent
        self._keys = RecentKeys()
        self._recipients = recipients
        self._events = events
        self._last_event = ""

    @classmethod
    def read(
        cls, connection: apsw.Connection, now: Instant, *, recipients: RateLimit | None, events: RateLimit | None
    ) -> "Inserter":
        """Return an inserter that knows of the latest messages in the database."""
        inserter = cls(
            RecentBodies.read(connection, now),
            RecipientLimiter.read(connection, recipients, now) if recipients else None,
            _read_events(connection, events, now) if events else None,
        )
        for (key,) in connection.execute(_UNSETTLED_KEYS, (int(Priority.CODE),)):
            inserter._keys.add(key, now)
        return inserter

    def insert(self, connection: apsw.Connection, requests: Sequence[InsertRequest]) -> list[PutResult | LimitExceeded]:
        """Insert messages; a LimitExceeded is for the caller to raise.

        Raises OutboxError when an id is stored already: the writer then runs each separately.
        """
        new: list[InsertRequest] = []
        results: dict[InsertRequest, PutResult] = {}
        for request in requests:
            if self._is_new(request):
                new.append(request)
                results[request] = self._remember(request)
        try:
            execute_bulk(connection, _INSERT, [request.row for request in new])
            return [results.get(request) or self._compare_and_insert(connection, request) for request in requests]
        except apsw.ConstraintError:
            raise OutboxError(f"{requests[0].id} is stored already: an id is used once") from None

    def _is_new(self, request: InsertRequest) -> bool:
        """Return whether a message can be inserted without further comparisons; counts it if so."""
        if request.once or request.priority is _EVENT or self._recent.find(request.repeat_key):
            return False
        if request.supersede_key and self._keys.add(request.supersede_key, request.now):
            return False
        return self._admit(request)

    def _admit(self, request: InsertRequest) -> bool:
        """Count a code; False, and not counted: its recipient may have reached the limit."""
        if self._recipients is None or request.priority is not _CODE:
            return True
        return self._recipients.admit(request.recipient_key, request.now)

    def _compare_and_insert(self, connection: apsw.Connection, request: InsertRequest) -> PutResult | LimitExceeded:
        if earlier := self._recent.find(request.repeat_key):
            row = connection.execute(_REPEATED, (earlier, request.repeat_key)).fetchone()
            # No repeat if the earlier message failed, is too old, or its transaction was rolled back.
            if row and row[0] != State.FAILED and abs(request.created_at - row[1]) < REPEAT_SECONDS:
                return PutResult(earlier, fresh=False)
        for key, _ in request.once:
            if earlier := connection.execute(SELECT_ONCE, (key, request.created_at)).get:
                return PutResult(earlier, fresh=False)
        if self._recipients and not self._admit(request):
            if error := self._recipients.check(connection, request.recipient_key, request.now):
                return error
            self._recipients.count(request.recipient_key, request.now)
        execute_bulk(connection, _INSERT, [request.row])
        if request.supersede_key:
            self._keys.add(request.supersede_key, request.now)
            connection.execute(_CONTEST, (request.recipient_key, request.supersede_key))
        connection.executemany(_INSERT_ONCE, [(key, request.id, until) for key, until in request.once])
        is_held = request.priority is _EVENT and not self._take_event(connection, request)
        if is_held:
            connection.execute(_HOLD, (HELD_FLOOD, request.id))
        return self._remember(request, is_held=is_held)

    def _take_event(self, connection: apsw.Connection, request: InsertRequest) -> bool:
        """Count an event; False, and not counted: the limit is reached."""
        if self._events is None:
            return True
        if self._last_event and not connection.execute(_EXISTS, (self._last_event,)).get:
            # Its transaction was rolled back, so the window has events that were not stored.
            self._events = _read_events(connection, self._events.limit, request.now, without=request.id)
        self._last_event = request.id
        return self._events.take(request.now)

    def _remember(self, request: InsertRequest, *, is_held: bool = False) -> PutResult:
        if request.repeat_key:
            self._recent.add(request.repeat_key, request.id, request.created_at)
        return PutResult(request.id, fresh=True, is_held=is_held)


def _read_events(connection: apsw.Connection, limit: RateLimit, now: Instant, *, without: str = "") -> SlidingWindow:
    """Return the window with the events in the database that were not held because of it; `without`: but this one."""
    window = SlidingWindow(limit)
    since = now - limit.seconds
    first = new_id(max(0.0, since), bytes(10))
    for (created_at,) in connection.execute(
        _RECENT_EVENTS, (first, since, now, int(Priority.EVENT), HELD_FLOOD, without)
    ):
        window.take(created_at)
    return window


def delete(connection: apsw.Connection, request: InsertRequest) -> None:
    """Revert what `Inserter` has done for a request."""
    connection.execute("DELETE FROM messages WHERE id = ?", (request.id,))
    connection.execute("DELETE FROM once WHERE message_id = ?", (request.id,))


def remember(connection: apsw.Connection, key: bytes, until: Instant | None) -> None:
    """Store a `once` key that belongs to no message."""
    connection.execute(_INSERT_ONCE, (key, "", until))
