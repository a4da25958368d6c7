"""Tells other processes that messages wait, by LISTEN/NOTIFY: a hint, behind which each of them polls.

A NOTIFY takes a lock of the whole server when its transaction commits (1 ms of disk: 9,000 inserts a second fell to
800). So it is never in a transaction that stores messages, and many messages share one.
"""

import asyncio
from contextlib import suppress
from typing import Any, Final

import asyncpg
import structlog

from mailroom.clock import Clock
from mailroom.errors import CannotKeep
from mailroom.outbox.postgres.database_pool import FAILURES, Connection, Database

_CHANNEL: Final = "mailroom"
NOTIFY: Final = "SELECT pg_notify('mailroom', $1)"
"""With the sender's name, or '' if all processes are meant."""
_COALESCE_SECONDS: Final = 0.02
_RECONNECT_SECONDS: Final = 5.0

log = structlog.get_logger()


class Wakeups:
    """Sends and receives wake-ups. Through PgBouncer in transaction mode none arrive; polling finds the messages."""

    def __init__(self, database: Database, clock: Clock, owner: str) -> None:
        self._database = database
        self._clock = clock
        self._owner = owner
        self._woken = asyncio.Event()
        self._sending: asyncio.Task[None] | None = None
        self._listening: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to listen."""
        self._listening = asyncio.create_task(self._listen_forever(), name="outbox.listen")

    async def wait(self) -> None:
        """Return when another process has told that messages wait."""
        await self._woken.wait()
        self._woken.clear()

    def send(self) -> None:
        """Tell other processes, soon."""
        if self._sending is None:
            self._sending = asyncio.create_task(self._send(), name="outbox.notify")

    async def close(self) -> None:
        """Stop to listen."""
        tasks = [task for task in (self._sending, self._listening) if task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _send(self) -> None:
        await self._clock.sleep(_COALESCE_SECONDS)
        self._sending = None  # what is stored from now on may be too late for this one
        with suppress(CannotKeep):  # the others poll
            await self._database.rows(NOTIFY, self._owner)

    async def _listen_forever(self) -> None:
        while True:
            try:
                await self._listen()
            except (TimeoutError, *FAILURES):
                pass  # whatever is wrong with the database, writing tells
            except Exception:  # the loop must not end
                log.exception("outbox.listen_failed")
            await self._clock.sleep(_RECONNECT_SECONDS)

    async def _listen(self) -> None:
        ended = asyncio.Event()

        def receive(_: Connection, __: int, ___: str, sender: str) -> None:
            if sender != self._owner:
                self._woken.set()

        def end(_: Connection) -> None:
            ended.set()

        connection: Any = await asyncpg.connect(self._database.dsn, **self._database.options)
        try:
            connection.add_termination_listener(end)
            await connection.add_listener(_CHANNEL, receive)
            self._woken.set()  # by what was missed before
            await ended.wait()
        finally:
            connection.terminate()
