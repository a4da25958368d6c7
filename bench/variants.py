"""Mailroom with a part exchanged for one that costs nothing, so that the others can be seen.

`python -m bench.variants instant|unkept`, settings by variables.

instant  every provider says yes at once
unkept   nothing is kept: every message is durable at once
"""

import asyncio
import os
import sys
from collections.abc import Callable, Collection, Sequence
from functools import cached_property, partial

import uvloop

import server
from mailroom import config, logs
from mailroom.clock import Instant, SystemClock
from mailroom.message import Attempt, Email, Message, Receipt
from mailroom.outbox import Candidate, ClaimResult, DedupKey, Lease, Leased, PutResult, Settlement
from mailroom.outbox.sqlite.engine import SqliteOutbox


class InstantProvider:
    """Says yes."""

    async def send(self, _email: Email) -> Receipt:
        """Take the mail."""
        return Receipt("taken")

    async def aclose(self) -> None:
        """Nothing is open."""


class UnkeptOutbox(SqliteOutbox):
    """Has everything in memory and forgets it with the process."""

    async def put(
        self,
        message: Message,
        *,
        repeat_of: bytes | None = None,  # noqa: ARG002 - the protocol's
        once: Sequence[DedupKey] = (),  # noqa: ARG002 - likewise
        lease: Lease | None = None,
    ) -> PutResult:
        """Keep nothing but what nobody sends yet."""
        await asyncio.sleep(0)
        if lease is None:
            self._queue[message.id] = message
        return PutResult(message.id, fresh=True)

    async def attempt(self, _id: str, _attempts: tuple[Attempt, ...]) -> bool:
        """Record nothing."""
        return True

    async def settle(self, _settlement: Settlement) -> bool:
        """Record nothing."""
        await asyncio.sleep(0)
        return True

    async def claim(
        self,
        *,
        now: Instant,
        until: Instant,  # noqa: ARG002 - the protocol's
        limit: int,
        choose: Callable[[Candidate], str | None],
        without: Collection[str] = (),  # noqa: ARG002 - likewise
    ) -> ClaimResult:
        """Lease what came while there was no place."""
        leased = []
        for message in list(self._queue.values())[:limit]:
            if provider := choose(Candidate(message.id, message.template, message.priority, ())):
                del self._queue[message.id]
                leased.append(Leased(message, (Attempt(provider, now),)))
        return ClaimResult(tuple(leased), now if self._queue else None)

    @cached_property
    def _queue(self) -> dict[str, Message]:
        return {}


def main() -> None:
    """Serve until killed."""
    settings = config.load(environ=os.environ)
    builds: dict[str, server.Build] = {
        "instant": partial(server.build, connect=lambda *_: InstantProvider()),
        "unkept": partial(server.build, kept_in=UnkeptOutbox),
    }
    lines = logs.configure(sys.stderr)
    try:
        uvloop.run(
            server.serve(settings, clock=SystemClock(), fd=None, environ={}, build=builds[sys.argv[1]]),
        )
    finally:
        lines.drain()


if __name__ == "__main__":
    main()
