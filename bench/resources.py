"""Rows f and i: memory, the CPU of a start, and what a change of templates costs those who wait for a code."""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from threading import Event, Thread
from typing import Final

from bench.delivery import delivering
from bench.figures import Figure, interleaved
from bench.processes import ROOT, load, mailroom, starting

_QUEUED: Final = 100_000
_RATE: Final = 100
_CHANGE_SECONDS: Final = 2.0
_LAYOUT: Final = ROOT / "templates" / "mails" / "layout.html.jinja"


def memory(tree: Path = ROOT) -> dict[str, float]:
    """Return a server's resident memory, idle and with a backlog: nobody listens on its provider's port."""
    with mailroom(tree=tree) as server:
        load(server, "--count", "200", connections=4)
        idle = server.resident_mib()
        load(server, "--count", str(_QUEUED))
        return {"idle_mib": idle, "queued_mib": server.resident_mib()}


def start(tree: Path = ROOT) -> dict[str, float]:
    """Return the CPU time of a start, to the first mail's 200."""
    with starting(tree=tree) as server:
        server.wait_until_accepting()
        return {"cpu_seconds": server.cpu_seconds()}


def measure_memory(_rounds: int) -> list[Figure]:
    """Return row f."""
    measured = memory()
    more = measured["queued_mib"] - measured["idle_mib"]
    return [
        Figure("f", "resident when idle", "MiB", measured["idle_mib"], at_most=90),
        Figure("f", f"more with {_QUEUED:,} queued", "MiB", more, at_most=40),
    ]


def measure_start(rounds: int) -> list[Figure]:
    """Return row i."""
    [started] = interleaved(rounds, start)
    idle, changing = interleaved(rounds, _latency, lambda: _latency(is_changing=True))
    what = f"POST to arrival at {_RATE}/s, p99, while a layout changes every {_CHANGE_SECONDS:g} s (against none)"
    return [
        Figure("i", "CPU to the first 200", "s", started["cpu_seconds"], at_most=1.2),
        Figure("i", what, "ms", changing["p99_ms"], idle["p99_ms"], at_most=2),
    ]


def _latency(*, is_changing: bool = False) -> dict[str, float]:
    with (
        tempfile.TemporaryDirectory(prefix="mailroom-bench-") as templates,
        delivering("--chunking", rate=_RATE, templates=templates) as run,
        _change_layout(Path(templates)) if is_changing else nullcontext(),
    ):
        return run()


@contextmanager
def _change_layout(folder: Path) -> Iterator[None]:
    """Change the layout of all mails again and again until the block ends."""
    ended = Event()

    def change() -> None:
        while not ended.wait(_CHANGE_SECONDS):
            (folder / _LAYOUT.name).write_text(f"{_LAYOUT.read_text()}{{# {time.monotonic_ns()} #}}")

    thread = Thread(target=change)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
