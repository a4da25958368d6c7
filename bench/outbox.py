"""What keeping costs: the outbox against bare SQLite, side by side, medians of interleaved rounds.

python -m bench.outbox
"""

import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from itertools import count
from pathlib import Path
from typing import Final

import apsw

from mailroom.clock import SystemClock
from mailroom.message import Message, Priority, State, new_id
from mailroom.outbox import Candidate, Lease, Settlement
from mailroom.outbox.sqlite.database import connect, create
from mailroom.outbox.sqlite.engine import SqliteOutbox

_ROUNDS: Final = 5
_MESSAGES: Final = 2000
_CALLERS: Final = 64
_PAYLOAD: Final = {"code": "739105", "locale": "en", "application": {"id": "app1", "name": "Acme", "note": "x" * 800}}
_numbers: Final = count()


def message() -> Message:
    """Return a code of about 1 KiB."""
    now = time.time()
    number = next(_numbers)
    return Message(
        id=new_id(now, os.urandom(10)),
        template="SignIn",
        priority=Priority.CODE,
        recipient=f"user{number}@example.com",
        payload=_PAYLOAD,
        created_at=now,
        expires_at=now + 570,
    )


async def one_transaction(bare: apsw.Connection) -> int:
    """Insert rows of the same size in one big transaction."""
    with bare:
        bare.executemany(
            "INSERT INTO rows VALUES (?, ?)", ((str(next(_numbers)), os.urandom(1200)) for _ in range(_MESSAGES))
        )
    return _MESSAGES


async def one_transaction_each(bare: apsw.Connection) -> int:
    """Insert rows of the same size, each durable by itself."""
    rows = _MESSAGES // 10
    for _ in range(rows):
        bare.execute("INSERT INTO rows VALUES (?, ?)", (str(next(_numbers)), os.urandom(1200)))
    return rows


async def put(outbox: SqliteOutbox) -> int:
    """Put messages that wait, 64 callers at a time."""
    await _by_callers([message() for _ in range(_MESSAGES)], lambda one: outbox.put(one, repeat_of=one.id.encode()))
    return _MESSAGES


async def put_and_settle(outbox: SqliteOutbox) -> int:
    """Put messages with a lease and settle them: a whole life."""

    async def live(one: Message) -> None:
        await outbox.put(one, repeat_of=one.id.encode(), lease=Lease("main", 300))
        await outbox.settle(Settlement(one.id, State.SENT, ()))

    await _by_callers([message() for _ in range(_MESSAGES)], live)
    return _MESSAGES


async def put_alone(outbox: SqliteOutbox) -> int:
    """Put one message after the other."""
    rows = _MESSAGES // 10
    for _ in range(rows):
        await outbox.put(message())
    return rows


async def claim_and_settle(outbox: SqliteOutbox) -> int:
    """Claim what waits in hundreds, and settle each hundred at once."""
    done = 0
    while True:
        now = time.time()
        claimed = await outbox.claim(now=now, until=now + 300, limit=100, choose=_to_main)
        if not claimed.leased:
            return done
        await asyncio.gather(
            *(outbox.settle(Settlement(one.message.id, State.SENT, one.attempts)) for one in claimed.leased)
        )
        done += len(claimed.leased)


def _to_main(candidate: Candidate) -> str:
    assert candidate.priority is Priority.CODE
    return "main"


async def _by_callers(messages: list[Message], call: Callable[[Message], Awaitable[object]]) -> None:
    waiting = iter(messages)

    async def caller() -> None:
        for one in waiting:
            await call(one)

    await asyncio.gather(*(caller() for _ in range(_CALLERS)))


async def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else "/var/tmp") as folder:
        outbox = await SqliteOutbox.open(Path(folder) / "outbox.db", secret_keys=["bench"], clock=SystemClock())
        bare = _bare(Path(folder) / "bare.db")
        steps: dict[str, Callable[[], Awaitable[int]]] = {
            "bare SQLite, one big transaction": lambda: one_transaction(bare),
            "bare SQLite, a transaction each": lambda: one_transaction_each(bare),
            f"put, {_CALLERS} at a time": lambda: put(outbox),
            "claim 100 and settle them": lambda: claim_and_settle(outbox),
            f"put with a lease and settle, {_CALLERS} at a time": lambda: put_and_settle(outbox),
            "put, one at a time": lambda: put_alone(outbox),
            "(claim and settle the rest)": lambda: claim_and_settle(outbox),
        }
        rates: dict[str, list[float]] = {name: [] for name in steps}
        for _ in range(_ROUNDS):
            for name, step in steps.items():
                began = time.perf_counter()
                rates[name].append(await step() / (time.perf_counter() - began))
        await outbox.close()
        bare.close()
    medians = {name: statistics.median(rounds) for name, rounds in rates.items()}
    big, each = list(medians.values())[:2]
    print(f"{'':50}{'per second':>12}{'of one big':>12}{'of each':>10}")
    for name, rate in medians.items():
        print(f"{name:50}{rate:12,.0f}{rate / big:12.2f}{rate / each:10.2f}")


def _bare(path: Path) -> apsw.Connection:
    create(path)
    bare = connect(path)
    bare.execute("CREATE TABLE rows (id TEXT PRIMARY KEY, content BLOB)")
    return bare


if __name__ == "__main__":
    asyncio.run(main())
