"""Row i: what a start costs, and what a change of the operator's templates costs those who wait for a code."""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from threading import Event, Thread
from typing import Final

from bench.figures import Figure, interleaved
from bench.processes import ROOT, mailroom, starting
from bench.whole import SECONDS, Sink, send, warm_up

_AIM_START: Final = 1.2
_AIM_CHANGE: Final = 2.0
_RATE: Final = 100
_CHANGE_SECONDS: Final = 2.0
_LAYOUT: Final = ROOT / "templates" / "mails" / "layout.html.jinja"


def measure(rounds: int) -> list[Figure]:
    """Return the row's figures."""
    [start] = interleaved(rounds, _start)
    seconds = start["cpu_seconds"]
    idle, changing = interleaved(rounds, _latency, lambda: _latency(changing=True))
    times = changing["p99_ms"] / idle["p99_ms"]
    sides = (f"{changing['p99_ms']:.2f} ms", f"{idle['p99_ms']:.2f} ms")
    what = f"POST to received at {_RATE}/s, p99, while a layout changes every {_CHANGE_SECONDS:g} s (against none)"
    return [
        Figure(
            "i", "CPU to the first 200", f"{seconds:.2f} s", "", seconds, f"≤ {_AIM_START} s", seconds <= _AIM_START
        ),
        Figure("i", what, *sides, times, f"≤ {_AIM_CHANGE:g} times", times <= _AIM_CHANGE),
    ]


def _start() -> dict[str, float]:
    with starting() as server:
        server.wait_until_accepting()
        return {"cpu_seconds": server.cpu_seconds()}


def _latency(*, changing: bool = False) -> dict[str, float]:
    with (
        tempfile.TemporaryDirectory(prefix="mailroom-bench-") as templates,
        Sink("--chunking") as sink,
        mailroom(sink=sink.port, templates=templates) as server,
    ):
        warm_up(server, sink)
        with _changes(Path(templates)) if changing else nullcontext():
            return send(server, sink, "--count", str(_RATE * SECONDS), "--rate", str(_RATE), connections=256)


@contextmanager
def _changes(folder: Path) -> Iterator[None]:
    """Change the layout of all mails again and again."""
    over = Event()

    def change() -> None:
        while not over.wait(_CHANGE_SECONDS):
            (folder / _LAYOUT.name).write_text(f"{_LAYOUT.read_text()}{{# {time.monotonic_ns()} #}}")

    thread = Thread(target=change)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
