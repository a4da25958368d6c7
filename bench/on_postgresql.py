"""Row j: accepting and delivering on a PostgreSQL of this machine, whose processes take part of the same cores."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from bench.accepting import accepting
from bench.delivery import delivering
from bench.figures import Figure, interleaved
from bench.processes import load, program
from tests.postgres_server import PostgresServer

_REQUESTS: Final = "10000"
_PROCESSES: Final = (1, 2, 4)


@contextmanager
def _database() -> Iterator[PostgresServer]:
    with tempfile.TemporaryDirectory(prefix="mailroom-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # PostgreSQL does not run as root
        server = PostgresServer.create(folder)
        server.start()
        try:
            yield server
        finally:
            server.stop("immediate")


def measure(rounds: int) -> list[Figure]:
    """Return the row's figures; those of several processes have no aim: cores are shared with all other programs."""
    with ExitStack() as stack:
        database = stack.enter_context(_database())
        bare = stack.enter_context(program("-m", "bench.programs.bare", "{port}"))
        web = stack.enter_context(accepting(role="web", database_url=database.dsn()))
        peer, stored = interleaved(rounds, lambda: load(bare, "--count", _REQUESTS), web)
    figures = [
        Figure(
            "j",
            "durable POST /email on PostgreSQL, role web, 64 connections: requests",
            "/s",
            stored["per_second"],
            peer["per_second"],
            at_least=0.85,
        ),
        Figure("j", "its CPU a request", "µs", stored["cpu_us"], peer["cpu_us"]),
        Figure("j", "its p99", "ms", stored["p99_ms"], peer["p99_ms"]),
    ]
    for processes in _PROCESSES:
        with _database() as database, delivering("--chunking", database_url=database.dsn(), workers=processes) as rate:
            [measured] = interleaved(rounds, rate)
        what = f"POST to arrival on PostgreSQL, {processes} process{'es' if processes > 1 else ''}: mails"
        figures.append(Figure("j", what, "/s", measured["per_second"]))
    return figures
