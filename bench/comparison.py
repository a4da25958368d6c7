"""Two revisions side by side: the arithmetic of `python -m bench --against`, and its table."""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final

from rich.console import Console
from rich.table import Table

from bench.figures import median

WITHIN: Final = 0.05
"""A figure may be worse by this share."""
_JUDGED: Final = frozenset({"µs", "s", "MiB", "/s"})
"""Units of figures that decide. Latencies, in ms, are printed only: they waver by more on any machine."""


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
    def unit(self) -> str:
        """The unit of both."""
        return self.what.rpartition(", ")[2]

    @property
    def within(self) -> bool | None:
        """Whether it is not worse by more than 5 %; None: it does not decide."""
        if self.unit not in _JUDGED:
            return None
        return self.ratio >= 1 - WITHIN if self.unit == "/s" else self.ratio <= 1 + WITHIN


def compare(row: str, before: Sequence[dict[str, float]], now: Sequence[dict[str, float]]) -> list[Comparison]:
    """Compare what both measured; each sequence holds one dict a round, with the same keys in each."""
    compared = []
    for what in (what for what in now[0] if what in before[0]):
        pairs = [(then[what], today[what]) for then, today in zip(before, now, strict=True)]
        ratios = [today / then for then, today in pairs]
        compared.append(
            Comparison(
                row=row,
                what=what,
                before=median(then for then, _ in pairs),
                now=median(today for _, today in pairs),
                ratio=median(ratios),
                least=min(ratios),
                most=max(ratios),
            )
        )
    return compared


def measured(printed: str) -> dict[str, float]:
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


def show(compared: Sequence[Comparison], *, revision: str, as_json: bool) -> None:
    """Print them all."""
    if as_json:
        print(json.dumps([asdict(one) | {"within": one.within} for one in compared], indent=2))
        return
    table = Table("", "what", revision, "now", "ratio", "rounds", "within 5 %", title=f"This tree against {revision}")
    for one in compared:
        mark = "" if one.within is None else "[green]yes[/]" if one.within else "[red]WORSE[/]"
        rounds = f"{one.least:.2f} to {one.most:.2f}"
        table.add_row(one.row, one.what, f"{one.before:,.4g}", f"{one.now:,.4g}", f"{one.ratio:.3f}", rounds, mark)
    Console().print(table)
