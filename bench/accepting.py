"""Row a: accepting durably, against a bare endpoint on the same server that parses the same body and answers 200."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from bench.figures import Figure, Measure, interleaved
from bench.processes import load, mailroom, program

_REQUESTS: Final = "20000"


@contextmanager
def accepting(**options: Any) -> Iterator[Measure]:
    """Run a Mailroom with these options of `processes.starting`; measure what a request to it costs."""
    with mailroom(**options) as server:
        load(server, "--count", "1000")
        yield lambda: load(server, "--count", _REQUESTS)


def measure(rounds: int) -> list[Figure]:
    """Return the row's figures."""
    with (
        program("-m", "bench.programs.bare", "{port}") as bare,
        accepting(role="web") as web,
        accepting(variant="instant") as instant,
        accepting(role="web", variant="two-writes") as two_writes,
    ):
        peer, stored, sent, apart = interleaved(
            rounds, lambda: load(bare, "--count", _REQUESTS), web, instant, two_writes
        )
    what = "durable POST /email, role web, 64 connections: requests"
    whole = "its CPU a request without WholeResponses (against with it)"
    sent_rates = sent["per_second"], peer["per_second"]
    return [
        Figure("a", what, "/s", stored["per_second"], peer["per_second"], at_least=0.7),
        Figure("a", "its CPU a request", "µs", stored["cpu_us"], peer["cpu_us"]),
        Figure("a", whole, "µs", apart["cpu_us"], stored["cpu_us"]),
        Figure("a", "its p99", "ms", stored["p99_ms"], peer["p99_ms"], at_most=3),
        Figure("a", "the same, role all, a provider that accepts at once", "/s", *sent_rates),
    ]
