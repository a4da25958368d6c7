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
from mailroom.outbox.postgres.database_pool import (
    ANSWER_SECONDS,
    FAILURES,
    Connection,
    Database,
    connect_options,
    describe,
    is_pooled,
)

_CHANNEL: Final = "mailroom"
NOTIFY: Final = "SELECT pg_notify('mailroom', $1)"
"""With the sender's name, or '' if all processes are meant."""
_COALESCE_SECONDS: Final = 0.02
_RECONNECT_SECONDS: Final = 5.0
_CHECK_SECONDS: Final = 5.0
"""Between queries that show that the connection still works: a peer that vanished says nothing."""

log = structlog.get_logger()


class Wakeups:
    """Sends and receives wake-ups. Through PgBouncer in transaction mode none would arrive; polling finds messages."""

    def __init__(self, database: Database, clock: Clock, owner: str) -> None:
        self._database = database
        self._clock = clock
        self._owner = owner
        self._woken = asyncio.Event()
        self._has_failed = False
        self._sending: asyncio.Task[None] | None = None
        self._listening: asyncio.Task[None] | None = None

    def start(self, url: str) -> None:
        """Begin to listen on a connection of its own, unless the URL leads through a PgBouncer."""
        if not is_pooled(url):
            self._listening = asyncio.create_task(self._listen_forever(url), name="outbox.listen")

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

    async def _listen_forever(self, url: str) -> None:
        while True:
            try:
                await self._listen(url)
            except (TimeoutError, *FAILURES) as error:
                if not self._has_failed:
                    log.warning("outbox.not_woken", problem=describe(error), remedy="messages are found by polling")
                self._has_failed = True
            except Exception:  # the loop must not end
                log.exception("outbox.listen_failed")
            await self._clock.sleep(_RECONNECT_SECONDS)

    async def _listen(self, url: str) -> None:
        def receive(_: Connection, __: int, ___: str, sender: str) -> None:
            if sender != self._owner:
                self._woken.set()

        dsn, options = connect_options(url)
        connection: Any = await asyncpg.connect(dsn, **options)
        try:
            await connection.add_listener(_CHANNEL, receive)
            self._woken.set()  # by what was missed before
            self._has_failed = False
            while True:
                await self._clock.sleep(_CHECK_SECONDS)
                await connection.execute("SELECT 1", timeout=ANSWER_SECONDS)
        finally:
            connection.terminate()
