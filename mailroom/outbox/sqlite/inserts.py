"""What the writer's thread does to messages that come in: kept once, however often they are asked for."""

from collections.abc import Sequence
from typing import Final

import apsw

from mailroom.errors import OutboxError
from mailroom.message import State
from mailroom.outbox import REPEAT_SECONDS, PutResult
from mailroom.outbox.sqlite.database import flat, in_bulk, values
from mailroom.outbox.sqlite.dedup import RecentBodies
from mailroom.outbox.sqlite.rows import COLUMNS, InsertRequest

_INSERT: Final = f"INSERT INTO messages ({COLUMNS}) VALUES "  # noqa: S608 - a constant

_REPEATED: Final = "SELECT state, created_at FROM messages WHERE id = ? AND repeat_key = ?"

_HAPPENED: Final = "SELECT message_id FROM once WHERE key = ? AND (until IS NULL OR until > ?)"

_HAPPENS: Final = "INSERT OR REPLACE INTO once (key, message_id, until) VALUES (?, ?, ?)"


_FORGET: Final = "DELETE FROM messages WHERE id = ?"

_FORGET_ONCE: Final = "DELETE FROM once WHERE message_id = ?"


def forget(connection: apsw.Connection, puttings: Sequence[InsertRequest]) -> None:
    """Undo what `Put` has done for these."""
    for sql in (_FORGET, _FORGET_ONCE):
        connection.executemany(sql, [(putting.id,) for putting in puttings])


class Put:
    """Inserts messages, all in few statements; one by one what may have come before."""

    def __init__(self, repeats: RecentBodies) -> None:
        self._repeats = repeats

    def __call__(self, connection: apsw.Connection, puttings: Sequence[InsertRequest]) -> list[PutResult]:
        """Serve all callers of one transaction."""
        kept: dict[InsertRequest, PutResult] = {}
        new: list[InsertRequest] = []
        alone: list[InsertRequest] = []
        for putting in puttings:
            if putting.once or self._earlier(putting):
                alone.append(putting)
            else:
                new.append(putting)
                self._remember(putting)
        for together in in_bulk(new):
            try:
                rows = [putting.row for putting in together]
                connection.execute(_INSERT + values(rows), flat(rows))
            except apsw.ConstraintError:  # the whole statement is undone
                alone += together
            else:
                kept.update((putting, PutResult(putting.id, fresh=True)) for putting in together)
        kept.update((putting, self._put_alone(connection, putting)) for putting in alone)
        return [kept[putting] for putting in puttings]

    def _put_alone(self, connection: apsw.Connection, putting: InsertRequest) -> PutResult:
        if earlier := self._earlier(putting):
            found = connection.execute(_REPEATED, (earlier, putting.repeat_key)).fetchone()
            # It may have failed, be too old, or never have become durable.
            if found and found[0] != State.FAILED and abs(putting.now - found[1]) < REPEAT_SECONDS:
                return PutResult(earlier, fresh=False)
        for key, _ in putting.once:
            happened = connection.execute(_HAPPENED, (key, putting.now)).get
            if happened:
                return PutResult(happened, fresh=False)
        try:
            connection.execute(_INSERT + values([putting.row]), putting.row)
        except apsw.ConstraintError:
            raise OutboxError(f"{putting.id} is kept already: an id is used once") from None
        for key, until in putting.once:
            connection.execute(_HAPPENS, (key, putting.id, until))
        self._remember(putting)
        return PutResult(putting.id, fresh=True)

    def _earlier(self, putting: InsertRequest) -> str | None:
        earlier = self._repeats.find(putting.repeat_key) if putting.repeat_key else None
        return None if earlier == putting.id else earlier

    def _remember(self, putting: InsertRequest) -> None:
        if putting.repeat_key:
            self._repeats.add(putting.repeat_key, putting.id, putting.now)
