"""The outbox against bare SQLite: `python -m bench.outbox [FOLDER]`, the folder on the disk to measure."""

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import count
from pathlib import Path
from typing import Final

import apsw

from bench.figures import Figure, interleaved, show
from mailroom.clock import SystemClock
from mailroom.message import Message, Priority, State, new_id
from mailroom.outbox import ClaimLimit, Lease, Leased, Outbox, Settlement
from mailroom.outbox.sqlite.database import connect, create
from mailroom.outbox.sqlite.engine import SqliteOutbox

_ROUNDS: Final = 5
_MESSAGES: Final = 2000
_CALLERS: Final = 64
_HUNDRED: Final = ClaimLimit((), total=100, others=100, exclude=True)
_INSERT: Final = "INSERT INTO rows VALUES (?, ?)"
_PAYLOAD: Final = {"code": "739105", "locale": "en", "application": {"id": "app1", "name": "Acme", "note": "x" * 800}}
_numbers: Final = count()


def message() -> Message:
    """Return a code of about 1 KiB."""
    now = time.time()
    return Message(
        id=new_id(now, os.urandom(10)),
        template="SignIn",
        priority=Priority.CODE,
        recipient=f"user{next(_numbers)}@example.com",
        payload=_PAYLOAD,
        created_at=now,
        expires_at=now + 570,
    )


async def insert_rows(bare: apsw.Connection) -> int:
    """Insert rows of the same size in one transaction."""
    with bare:
        bare.executemany(_INSERT, ((str(next(_numbers)), os.urandom(1200)) for _ in range(_MESSAGES)))
    return _MESSAGES


async def insert_each_row(bare: apsw.Connection) -> int:
    """Insert rows of the same size, each durable by itself."""
    for _ in range(_MESSAGES // 10):
        bare.execute(_INSERT, (str(next(_numbers)), os.urandom(1200)))
    return _MESSAGES // 10


async def put(outbox: Outbox) -> None:
    """Put a message that waits to be claimed."""
    one = message()
    await outbox.put(one, repeat_of=one.id.encode())


async def put_and_settle(outbox: Outbox) -> None:
    """Put a message with a lease and settle it."""
    one = message()
    await outbox.put(one, repeat_of=one.id.encode(), lease=Lease("main", 300))
    await outbox.settle(Settlement(one.id, State.SENT, ()))


async def by_callers(call: Callable[[], Awaitable[None]], callers: int, number: int = _MESSAGES) -> int:
    """Call a function so many times, by callers at the same time."""

    async def caller() -> None:
        for _ in range(number // callers):
            await call()

    await asyncio.gather(*(caller() for _ in range(callers)))
    return number // callers * callers


def _sent(leased: Leased) -> Settlement:
    """Return what is recorded of a mail that an SMTP server has accepted."""
    queued_as = f"queued as {os.urandom(16).hex()}"
    return Settlement(leased.message.id, State.SENT, leased.attempts, provider_message_id=queued_as)


async def claim_and_settle(outbox: Outbox) -> int:
    """Claim all waiting messages in hundreds, and settle each hundred at once."""
    done = 0
    while True:
        claimed = await outbox.claim([_HUNDRED], lease_seconds=300)
        if not claimed.leased:
            return done
        await asyncio.gather(*(outbox.settle(_sent(one)) for one in claimed.leased))
        done += len(claimed.leased)


def main(folder: Path) -> None:
    """Print the table."""
    create(folder / "bare.db")
    bare = connect(folder / "bare.db")
    bare.execute("CREATE TABLE rows (id TEXT PRIMARY KEY, content BLOB)")
    with asyncio.Runner() as runner:
        outbox = runner.run(SqliteOutbox.open(folder / "outbox.db", secret_keys=["bench"], clock=SystemClock()))
        steps: dict[str, Callable[[], Awaitable[int]]] = {
            "bare SQLite, a transaction each": partial(insert_each_row, bare),
            "bare SQLite, one big transaction": partial(insert_rows, bare),
            f"put, {_CALLERS} at a time": lambda: by_callers(partial(put, outbox), _CALLERS),
            "claim 100 and settle them": partial(claim_and_settle, outbox),
            f"put with a lease and settle, {_CALLERS} at a time": lambda: by_callers(
                partial(put_and_settle, outbox), _CALLERS
            ),
            "put, one at a time": lambda: by_callers(partial(put, outbox), 1, _MESSAGES // 10),
        }

        async def rate(step: Callable[[], Awaitable[int]]) -> dict[str, float]:
            began = time.perf_counter()
            return {"per_second": await step() / (time.perf_counter() - began)}

        each, *others = interleaved(_ROUNDS, *(lambda step=step: runner.run(rate(step)) for step in steps.values()))
        runner.run(outbox.close())
    bare.close()
    show(
        [
            Figure("", name, "/s", figure["per_second"], each["per_second"])
            for name, figure in zip(list(steps)[1:], others, strict=True)
        ],
        as_json=False,
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else "/var/tmp") as place:
        main(Path(place))
