"""Measures this tree against another revision, in turn: CPU a request (or a mail) first, throughput beside it.

The other revision is checked out to `build/` and served by the same interpreter with the same packages. Both are driven
from outside by this tree's programs: a server's settings, its HTTP and its SMTP are all that they must have in common.
Rows b and e measure functions inside, so each tree's own `bench` does; what only one of them measures is left out.
"""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Final, TypeAlias

from bench.comparison import Comparison, compare, measured
from bench.figures import in_turn
from bench.http_providers import taken
from bench.processes import LOAD_CORE, ROOT, load, mailroom, program, starting
from bench.whole import RATES, SECONDS, Sink, send, warm_up

REQUESTS: Final = 20_000
MAILS: Final = 6000
MAILS_OVER_HTTP: Final = 2000
QUEUED: Final = 50_000
_OWN_ROWS: Final = "be"

Measure: TypeAlias = Callable[[], dict[str, float]]
Side: TypeAlias = Callable[[Path], AbstractContextManager[Measure]]
"""Makes a tree ready to be measured, again and again until the block ends."""


def measure(revision: str, rows: str, rounds: int) -> list[Comparison]:
    """Measure these rows of both trees, `rounds` times in turn. Raises RuntimeError if the revision cannot be run."""
    compared = []
    with checked_out(revision) as other:
        for tree in (other, ROOT):
            assert_own_modules(tree)
        for letter, side in [(row, side) for row in rows for side in sides(row)]:
            print(f"row {letter} …", file=sys.stderr, flush=True)
            with side(other) as before, side(ROOT) as now:
                compared += compare(letter, *in_turn(rounds, before, now))
    return compared


@contextmanager
def checked_out(revision: str) -> Iterator[Path]:
    """Check a revision out to a folder of its own until the block ends. Raises RuntimeError if git cannot."""
    (ROOT / "build").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="against-", dir=ROOT / "build") as folder:
        tree = Path(folder) / "tree"
        _git("worktree", "add", "--detach", str(tree), revision)
        try:
            yield tree
        finally:
            _git("worktree", "remove", "--force", str(tree))


def assert_own_modules(tree: Path) -> None:
    """Check that a tree runs its own modules, not those of the tree that is installed. Raises RuntimeError.

    This compiles them, too: the first start would cost more than the others.
    """
    script = (
        "import handlers, mailroom, server; print(handlers.__file__, mailroom.__file__, server.__file__, sep='\\n')"
    )
    asked = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[0] = {str(tree)!r}; {script}"],
        cwd=tree, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if asked.returncode:
        raise RuntimeError(f"{tree} cannot be imported with the packages of this tree:\n{asked.stderr}")
    if strangers := [file for file in asked.stdout.split("\n") if file and not Path(file).is_relative_to(tree)]:
        raise RuntimeError(f"{tree} would run {', '.join(strangers)}")


def sides(row: str) -> list[Side]:
    """Return what a row measures; none: it is not compared."""
    if row in _OWN_ROWS:
        return [partial(_own_bench, row=row)]
    known: dict[str, list[Side]] = {
        "a": [_accepting],
        "c": [
            partial(_sending, what="no PIPELINING", offers=("--no-pipelining",)),
            partial(_sending, what="CHUNKING", offers=("--chunking",)),
        ],
        "d": [partial(_at_a_rate, rate=rate) for rate in RATES],
        "f": [_remembering],
        "h": [_sending_over_http],
        "i": [_getting_ready],
    }
    return known.get(row, [])


@contextmanager
def _accepting(tree: Path) -> Iterator[Measure]:
    numbers = count(10**6, 10**6)
    with mailroom(tree=tree, role="web") as server:

        def run() -> dict[str, float]:
            figures = load(server, "--count", str(REQUESTS), "--first", str(next(numbers)))
            return _named("POST /email", figures, "requests")

        load(server, "--count", "1000")
        yield run


@contextmanager
def _sending(tree: Path, *, what: str, offers: tuple[str, ...]) -> Iterator[Measure]:
    numbers = count(10**6, 10**6)
    with Sink(*offers) as sink, mailroom(tree=tree, sink=sink.port) as server:

        def run() -> dict[str, float]:
            figures = send(server, sink, "--count", str(MAILS), "--first", str(next(numbers)))
            return _named(f"the whole way, {what}", {key: figures[key] for key in ("cpu_us", "per_second")}, "mails")

        warm_up(server, sink)
        yield run


@contextmanager
def _at_a_rate(tree: Path, *, rate: int) -> Iterator[Measure]:
    numbers = count(10**6, 10**6)
    options = ("--count", str(rate * SECONDS), "--rate", str(rate))
    with Sink("--chunking") as sink, mailroom(tree=tree, sink=sink.port) as server:

        def run() -> dict[str, float]:
            figures = send(server, sink, *options, "--first", str(next(numbers)), connections=256)
            del figures["per_second"]  # that is the load's
            return _named(f"POST to received at {rate} mails/s", figures, "mails")

        warm_up(server, sink)
        yield run


@contextmanager
def _remembering(tree: Path) -> Iterator[Measure]:
    def run() -> dict[str, float]:
        with mailroom(tree=tree) as server:  # its provider is a port that nobody listens on
            load(server, "--count", "200", connections=4)
            idle = server.resident_mib()
            load(server, "--count", str(QUEUED), "--first", "1000000")
            return {"resident when idle, MiB": idle, f"resident with {QUEUED:,} queued, MiB": server.resident_mib()}

    yield run


@contextmanager
def _sending_over_http(tree: Path) -> Iterator[Measure]:
    numbers = count(10**6, 10**6)
    with program("-m", "bench.http_providers", "--serve", "{port}", core=LOAD_CORE) as vendor:
        endpoint = f"http://127.0.0.1:{vendor.port}"
        provider = {"TYPE": "resend", "API_KEY": "re_bench_0123456789", "ENDPOINT": endpoint, "CONCURRENCY": "16"}
        with mailroom(tree=tree, provider=provider) as server:

            def run() -> dict[str, float]:
                before, cpu_seconds = taken(vendor.port), server.cpu_seconds()
                mails = load(server, "--count", str(MAILS_OVER_HTTP), "--first", str(next(numbers)))["answered"]
                server.wait_until_idle()
                assert taken(vendor.port) == before + mails, "some were not sent"
                return {"the whole way over HTTP: CPU a mail, µs": (server.cpu_seconds() - cpu_seconds) / mails * 1e6}

            run()
            yield run


@contextmanager
def _getting_ready(tree: Path) -> Iterator[Measure]:
    def run() -> dict[str, float]:
        with starting(tree=tree) as server:
            server.wait_until_accepting()
            return {"CPU of a start, to the first mail's 200, s": server.cpu_seconds()}

    yield run


@contextmanager
def _own_bench(tree: Path, *, row: str) -> Iterator[Measure]:
    def run() -> dict[str, float]:
        done = subprocess.run(
            [sys.executable, "-m", "bench", "--rows", row, "--rounds", "1", "--json"],
            cwd=tree, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False,
        )  # fmt: skip
        return measured(done.stdout)

    yield run


def _named(what: str, figures: dict[str, float], things: str) -> dict[str, float]:
    """Name figures for the table, CPU first."""
    names = {
        "cpu_us": f"CPU a {things.removesuffix('s')}, µs",
        "per_second": f"{things}, /s",
        "p50_ms": "p50, ms",
        "p99_ms": "p99, ms",
    }
    return {f"{what}: {name}": figures[key] for key, name in names.items() if key in figures}


def _git(*arguments: str) -> None:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
