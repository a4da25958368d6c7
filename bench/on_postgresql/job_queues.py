"""Row j (b): claiming and settling against job queues for Python on the same PostgreSQL."""

from typing import Final

from bench.figures import Figure, interleaved
from bench.on_postgresql.measured_database import SHORT_RUNS, create_database, postgresql, work_off

JOBS: Final = 5000
_SLOW_JOBS: Final = 1000
"""Of procrastinate, which fetches and finishes each job by itself: more would take minutes."""


def measure(rounds: int, jobs: int = JOBS, slow_jobs: int = _SLOW_JOBS) -> list[Figure]:
    """Return the figures; all keep a history, as each does by default, but one that is printed for comparison."""
    with postgresql() as server:
        ours, pgqueuer, kept, deleted = (
            create_database(server, name) for name in ("mailroom", "pgqueuer", "procrastinate", "deleting")
        )
        settled, *others = interleaved(
            rounds * SHORT_RUNS,
            lambda: work_off("mailroom", ours, jobs),
            lambda: work_off("pgqueuer", pgqueuer, jobs),
        )
        others += interleaved(
            rounds,
            lambda: work_off("procrastinate", kept, slow_jobs),
            lambda: work_off("procrastinate-deleting", deleted, slow_jobs),
        )
    rate, rates = settled["per_second"], [other["per_second"] for other in others]
    best = max(rates[:2])
    names = ("pgqueuer", "procrastinate", "procrastinate that deletes what it has done")
    return [
        Figure(
            "j", "(b) claim and settle, against the better queue that keeps a history", "/s", rate, best, at_least=1.5
        ),
        *(Figure("j", f"against {name}", "/s", rate, peer) for name, peer in zip(names, rates, strict=True)),
    ]
