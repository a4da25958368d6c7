"""What is printed: one row a claim, with the figures of both sides and the aim."""

import json
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured claim."""

    row: str
    """The letter of the table in the README of bench."""
    what: str
    ours: str
    theirs: str
    value: float
    """The ratio, the milliseconds or the MiB that the aim speaks of."""
    aim: str
    met: bool | None
    """None: printed for comparison, nothing is claimed."""


def median(values: Iterable[float]) -> float:
    """Return the middle one."""
    return statistics.median(values)


_CALM: Final = 0.02
"""Of the machine's time, what the host of a virtual machine may take while something is measured."""
_TRIES: Final = 4


def ticks() -> tuple[int, int]:
    """Return what the host kept for others (`steal`, proc(5)), and all time."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    return fields[7], sum(fields[:8])


def in_turn(rounds: int, *sides: Callable[[], dict[str, float]]) -> list[list[dict[str, float]]]:
    """Measure all sides in turn, again and again; return each side's figures, one dict a round."""
    measured: list[list[dict[str, float]]] = [[] for _ in sides]
    for _ in range(rounds):
        for side, figures in zip(sides, measured, strict=True):
            figures.append(_in_calm(side))
    return measured


def interleaved(rounds: int, *sides: Callable[[], dict[str, float]]) -> list[dict[str, float]]:
    """Measure all sides in turn, again and again, and return the median of each of their figures."""
    return [
        {key: median(figure[key] for figure in figures) for key in figures[0]} for figures in in_turn(rounds, *sides)
    ]


def _in_calm(side: Callable[[], dict[str, float]]) -> dict[str, float]:
    """Measure one side; again, a few times, while the host takes the machine away. The calmest try counts."""
    tries: list[tuple[float, dict[str, float]]] = []
    while len(tries) < _TRIES:
        began = ticks()
        figures = side()
        stolen, whole = (now - then for now, then in zip(ticks(), began, strict=True))
        tries.append((stolen / max(1, whole), figures))
        time.sleep(0.2)  # let sockets and disks come to rest
        if tries[-1][0] <= _CALM:
            break
        print("~", file=sys.stderr, end="", flush=True)
    return min(tries, key=lambda one: one[0])[1]


def show(figures: list[Figure], *, as_json: bool) -> None:
    """Print them all."""
    if as_json:
        print(json.dumps([asdict(figure) for figure in figures], indent=2))
        return
    table = Table("", "what", "ours", "theirs", "result", "aim", "", title="Mailroom against bare parts")
    for figure in figures:
        mark = "" if figure.met is None else "[green]met[/]" if figure.met else "[red]missed[/]"
        table.add_row(figure.row, figure.what, figure.ours, figure.theirs, f"{figure.value:.2f}", figure.aim, mark)
    Console().print(table)
