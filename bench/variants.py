"""Mailroom with a part exchanged for one that costs nothing, so that the others can be seen.

`python -m bench.variants real|instant|unkept PORT FOLDER`, settings by variables.

real     as it is
instant  every provider says yes at once
unkept   nothing is kept: every message is durable at once
"""

import asyncio
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import uvloop

import server
from mailroom import loading, logs
from mailroom.clock import SystemClock
from mailroom.message import Attempt, Email, Message, Receipt
from mailroom.outbox import Claimed, Kept, Lease, Once, Settlement
from mailroom.outbox.sqlite import SqliteOutbox


class InstantProvider:
    """Says yes."""

    async def send(self, _email: Email) -> Receipt:
        """Take the mail."""
        return Receipt("taken")

    async def aclose(self) -> None:
        """Nothing is open."""


class UnkeptOutbox(SqliteOutbox):
    """Forgets everything at once."""

    async def put(
        self,
        message: Message,
        *,
        repeat_of: bytes | None = None,  # noqa: ARG002 - the protocol's
        once: Sequence[Once] = (),  # noqa: ARG002 - likewise
        lease: Lease | None = None,  # noqa: ARG002 - likewise
    ) -> Kept:
        """Keep nothing."""
        await asyncio.sleep(0)
        return Kept(message.id, fresh=True)

    async def attempt(self, _id: str, _attempts: tuple[Attempt, ...]) -> bool:
        """Record nothing."""
        return True

    async def settle(self, _settlement: Settlement) -> bool:
        """Record nothing."""
        await asyncio.sleep(0)
        return True

    async def claim(self, **_facts: Any) -> Claimed:
        """Find nothing."""
        return Claimed((), None)


def main() -> None:
    """Serve until killed."""
    variant, port, folder = sys.argv[1:]
    environ = {**os.environ, "MAILROOM_PORT": port, "MAILROOM_DATABASE_URL": f"sqlite:///{folder}/mailroom.db"}
    settings = loading.load(environ=environ)
    builds: dict[str, server.Build] = {
        "real": server.build,
        "instant": partial(server.build, connect=lambda *_: InstantProvider()),
        "unkept": partial(server.build, kept_in=UnkeptOutbox),
    }
    with Path(folder, "lines").open("w") as lines:
        logs.configure(lines)
        uvloop.run(server.serve(settings, clock=SystemClock(), fd=None, environ={}, build=builds[variant]))


if __name__ == "__main__":
    main()
