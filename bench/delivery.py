"""Rows c and d: from the POST to the mail's arrival at an SMTP server."""

import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final

from bench.figures import Figure, Measure, interleaved
from bench.processes import ROOT, SERVER_CORE, Running, Sink, load, mailroom, on_core
from bench.programs.load import quantile

MAILS: Final = 6000
RATES: Final = (200, 500)
_SECONDS: Final = 8
_CONNECTOR: Final = ROOT / "bench" / "programs" / "connector.mjs"
_CONNECTOR_CONCURRENCY: Final = 128


@contextmanager
def delivering(*offers: str, rate: int | None = None, **options: Any) -> Iterator[Measure]:
    """Run a Mailroom and an SMTP server with these options; measure mails at this rate, or as fast as accepted."""
    with Sink(*offers) as sink, mailroom(sink=sink.port, **options) as server:
        # It opens its connections and compiles templates.
        _deliver(server, sink, "--count", "300", "--rate", "100", connections=256)
        if rate is None:
            yield lambda: _deliver(server, sink, "--count", str(MAILS))
        else:
            amount = ("--count", str(rate * _SECONDS), "--rate", str(rate))
            yield lambda: _deliver(server, sink, *amount, connections=256)


def _deliver(server: Running, sink: Sink, *options: str, connections: int = 64) -> dict[str, float]:
    """Send a load and wait until all of it has arrived; return CPU a mail, ms from POST to arrival, mails/s."""
    before, cpu_seconds = sink.mails(), server.cpu_seconds()
    with tempfile.NamedTemporaryFile(prefix="mailroom-bench-") as times:
        load(server, "--times", times.name, *options, connections=connections)
        posted: dict[str, float] = json.load(times)
    sink.wait_for(before + len(posted))
    cpu_seconds = server.cpu_seconds() - cpu_seconds
    arrived = sink.arrivals()
    seconds = [arrived[id_] - at for id_, at in posted.items()]
    latencies = {"p50_ms": quantile(seconds, 0.5) * 1000, "p99_ms": quantile(seconds, 0.99) * 1000}
    figures = {"cpu_us": cpu_seconds / len(posted) * 1e6, **latencies}
    if "--rate" not in options:
        figures["per_second"] = len(posted) / (max(arrived[id_] for id_ in posted) - min(posted.values()))
    return figures


def measure_throughput(rounds: int) -> list[Figure]:
    """Return row c: mails a second, sustained, against Logto's own SMTP connector."""
    figures = []
    for what, offers, aim in (
        ("a server without PIPELINING", ("--no-pipelining",), 1.2),
        ("a server with PIPELINING", (), 3.0),
        ("one with CHUNKING as well", ("--chunking",), 3.0),
    ):
        with delivering(*offers) as mailroom_rate:
            ours, theirs = interleaved(rounds, mailroom_rate, _connector_rate)
        rates = ours["per_second"], theirs["per_second"]
        figures.append(Figure("c", f"POST to arrival, {what}: mails", "/s", *rates, at_least=aim))
        figures.append(Figure("c", f"POST to arrival, {what}: CPU a mail", "µs", ours["cpu_us"]))
    return figures


def _connector_rate() -> dict[str, float]:
    with Sink() as sink:
        command = ["node", str(_CONNECTOR), str(sink.port), str(MAILS // 2), str(_CONNECTOR_CONCURRENCY)]
        process = on_core(SERVER_CORE, command, stdout=subprocess.PIPE)
        output, _ = process.communicate()
    if process.returncode:
        raise RuntimeError("npm's connector failed; `make node` installs it")
    return {"per_second": float(json.loads(output)["mails_per_second"])}


def measure_latency(rounds: int) -> list[Figure]:
    """Return row d: milliseconds from POST to arrival, durable and in memory only, beside the disk's fsync."""
    figures = []
    for rate in RATES:
        with ExitStack() as stack:
            # CHUNKING as Postfix, Exim, Exchange and Google's relay offer it.
            durable = stack.enter_context(delivering("--chunking", rate=rate))
            in_memory = stack.enter_context(delivering("--chunking", rate=rate, variant="in-memory"))
            ours, theirs, disk = interleaved(rounds, durable, in_memory, _measure_fsync)
        for share, aim in (("p50", 2), ("p99", 10)):
            key = f"{share}_ms"
            what = f"POST to arrival at {rate}/s, {share} (against nothing stored)"
            figures.append(Figure("d", what, "ms", ours[key], theirs[key], ours[key], at_most=aim))
        figures.append(Figure("d", f"CPU a mail at {rate}/s", "µs", ours["cpu_us"]))
        added = ours["p50_ms"] - theirs["p50_ms"]
        what = f"p50 added by storing at {rate}/s (fsync {disk['p50_ms'] * 1000:.0f} µs)"
        figures.append(Figure("d", what, "ms", added, at_most=3 * disk["p50_ms"] + 0.3))
    return figures


def _measure_fsync() -> dict[str, float]:
    """Append 4 KiB to a file and sync it, again and again."""
    with tempfile.NamedTemporaryFile(prefix="mailroom-bench-") as file:
        seconds = []
        for _ in range(300):
            file.write(b"x" * 4096)
            file.flush()
            began = time.perf_counter()
            os.fsync(file.fileno())
            seconds.append(time.perf_counter() - began)
    return {"p50_ms": statistics.median(seconds) * 1000}
