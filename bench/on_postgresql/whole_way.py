"""Rows j (a), (d) and (e): from the POST to the 200, and to the mail's arrival."""

from contextlib import ExitStack
from typing import Final

from bench.accepting import accepting
from bench.delivery import delivering
from bench.figures import Figure, interleaved
from bench.on_postgresql.measured_database import commit_milliseconds, create_database, postgresql
from bench.processes import load, program

_REQUESTS: Final = "10000"
_PROCESSES: Final = (1, 2, 4)
# The server sleeps so long before it flushes its log for a commit, or for all commits that wait meanwhile; without
# commit_siblings only if other transactions are open.
_SLOW_COMMITS: Final = "commit_delay = 1000\ncommit_siblings = 0\n"


def measure_accepting(rounds: int) -> list[Figure]:
    """Return the figures of (a).

    The aim is about a peer that stores the body, too. One that stores nothing is printed for comparison: it uses 55 µs
    of CPU a request where authenticating, validating, encrypting and hashing alone cost more (row a).
    """
    with ExitStack() as stack:
        server = stack.enter_context(postgresql())
        bare = stack.enter_context(program("-m", "bench.programs.bare", "{port}"))
        storing = stack.enter_context(
            program("-m", "bench.programs.bare_storing", "{port}", create_database(server, "peer"))
        )
        web = stack.enter_context(accepting(role="web", database_url=create_database(server, "mailroom")))
        answered, inserted, stored = interleaved(
            rounds, lambda: load(bare, "--count", _REQUESTS), lambda: load(storing, "--count", _REQUESTS), web
        )
    what = "(a) durable POST /email, role web, 64 connections"
    rate, cpu = stored["per_second"], stored["cpu_us"]
    return [
        Figure("j", f"{what}, against Starlette and an INSERT", "/s", rate, inserted["per_second"], at_least=0.85),
        Figure("j", "its CPU a request", "µs", cpu, inserted["cpu_us"]),
        Figure("j", "its p99", "ms", stored["p99_ms"], inserted["p99_ms"]),
        Figure("j", f"{what}, against Starlette that stores nothing", "/s", rate, answered["per_second"]),
        Figure("j", "its CPU a request", "µs", cpu, answered["cpu_us"]),
    ]


def measure_processes(rounds: int) -> list[Figure]:
    """Return the figures of (d); without an aim: the cores are shared with all other programs."""
    figures = []
    for processes in _PROCESSES:
        with postgresql() as server, delivering("--chunking", database_url=server.dsn(), workers=processes) as rate:
            [measured] = interleaved(rounds, rate)
        what = f"(d) POST to arrival, {processes} process{'es' if processes > 1 else ''}: mails"
        figures.append(Figure("j", what, "/s", measured["per_second"]))
    return figures


def measure_slow_commits(rounds: int) -> list[Figure]:
    """Return the figures of (e): both sides are Mailroom, on servers whose commits differ by 1 ms."""
    with ExitStack() as stack:
        servers = [stack.enter_context(postgresql(settings)) for settings in ("", _SLOW_COMMITS)]
        commits = [commit_milliseconds(server) for server in servers]
        webs = [
            stack.enter_context(accepting(role="web", database_url=create_database(server, "web")))
            for server in servers
        ]
        fast, slow = interleaved(rounds, *webs)
        with ExitStack() as senders:
            rates = [
                senders.enter_context(delivering("--chunking", database_url=create_database(server, "whole")))
                for server in servers
            ]
            fast_sent, slow_sent = interleaved(rounds, *rates)
    what = "(e) with 1 ms added to each commit, against without"
    return [
        Figure("j", f"{what}: one commit", "ms", commits[1], commits[0], commits[1] - commits[0]),
        Figure("j", f"{what}: durable POST /email", "/s", slow["per_second"], fast["per_second"]),
        Figure("j", "its p99", "ms", slow["p99_ms"], fast["p99_ms"]),
        Figure("j", f"{what}: POST to arrival", "/s", slow_sent["per_second"], fast_sent["per_second"]),
    ]
