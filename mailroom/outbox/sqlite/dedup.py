"""Remembers which bodies came within the last minute.

Lives in the writer's thread, and is read from the file at a start. An index would cost each message a page of its own.
"""

from typing import Final

import apsw

from mailroom.clock import Instant
from mailroom.message import new_id
from mailroom.outbox import REPEAT_SECONDS
from mailroom.outbox.sqlite.database import rows_of

_LATELY: Final = """
    SELECT repeat_key, id, created_at
      FROM messages
     WHERE id >= ? AND repeat_key IS NOT NULL
     ORDER BY number
"""


class RecentBodies:
    """Keys of bodies and the ids of their messages: those of the last 60 to 90 seconds."""

    def __init__(self) -> None:
        self._began: Instant = 0.0
        # Whole generations are forgotten. Ids are packed: in a flood there are many.
        self._generations: list[dict[bytes, bytes]] = [{}, {}, {}]

    @classmethod
    def read(cls, connection: apsw.Connection, now: Instant) -> "RecentBodies":
        """Return what the file knows of the last minute."""
        repeats = cls()
        for key, id_, created_at in rows_of(connection, _LATELY, (new_id(max(0.0, now - REPEAT_SECONDS), bytes(10)),)):
            repeats.add(key, id_, created_at)
        return repeats

    def find(self, key: bytes) -> str | None:
        """Return the id that a body was kept with last, if it was: of a transaction undone since, perhaps."""
        for generation in self._generations:
            if packed := generation.get(key):
                return _unpacked(packed)
        return None

    def add(self, key: bytes, id: str, now: Instant) -> None:  # noqa: A002 - the field's word
        """Remember a body."""
        passed = now - self._began
        if passed >= REPEAT_SECONDS / 2 or passed < -REPEAT_SECONDS:  # the clock was set back
            self._began = now
            self._generations = [{}, *self._generations[:-1]]
        self._generations[0][key] = bytes.fromhex(id.replace("-", ""))


def _unpacked(packed: bytes) -> str:
    digits = packed.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
