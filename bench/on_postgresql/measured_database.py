"""Starts the PostgreSQL that the rows measure on, and runs programs against it."""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import asyncpg

from bench.processes import ROOT, SERVER_CORE, on_core
from tests.postgres_server import PostgresServer

_SETTINGS: Final = "shared_buffers = 128MB\nmax_wal_size = 4GB\n"
"""PostgreSQL's default instead of the tests' 32MB; and no checkpoint in the middle of a measurement."""
_COMMITS: Final = 200
SHORT_RUNS: Final = 3
"""In a round, where a run takes seconds or less, in which a single vacuum is seen."""


@contextmanager
def postgresql(settings: str = "") -> Iterator[PostgresServer]:
    """Run a server with more lines of postgresql.conf until the block ends."""
    with tempfile.TemporaryDirectory(prefix="mailroom-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # PostgreSQL does not run as root
        server = PostgresServer.create(folder)
        with (server.folder / "postgresql.conf").open("a") as file:
            file.write(_SETTINGS + settings)
        server.start()
        try:
            yield server
        finally:
            server.stop("immediate")


def create_database(server: PostgresServer, name: str) -> str:
    """Create a database; return its URL."""
    server.psql(f"CREATE DATABASE {name}")
    return server.dsn(name)


def work_off(queue: str, dsn: str, jobs: int) -> dict[str, float]:
    """Run `bench.programs.queue_workers` on the core of servers; return its figures. Raises RuntimeError."""
    command = [sys.executable, "-m", "bench.programs.queue_workers", queue, dsn, "--jobs", str(jobs)]
    process = on_core(SERVER_CORE, command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    output, errors = process.communicate()
    if process.returncode:
        raise RuntimeError(f"{queue} failed:\n{errors}")
    figures: dict[str, float] = json.loads(output.splitlines()[-1])  # after what the outbox logs
    return figures


def commit_milliseconds(server: PostgresServer) -> float:
    """Return how long a transaction takes that inserts one row, with nothing beside it."""

    async def insert() -> float:
        connection = await asyncpg.connect(server.dsn())
        await connection.execute("CREATE TABLE IF NOT EXISTS commits (at int)")
        began = time.perf_counter()
        for number in range(_COMMITS):
            await connection.execute("INSERT INTO commits VALUES ($1)", number)
        seconds = time.perf_counter() - began
        await connection.close()
        return seconds / _COMMITS * 1000

    return asyncio.run(insert())
