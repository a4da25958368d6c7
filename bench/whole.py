"""Rows c and d: the whole way, from the POST to the mail's arrival at an SMTP server."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final, Self

from bench.figures import Figure, interleaved, median
from bench.load import quantile
from bench.processes import LOAD_CORE, Running, load, mailroom, on_core

MAILS: Final = 6000
RATES: Final = (200, 500)
SECONDS: Final = 8
_CONNECTOR: Final = Path(__file__).with_name("connector.mjs")
_CONNECTOR_CONCURRENCY: Final = 128
_SENT_WITHIN_SECONDS: Final = 60
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
        self._folder.cleanup()

    def mails(self) -> int:
        """Return how many mails have come, and have their arrivals written."""
        with socket.create_connection(("127.0.0.1", self.port)) as connection, connection.makefile("rwb") as stream:
            stream.readline()
            stream.write(b"STAT\r\n")
            stream.flush()
            return int(stream.readline().split()[1])

    def wait_for(self, mails: int) -> None:
        """Return once so many have come in all. Raises RuntimeError after a minute."""
        give_up = time.monotonic() + _SENT_WITHIN_SECONDS
        while self.mails() < mails:
            if time.monotonic() > give_up:
                raise RuntimeError(f"not all of {mails} mails came within {_SENT_WITHIN_SECONDS} s")
            time.sleep(0.05)

    def arrivals(self) -> dict[str, float]:
        """Return when each mail came, in monotonic seconds by Message-ID's left side."""
        self.mails()
        came = (line.split() for line in self._journal.read_text().splitlines())
        return {message_id.strip("<>").partition("@")[0]: int(at) / 1e9 for at, message_id in came}


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
        cpu = ours["cpu_us"]
        rows.append(Figure("c", f"{what}: CPU a mail", f"{cpu:.0f} µs", "", cpu, "", met=None))
    return rows


def _ours(*options: str) -> dict[str, float]:
    with Sink(*options) as sink, mailroom(sink=sink.port) as server:
        return send(server, sink, "--count", str(MAILS))


def send(server: Running, sink: Sink, *options: str, connections: int = 64) -> dict[str, float]:
    """Load a server and wait until all of it has come to the sink; return mails/s, ms from POST to arrival, CPU."""
    before, cpu_seconds = sink.mails(), server.cpu_seconds()
    with tempfile.NamedTemporaryFile(prefix="mailroom-bench-") as times:
        load(server, "--times", times.name, *options, connections=connections)
        posted: dict[str, float] = json.load(times)
    sink.wait_for(before + len(posted))
    cpu_seconds = server.cpu_seconds() - cpu_seconds
    arrived = sink.arrivals()
    seconds = [arrived[id_] - at for id_, at in posted.items()]
    return {
        "cpu_us": cpu_seconds / len(posted) * 1e6,
        "per_second": len(posted) / (max(arrived[id_] for id_ in posted) - min(posted.values())),
        "p50_ms": quantile(seconds, 0.5) * 1000,
        "p99_ms": quantile(seconds, 0.99) * 1000,
    }


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
            lambda rate=rate: _latency(None, rate),  # type: ignore[misc]  # mypy cannot tell a lambda's default
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
        cpu = kept["cpu_us"]
        rows.append(Figure("d", f"CPU a mail at {rate}/s", f"{cpu:.0f} µs", "", cpu, "", met=None))
        what = f"p50 added by keeping at {rate}/s (fsync {disk['p50_ms'] * 1000:.0f} µs)"
        rows.append(Figure("d", what, f"{added:.2f} ms", "", added, f"≤ {most:.2f} ms", met=added <= most))
    return rows


def _latency(variant: str | None, rate: int) -> dict[str, float]:
    # CHUNKING as Postfix, Exim, Exchange and Google's relay do.
    with Sink("--chunking") as sink, mailroom(sink=sink.port, variant=variant) as server:
        warm_up(server, sink)
        return send(server, sink, "--count", str(rate * SECONDS), "--rate", str(rate), connections=256)


def warm_up(server: Running, sink: Sink) -> None:
    """Let a server open its connections and compile what it needs."""
    send(server, sink, "--count", "300", "--rate", "100", "--first", "900000000", connections=256)


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
