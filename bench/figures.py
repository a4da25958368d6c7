"""What the rows print, and how they measure: all sides in turn, the median of the rounds."""

import asyncio
import json
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from rich.console import Console
from rich.table import Table

Measure: TypeAlias = Callable[[], dict[str, float]]
"""Measures once; the keys of its numbers end with their unit: `cpu_us`, `p99_ms`, `per_second`."""

_CALM: Final = 0.02
"""Share of the machine's time that the host of a virtual machine may take during a measurement."""
_TRIES: Final = 4


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured claim."""

    row: str
    what: str
    unit: str
    ours: float
    theirs: float | None = None
    result: float | None = None
    """What the aim is about; None: ours divided by theirs, or ours where there is no other side."""
    at_least: float | None = None
    at_most: float | None = None
    """The aim; without both the figure is printed for comparison only."""

    @property
    def value(self) -> float:
        """The number that the aim is about."""
        if self.result is not None:
            return self.result
        return self.ours if self.theirs is None else self.ours / self.theirs

    @property
    def met(self) -> bool | None:
        """Whether the aim is met; None: there is none."""
        if self.at_least is not None:
            return self.value >= self.at_least
        return None if self.at_most is None else self.value <= self.at_most

    def as_texts(self) -> dict[str, Any]:
        """Return what is printed; `read_figures` in `against.py` reads `what`, `ours` and `theirs`."""
        aim = f"≥ {self.at_least:g}" if self.at_least is not None else ""
        if self.at_most is not None:
            aim = f"≤ {self.at_most:.3g}"
        return {
            "row": self.row,
            "what": self.what,
            "ours": f"{readable(self.ours)} {self.unit}",
            "theirs": "" if self.theirs is None else f"{readable(self.theirs)} {self.unit}",
            "result": f"{self.value:.2f}",
            "aim": aim,
            "met": self.met,
        }


def readable(number: float) -> str:
    """Return a number with four digits, or all digits before the point."""
    return f"{number:,.0f}" if number >= 1000 else f"{number:.4g}"  # noqa: PLR2004 - where commas begin


def show(figures: Sequence[Figure], *, as_json: bool) -> None:
    """Print all figures."""
    rows = [figure.as_texts() for figure in figures]
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    table = Table("", "what", "ours", "theirs", "result", "aim", "", title="Mailroom against bare parts")
    marks = {None: "", True: "[green]met[/]", False: "[red]missed[/]"}
    for row in rows:
        met = row.pop("met")
        table.add_row(*row.values(), marks[met])
    Console().print(table)


def cpu_ticks() -> tuple[int, int]:
    """Return the ticks that the host took from this machine (`steal`, proc(5)), and all ticks."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    return fields[7], sum(fields[:8])


def stolen_share(since: tuple[int, int]) -> float:
    """Return the share of the machine's time that the host has taken since then."""
    stolen, everything = (now - then for now, then in zip(cpu_ticks(), since, strict=True))
    return stolen / max(1, everything)


def in_turn(rounds: int, *sides: Measure) -> list[list[dict[str, float]]]:
    """Measure all sides in turn, again and again; return each side's figures, one dict a round."""
    measured: list[list[dict[str, float]]] = [[] for _ in sides]
    for _ in range(rounds):
        for side, figures in zip(sides, measured, strict=True):
            figures.append(_measure_calmly(side))
    return measured


def interleaved(rounds: int, *sides: Measure) -> list[dict[str, float]]:
    """Measure all sides in turn, again and again, and return the median of each of their figures."""
    return [
        {key: statistics.median(figure[key] for figure in figures) for key in figures[0]}
        for figures in in_turn(rounds, *sides)
    ]


def _measure_calmly(side: Measure) -> dict[str, float]:
    """Measure one side, again while the host takes much of the machine's time; return the calmest try."""
    tries: list[tuple[float, dict[str, float]]] = []
    while len(tries) < _TRIES:
        began = cpu_ticks()
        figures = side()
        tries.append((stolen_share(began), figures))
        time.sleep(0.2)  # let sockets and disks come to rest
        if tries[-1][0] <= _CALM:
            break
        print("~", file=sys.stderr, end="", flush=True)
    return min(tries, key=lambda one: one[0])[1]


async def send_concurrently(senders: Sequence[Callable[[], Awaitable[object]]], mails: int) -> dict[str, float]:
    """Let each sender send one mail after the other, all at once; return the rate and this process's CPU a mail."""
    each = mails // len(senders)

    async def work(send: Callable[[], Awaitable[object]]) -> None:
        for _ in range(each):
            await send()

    began, cpu_began = time.perf_counter(), time.process_time()
    await asyncio.gather(*map(work, senders))
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu_began
    sent = each * len(senders)
    return {"per_second": sent / seconds, "cpu_us": cpu_seconds / sent * 1e6}
