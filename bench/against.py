"""Measures this tree against another revision, in turn: `python -m bench --against REV`.

The other revision is checked out to `build/` and served by the same interpreter with the same packages. Both are driven
from outside by this tree's programs: a server's settings, its HTTP and its SMTP are all that they must have in common.
Rows b and e measure functions inside, so each tree's own `bench` does; what only one of them measures is left out.
"""

import json
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias

from rich.console import Console
from rich.table import Table

from bench.accepting import accepting
from bench.delivery import RATES, delivering
from bench.figures import Measure, in_turn, readable
from bench.http_providers import delivering_over_http
from bench.processes import ROOT
from bench.resources import memory, start

Side: TypeAlias = Callable[[Path], AbstractContextManager[Measure]]
"""Makes a tree ready to be measured, again and again until the block ends."""

_TOLERANCE: Final = 0.05
"""A figure may be worse by this share."""
_JUDGED: Final = frozenset({"µs", "s", "MiB", "/s"})
"""Units of figures that decide. Latencies, in ms, are printed only: they vary by more on any machine."""
_NAMES: Final = {
    "cpu_us": "CPU of each, µs",
    "per_second": "rate, /s",
    "p50_ms": "p50, ms",
    "p99_ms": "p99, ms",
    "idle_mib": "when idle, MiB",
    "queued_mib": "with a backlog, MiB",
    "cpu_seconds": "CPU, s",
}


@dataclass(frozen=True, slots=True)
class Comparison:
    """One figure of both revisions: the medians of all rounds."""

    row: str
    what: str
    """What was measured, and after the last comma its unit."""
    before: float
    now: float
    ratio: float
    """Now divided by before: the median over the rounds, each compared with itself."""
    least: float
    most: float
    """The ratios of the rounds that differ most."""

    @property
    def within(self) -> bool | None:
        """Whether it is not worse by more than 5 %; None: it does not decide."""
        unit = self.what.rpartition(", ")[2]
        if unit not in _JUDGED:
            return None
        return self.ratio >= 1 - _TOLERANCE if unit == "/s" else self.ratio <= 1 + _TOLERANCE


def measure(revision: str, rows: str, rounds: int) -> list[Comparison]:
    """Measure these rows of both trees, `rounds` times in turn. Raises RuntimeError if the revision cannot be run."""
    compared = []
    with checked_out(revision) as other:
        for tree in (other, ROOT):
            assert_own_modules(tree)
        for row in rows:
            print(f"row {row} …", file=sys.stderr, flush=True)
            for what, side in SIDES.get(row, {}).items():
                with side(other) as before, side(ROOT) as now:
                    compared += compare(row, *in_turn(rounds, before, now), what=what)
    return compared


@contextmanager
def checked_out(revision: str) -> Iterator[Path]:
    """Check a revision out to a folder of its own until the block ends. Raises RuntimeError if git cannot."""
    (ROOT / "build").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="against-", dir=ROOT / "build") as folder:
        tree = Path(folder) / "tree"
        _run_git("worktree", "add", "--detach", str(tree), revision)
        try:
            yield tree
        finally:
            _run_git("worktree", "remove", "--force", str(tree))


def assert_own_modules(tree: Path) -> None:
    """Check that a tree runs its own modules, not those of the tree that is installed. Raises RuntimeError.

    This compiles them, too: the first start would cost more than the others.
    """
    script = (
        "import handlers, mailroom, server; print(handlers.__file__, mailroom.__file__, server.__file__, sep='\\n')"
    )
    imported = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[0] = {str(tree)!r}; {script}"],
        cwd=tree, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if imported.returncode:
        raise RuntimeError(f"{tree} cannot be imported with the packages of this tree:\n{imported.stderr}")
    if others := [file for file in imported.stdout.split("\n") if file and not Path(file).is_relative_to(tree)]:
        raise RuntimeError(f"{tree} would run {', '.join(others)}")


@contextmanager
def _own_bench(tree: Path, *, row: str) -> Iterator[Measure]:
    def run() -> dict[str, float]:
        command = [sys.executable, "-m", "bench", "--rows", row, "--rounds", "1", "--json"]
        done = subprocess.run(command, cwd=tree, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
        return read_figures(done.stdout)

    yield run


def _delivering_at(rate: int, tree: Path) -> AbstractContextManager[Measure]:
    return delivering("--chunking", rate=rate, tree=tree)


SIDES: Final[Mapping[str, Mapping[str, Side]]] = {
    "a": {"POST /email": lambda tree: accepting(tree=tree, role="web")},
    "b": {"": partial(_own_bench, row="b")},
    "c": {
        "POST to arrival, no PIPELINING": lambda tree: delivering("--no-pipelining", tree=tree),
        "POST to arrival, CHUNKING": lambda tree: delivering("--chunking", tree=tree),
    },
    "d": {f"POST to arrival at {rate} mails/s": partial(_delivering_at, rate) for rate in RATES},
    "e": {"": partial(_own_bench, row="e")},
    "f": {"resident memory": lambda tree: nullcontext(partial(memory, tree))},
    "h": {"POST to an HTTP provider": delivering_over_http},
    "i": {"a start to the first mail's 200": lambda tree: nullcontext(partial(start, tree))},
}
"""What is compared of each row, by its name; g is not compared."""


def read_figures(printed: str | bytes) -> dict[str, float]:
    """Read what `python -m bench --json` printed: what was measured, with its unit, and its number.

    Remarks in brackets are left out, for they hold numbers of their own; and so is what is compared with itself.
    """
    read = {}
    for figure in json.loads(printed):
        number = re.fullmatch(r"([\d,]+(?:\.\d+)?) ?(\S+)", figure["ours"])
        if number and figure["ours"] != figure["theirs"]:
            what = re.sub(r" \([^()]*\)", "", figure["what"])
            read[f"{what}, {number[2]}"] = float(number[1].replace(",", ""))
    return read


def compare(
    row: str, before: Sequence[dict[str, float]], now: Sequence[dict[str, float]], *, what: str = ""
) -> list[Comparison]:
    """Compare what both measured; each sequence holds one dict a round, with the same keys in each."""
    compared = []
    for key in (key for key in now[0] if key in before[0]):
        pairs = [(then[key], today[key]) for then, today in zip(before, now, strict=True)]
        ratios = [today / then for then, today in pairs]
        compared.append(
            Comparison(
                row=row,
                what=f"{what}: {_NAMES[key]}" if what else key,
                before=statistics.median(then for then, _ in pairs),
                now=statistics.median(today for _, today in pairs),
                ratio=statistics.median(ratios),
                least=min(ratios),
                most=max(ratios),
            )
        )
    return compared


def show(compared: Sequence[Comparison], *, revision: str, as_json: bool) -> None:
    """Print all comparisons."""
    if as_json:
        print(json.dumps([asdict(one) | {"within": one.within} for one in compared], indent=2))
        return
    table = Table("", "what", revision, "now", "ratio", "rounds", "within 5 %", title=f"This tree against {revision}")
    marks = {None: "", True: "[green]yes[/]", False: "[red]WORSE[/]"}
    for one in compared:
        sides = readable(one.before), readable(one.now), f"{one.ratio:.3f}"
        table.add_row(one.row, one.what, *sides, f"{one.least:.2f} to {one.most:.2f}", marks[one.within])
    Console().print(table)


def _run_git(*arguments: str) -> None:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
