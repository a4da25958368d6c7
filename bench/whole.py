"""Rows c and d: the whole way, from the POST to the mail's arrival at an SMTP server."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self

from bench.figures import Figure, interleaved, median
from bench.load import quantile
from bench.processes import LOAD_CORE, load, mailroom, on_core

MAILS: Final = 6000
RATES: Final = (200, 500)
SECONDS: Final = 8
_CONNECTOR: Final = Path(__file__).with_name("connector.mjs")
_CONNECTOR_CONCURRENCY: Final = 128
_AIM_TIMES: Final = 3.0
_AIM_P50: Final = 2.0
_AIM_P99: Final = 10.0


class Sink:
    """An SMTP server that notes when each mail came."""

    def __init__(self, *options: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="mailroom-bench-")
        self._journal = Path(self._folder.name, "journal")
        command = [sys.executable, "-m", "bench.sink", "--port", "0", "--journal", str(self._journal), *options]
        self._process = on_core(LOAD_CORE, command, stdout=subprocess.PIPE)
        assert self._process.stdout
        self.port = int(self._process.stdout.readline())

    def __enter__(self) -> Self:
        """Take mails until the block ends."""
        return self

    def __exit__(self, *_failed: object) -> None:
        """Leave no process behind: it would hold on to the output, and whoever reads that would wait for ever."""
        self._process.kill()
        self._process.wait()

    def arrivals(self) -> dict[str, float]:
        """End the sink; return when each mail came, in monotonic seconds by Message-ID's left side."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait()
        lines = self._journal.read_text().splitlines()
        self._folder.cleanup()
        came = (line.split() for line in lines)
        return {message_id.strip("<>").partition("@")[0]: int(at) / 1e9 for at, message_id in came}


@contextmanager
def _times() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="mailroom-bench-") as folder:
        yield Path(folder, "times")


def measure_throughput(rounds: int) -> list[Figure]:
    """Return row c: mails a second, sustained, against Logto's own SMTP connector."""
    rows = []
    for what, options, aim in (
        ("the whole way, a server without PIPELINING", ("--no-pipelining",), 1.2),
        ("the whole way, a server with PIPELINING", (), _AIM_TIMES),
        ("the whole way, one with CHUNKING as well", ("--chunking",), _AIM_TIMES),
    ):
        ours, theirs = interleaved(rounds, lambda options=options: _ours(*options), _theirs)  # type: ignore[misc]  # mypy cannot tell a lambda's default
        ratio = ours["per_second"] / theirs["per_second"]
        figures = (f"{ours['per_second']:,.0f}/s", f"{theirs['per_second']:,.0f}/s")
        rows.append(Figure("c", f"{what}: mails/s", *figures, ratio, f"≥ {aim:g}", met=ratio >= aim))
    return rows


def _ours(*options: str) -> dict[str, float]:
    with Sink(*options) as sink:
        with _times() as times, mailroom(sink=sink.port) as running:
            load(running.url, "--count", str(MAILS), "--times", str(times))
            posted: dict[str, float] = json.loads(times.read_text())
            _drained(running.url, len(posted))
        arrived = sink.arrivals()
    return {"per_second": len(posted) / (max(arrived.values()) - min(posted.values()))}


def _drained(url: str, mails: int) -> None:
    """Return once the server has sent so many."""
    give_up = time.monotonic() + 60
    while time.monotonic() < give_up:
        with urllib.request.urlopen(url.replace("/email", "/metrics")) as answer:
            lines = answer.read().decode().splitlines()
        sent = sum(float(line.split()[1]) for line in lines if line.startswith('mailroom_settled_total{state="sent"}'))
        if sent >= mails:
            return
        time.sleep(0.05)
    raise RuntimeError(f"not all of {mails} mails were sent within a minute")


def _theirs() -> dict[str, float]:
    with Sink() as sink:
        command = ["node", str(_CONNECTOR), str(sink.port), str(MAILS // 2), str(_CONNECTOR_CONCURRENCY)]
        process = on_core(0, command, stdout=subprocess.PIPE)
        output, _ = process.communicate()
    if process.returncode:
        raise RuntimeError("npm's connector failed; `make node` installs it")
    return {"per_second": float(json.loads(output)["mails_per_second"])}


def measure_latency(rounds: int) -> list[Figure]:
    """Return row d: milliseconds from POST to received, kept and unkept, beside the disk's fsync."""
    rows = []
    for rate in RATES:
        kept, unkept, disk = interleaved(
            rounds,
            lambda rate=rate: _latency("real", rate),  # type: ignore[misc]  # mypy cannot tell a lambda's default
            lambda rate=rate: _latency("unkept", rate),  # type: ignore[misc]  # likewise
            _fsync,
        )
        added = kept["p50_ms"] - unkept["p50_ms"]
        most = 3 * disk["p50_ms"] + 0.3
        for share, aim in (("p50", _AIM_P50), ("p99", _AIM_P99)):
            value = kept[f"{share}_ms"]
            sides = (f"{value:.2f} ms", f"{unkept[f'{share}_ms']:.2f} ms")
            what = f"POST to received at {rate}/s, {share} (against nothing kept)"
            rows.append(Figure("d", what, *sides, value, f"≤ {aim:g} ms", met=value <= aim))
        what = f"p50 added by keeping at {rate}/s (fsync {disk['p50_ms'] * 1000:.0f} µs)"
        rows.append(Figure("d", what, f"{added:.2f} ms", "", added, f"≤ {most:.2f} ms", met=added <= most))
    return rows


def _latency(variant: str, rate: int) -> dict[str, float]:
    with Sink("--chunking") as sink:  # as Postfix, Exim, Exchange and Google's relay do
        with _times() as times, mailroom(sink=sink.port, variant=variant) as running:
            load(running.url, "--count", "300", "--rate", "100", "--first", "900000000", connections=256)  # warm up
            load(
                running.url, "--count", str(rate * SECONDS), "--rate", str(rate), "--times", str(times), connections=256
            )
            posted: dict[str, float] = json.loads(times.read_text())
            _drained(running.url, len(posted) + 300)
        arrived = sink.arrivals()
    seconds = [arrived[id_] - at for id_, at in posted.items()]
    return {"p50_ms": quantile(seconds, 0.5) * 1000, "p99_ms": quantile(seconds, 0.99) * 1000}


def _fsync() -> dict[str, float]:
    """Measure the disk: 4 KiB appended and synced."""
    with tempfile.NamedTemporaryFile(prefix="mailroom-bench-") as file:
        seconds = []
        for _ in range(300):
            file.write(b"x" * 4096)
            file.flush()
            began = time.perf_counter()
            os.fsync(file.fileno())
            seconds.append(time.perf_counter() - began)
    return {"p50_ms": median(seconds) * 1000}
