"""Row f: resident memory, idle and with a backlog."""

from bench.figures import Figure
from bench.processes import load, mailroom

QUEUED = 100_000
_AIM_IDLE = 90
_AIM_MORE = 40


def measure(_rounds: int) -> list[Figure]:
    """Return the row's figures. The provider is a port that nobody listens on, so everything stays queued."""
    with mailroom() as running:
        load(running, "--count", "200", connections=4)
        idle = running.resident_mib()
        load(running, "--count", str(QUEUED), "--first", "1000000")
        more = running.resident_mib() - idle
    queued = f"more with {QUEUED:,} queued"
    return [
        Figure("f", "resident when idle", f"{idle:.0f} MiB", "", idle, f"≤ {_AIM_IDLE}", met=idle <= _AIM_IDLE),
        Figure("f", queued, f"{more:.0f} MiB", "", more, f"≤ {_AIM_MORE}", met=more <= _AIM_MORE),
    ]
