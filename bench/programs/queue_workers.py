"""Works off jobs that do nothing, as fast as one process can: `python -m bench.programs.queue_workers QUEUE DSN`.

The jobs are stored before the clock starts; it stops when the last one is recorded as done. Prints jobs a second.
The queues keep what they keep by default: procrastinate the finished job and its events, pgqueuer a row of its log,
Mailroom the settled message. All jobs carry a code's payload of 1 KiB; only Mailroom encrypts and decrypts it.
"""

import argparse
import asyncio
import json
import logging
import time
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, Final

import asyncpg
import procrastinate
import uvloop
from pgqueuer import PgQueuer, types
from pgqueuer.db import AsyncpgDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries

from bench.outbox import by_callers, claim_and_settle, message
from bench.processes import SECRET_KEY
from mailroom.clock import SystemClock
from mailroom.outbox.postgres.postgres_engine import PostgresOutbox

_CALLERS: Final = 64
_CLAIMERS: Final = 2
_PROCRASTINATE_CONCURRENCY: Final = 16
"""With as many connections; more were not faster."""
_PGQUEUER_CONSUMERS: Final = 5
"""As in pgqueuer's own benchmark, each with a connection of its own."""
_PGQUEUER_BATCH: Final = 100
"""Ten times the default; its guide to tuning raises it for short jobs."""


async def run_mailroom(dsn: str, jobs: int) -> float:
    """Claim and settle; return the seconds."""
    outbox = await PostgresOutbox.open(dsn, secret_keys=[SECRET_KEY], clock=SystemClock())

    async def put() -> None:
        one = message()
        await outbox.put(one, repeat_of=one.id.encode(), supersede_key=one.recipient.encode())

    try:
        stored = await by_callers(put, _CALLERS, jobs)
        began = time.perf_counter()
        done = sum(await asyncio.gather(*(claim_and_settle(outbox) for _ in range(_CLAIMERS))))
        seconds = time.perf_counter() - began
    finally:
        await outbox.close()
    if done != stored:
        raise RuntimeError(f"{done} of {stored} messages were settled")
    return seconds * jobs / stored


async def run_procrastinate(dsn: str, jobs: int, *, delete_jobs: str) -> float:
    """Run a worker of procrastinate until nothing waits; return the seconds."""
    size = _PROCRASTINATE_CONCURRENCY
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=dsn, min_size=size, max_size=size))
    done = 0

    @app.task(name="nothing")
    async def nothing(**_payload: object) -> None:
        nonlocal done
        done += 1

    async with app.open_async():
        if not await app.check_connection_async():
            await app.schema_manager.apply_schema_async()
        await nothing.batch_defer_async(*(dict(message().payload) for _ in range(jobs)))
        await app.connector.execute_query_async("ANALYZE procrastinate_jobs")
        began = time.perf_counter()
        await app.run_worker_async(concurrency=size, wait=False, delete_jobs=delete_jobs, install_signal_handlers=False)
        seconds = time.perf_counter() - began
    if done != jobs:
        raise RuntimeError(f"procrastinate did {done} of {jobs} jobs")
    return seconds


async def run_pgqueuer(dsn: str, jobs: int) -> float:
    """Run consumers of pgqueuer until nothing waits; return the seconds until the log has the last job."""
    done = 0

    async def nothing(_: Job) -> None:
        nonlocal done
        done += 1

    async with AsyncExitStack() as stack:

        async def connect() -> asyncpg.Connection:
            connection = await asyncpg.connect(dsn)
            stack.push_async_callback(connection.close)
            return connection

        connection = await connect()
        queries = Queries(AsyncpgDriver(connection))
        if not await queries.schema_is_installed():
            await queries.install()
            await queries.optimize_autovacuum()
        payload = json.dumps(message().payload).encode()
        await queries.enqueue(["nothing"] * jobs, [payload] * jobs, [0] * jobs)
        await connection.execute("ANALYZE pgqueuer")
        consumers = [PgQueuer(AsyncpgDriver(await connect())) for _ in range(_PGQUEUER_CONSUMERS)]
        for consumer in consumers:
            consumer.entrypoint("nothing")(nothing)
        began = time.time()
        await asyncio.gather(
            *(one.run(batch_size=_PGQUEUER_BATCH, mode=types.QueueExecutionMode.drain) for one in consumers)
        )
        # Not until `run` returns, which may wait for timers.
        ended = await connection.fetchval("SELECT extract(epoch FROM max(created)) FROM pgqueuer_log")
    if done != jobs:
        raise RuntimeError(f"pgqueuer did {done} of {jobs} jobs")
    return float(ended) - began


RUNS: Final[Mapping[str, Callable[[str, int], Coroutine[Any, Any, float]]]] = {
    "mailroom": run_mailroom,
    "procrastinate": partial(run_procrastinate, delete_jobs="never"),
    "procrastinate-deleting": partial(run_procrastinate, delete_jobs="successful"),
    "pgqueuer": run_pgqueuer,
}


def main() -> None:
    """Run as a program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("queue", choices=RUNS)
    parser.add_argument("dsn", help="URL of its database")
    parser.add_argument("--jobs", type=int, default=5000)
    given = parser.parse_args()
    logging.disable(logging.INFO)
    seconds = uvloop.run(RUNS[given.queue](given.dsn, given.jobs))
    print(json.dumps({"per_second": given.jobs / seconds}))


if __name__ == "__main__":
    main()
