"""Mailroom with a part replaced by one that costs nothing, so that the cost of the others can be measured.

    python -m bench.programs.variants instant|in-memory|two-writes        (settings by variables)

instant     every provider accepts at once
in-memory   nothing is written to disk
two-writes  a response's head and body are written apart
"""

import asyncio
import os
import sys
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any

import uvloop

import server
from handlers import http_connection
from mailroom import config, logs
from mailroom.clock import Instant, SystemClock
from mailroom.message import Attempt, Email, Message, Receipt
from mailroom.outbox import ClaimLimit, ClaimResult, DedupKey, Lease, Leased, PutResult, Settlement, SettleResult
from mailroom.outbox.by_url import sqlite_path
from mailroom.outbox.sqlite.engine import SqliteOutbox


async def open_in_memory(url: str, **options: Any) -> "InMemoryOutbox":
    """Open an outbox that stores nothing."""
    outbox = await InMemoryOutbox.open(sqlite_path(url), **options)
    assert isinstance(outbox, InMemoryOutbox)
    return outbox


class InstantProvider:
    """Accepts every mail."""

    async def send(self, _email: Email) -> Receipt:
        """Accept the mail."""
        return Receipt("accepted")

    async def aclose(self) -> None:
        """Nothing is open."""


class InMemoryOutbox(SqliteOutbox):
    """Holds in memory what waits to be sent, and stores nothing."""

    async def put(
        self,
        message: Message,
        *,
        route: str = "",  # noqa: ARG002 - the protocol's
        repeat_of: bytes | None = None,  # noqa: ARG002 - the protocol's
        once: Sequence[DedupKey] = (),  # noqa: ARG002 - likewise
        supersede_key: bytes | None = None,  # noqa: ARG002 - likewise
        lease: Lease | None = None,
        due_at: Instant | None = None,  # noqa: ARG002 - likewise
    ) -> PutResult:
        """Queue a message that was given no lease."""
        await asyncio.sleep(0)
        if lease is None:
            self._queue[message.id] = message
        return PutResult(message.id, fresh=True)

    async def attempt(self, _id: str, _attempts: tuple[Attempt, ...]) -> bool:
        """Record nothing."""
        return True

    async def settle(self, _settlement: Settlement) -> SettleResult:
        """Record nothing."""
        await asyncio.sleep(0)
        return SettleResult(is_recorded=True)

    async def claim(
        self,
        limits: Sequence[ClaimLimit],
        *,
        lease_seconds: float,  # noqa: ARG002 - the protocol's
        route_of: Callable[[Message], str] | None = None,  # noqa: ARG002 - likewise
    ) -> ClaimResult:
        """Lease what was put without a lease."""
        leased = [Leased(self._queue.pop(id_), ()) for id_ in list(self._queue)[: limits[0].total]]
        return ClaimResult(tuple(leased), None)

    @cached_property
    def _queue(self) -> dict[str, Message]:
        return {}


class TwoWrites:
    """Writes the head of a response and its body apart, as uvicorn does."""

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None]) -> None:
        self.write = transport.write
        self.close = close
        self.is_closing = transport.is_closing
        self.set_protocol = transport.set_protocol


def main() -> None:
    """Serve until killed."""
    settings = config.load(environ=os.environ)
    if sys.argv[1] == "two-writes":
        vars(http_connection)["WholeResponses"] = TwoWrites
    builds: dict[str, server.Build] = {
        "two-writes": server.build,
        "instant": partial(server.build, connect=lambda *_: InstantProvider()),
        "in-memory": partial(server.build, open_outbox=open_in_memory),
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
