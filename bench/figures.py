"""What is printed: one row a claim, with the figures of both sides and the aim."""

import json
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

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


def interleaved(rounds: int, *sides: Callable[[], dict[str, float]]) -> list[dict[str, float]]:
    """Measure all sides in turn, again and again, and return the median of each of their figures."""
    measured: list[list[dict[str, float]]] = [[] for _ in sides]
    for _ in range(rounds):
        for side, figures in zip(sides, measured, strict=True):
            figures.append(side())
            time.sleep(0.2)  # let sockets and disks come to rest
    return [{key: median(figure[key] for figure in figures) for key in figures[0]} for figures in measured]


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
