"""All of row j.

The letters in the figures: (a) accepting, (b) claiming and settling against job queues, (c) with a long history,
(d) the whole way with several processes, (e) with slower commits.
"""

from bench.figures import Figure
from bench.on_postgresql import growth, job_queues, whole_way


def measure(rounds: int) -> list[Figure]:
    """Return the row's figures."""
    return [
        *whole_way.measure_accepting(rounds),
        *job_queues.measure(rounds),
        *growth.measure(rounds),
        *whole_way.measure_processes(rounds),
        *whole_way.measure_slow_commits(rounds),
    ]
