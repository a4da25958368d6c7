"""A process that serves from an outbox, for tests that kill it.

`python -m tests.outbox.serving <file> <what>`.
`wait`: opens, says so, stays. `write`: puts and settles as fast as it can, and tells each acknowledgement.
`ask`: as user nobody tries to open, and says what came of it.
"""

import asyncio
import os
import sys
from pathlib import Path

from mailroom.clock import SystemClock
from mailroom.errors import OutboxError
from mailroom.message import State
from mailroom.outbox import Lease, Settlement
from mailroom.outbox.sqlite.engine import SqliteOutbox
from tests.outbox.contract import message

SECRET = "a-secret-key-of-the-tests"


def say(line: str) -> None:
    """Print a line without buffering."""
    os.write(1, f"{line}\n".encode())


async def main(path: Path, what: str) -> None:
    """Run the command until killed."""
    wait_seconds = 30.0
    if what == "ask":
        os.setuid(65534)
        wait_seconds = 0.0
    try:
        outbox = await SqliteOutbox.open(path, secret_keys=[SECRET], clock=SystemClock(), wait_seconds=wait_seconds)
    except OutboxError as error:
        say(f"{type(error).__name__}: {error}")
        return
    say("open")
    if what == "write":
        await asyncio.gather(*(write(outbox) for _ in range(16)))
    elif what == "wait":
        await asyncio.get_running_loop().create_future()
    await outbox.close()


async def write(outbox: SqliteOutbox) -> None:
    """Put and settle; every other message stays leased."""
    now = SystemClock().now()
    while True:
        one, other = message(now), message(now)
        await outbox.put(one, lease=Lease("main", 300))
        say(f"kept {one.id}")
        await outbox.put(other, lease=Lease("main", 300))
        say(f"kept {other.id}")
        await outbox.settle(Settlement(one.id, State.SENT, ()))
        say(f"sent {one.id}")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
