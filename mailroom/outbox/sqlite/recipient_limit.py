"""Refuses a code when its recipient has been sent as many as the limit allows. Runs in the writer's thread.

Recipients have no index that is complete (see `sqlite-2.sql`), so counting each of them in the database would cost more
than storing the message. Counters in memory tell which recipients cannot have reached the limit, which is nearly all;
the others are counted by SQL in the transaction that inserts, which is exact.
"""

from array import array
from math import ceil
from struct import Struct
from typing import Final

import apsw

from mailroom.clock import Instant
from mailroom.errors import LimitExceeded
from mailroom.message import Priority, new_id
from mailroom.outbox.limits import RateLimit
from mailroom.outbox.sqlite import operations
from mailroom.outbox.sqlite.database import rows_of

_WIDTH: Final = 1 << 17
"""Counters in each of the two rows, of 2 octets: 512 KB for each of the two windows."""
_HIGHEST: Final = (1 << 16) - 1
_PLACES: Final = Struct("<2Q").unpack
_LONGEST_WAIT: Final = 60.0
"""Seconds from a message's acceptance, which orders ids, to its insertion, which orders numbers."""
_MOST_INDEXED: Final = 1000
"""Messages that are indexed before a recipient is counted, so that few are left to be read one by one."""

_RECENT: Final = """
    SELECT recipient_key
      FROM messages
     WHERE id >= ?1 AND created_at > ?2 AND created_at <= ?3 AND priority = ?4
"""

_OLDEST_COUNTED: Final = """
    WITH of_recipient (number) AS (
        SELECT number
          FROM recipients
         WHERE recipient_key = ?1
           AND number > coalesce((SELECT number FROM messages WHERE id < ?2 ORDER BY id DESC LIMIT 1), 0)
         UNION ALL
        SELECT number FROM messages WHERE number > (SELECT indexed FROM progress) AND recipient_key = ?1
    )
    SELECT created_at
      FROM of_recipient JOIN messages USING (number)
     WHERE created_at > ?3 AND created_at <= ?4 AND priority = ?5 AND state <> 'failed'
     ORDER BY number DESC
     LIMIT 1 OFFSET ?6
"""


class RecipientCounts:
    """Counts recipients in fixed memory, and never too low: a count-min sketch for each of two windows.

    A keyed hash is uniformly random, so each half of it is the place of a counter. The smaller one is less wrong, and
    only that one is raised (conservative update).
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._window = 0
        self._current = _counters()
        self._last: array[int] | None = None

    def add(self, key: bytes, now: Instant, *, below: int | None = None) -> bool:
        """Count a code for this recipient; False, and not counted: there may have been `below` codes already."""
        window = int(now / self._seconds)
        if window > self._window:
            self._last = self._current if window == self._window + 1 else None
            self._current, self._window = _counters(), window
        first, second = _PLACES(key)
        first, second = first % _WIDTH, _WIDTH + second % _WIDTH
        counters, last = self._current, self._last
        one, two = counters[first], counters[second]
        count = min(one, two)
        before = min(last[first], last[second]) if last else 0
        if below is not None and (count + before >= below or count == _HIGHEST):
            return False
        if count < _HIGHEST:
            if one == count:
                counters[first] = count + 1
            if two == count:
                counters[second] = count + 1
        return True


def _counters() -> "array[int]":
    return array("H", bytes(2 * 2 * _WIDTH))


class RecipientLimiter:
    """Applies a limit to the codes that one recipient is sent."""

    def __init__(self, limit: RateLimit) -> None:
        self._limit = limit
        self._counts = RecipientCounts(limit.seconds)

    @classmethod
    def read(cls, connection: apsw.Connection, limit: RateLimit, now: Instant) -> "RecipientLimiter":
        """Return a limiter that has counted the messages in the database."""
        limiter = cls(limit)
        since = now - limit.seconds
        for (key,) in connection.execute(_RECENT, (_first_id(since), since, now, int(Priority.CODE))):
            limiter.count(key, now)
        return limiter

    def admit(self, key: bytes, now: Instant) -> bool:
        """Count a code if its recipient is below the limit for certain; False: `check` it."""
        return self._counts.add(key, now, below=self._limit.count)

    def count(self, key: bytes, now: Instant) -> None:
        """Count a code."""
        self._counts.add(key, now)

    def check(self, connection: apsw.Connection, key: bytes, now: Instant) -> LimitExceeded | None:
        """Return the error if this recipient's limit is reached."""
        operations.index(connection, _MOST_INDEXED)
        since = now - self._limit.seconds
        before = _first_id(since - _LONGEST_WAIT)
        bindings = (key, before, since, now, int(Priority.CODE), self._limit.count - 1)
        oldest = rows_of(connection, _OLDEST_COUNTED, bindings)
        return LimitExceeded("recipient", retry_after=ceil(oldest[0][0] - since)) if oldest else None


def _first_id(moment: Instant) -> str:
    """Return the smallest id of a message that was accepted at this moment."""
    return new_id(max(0.0, moment), bytes(10))
