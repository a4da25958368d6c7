"""`python -m bench`: measures every row and prints one table; `make bench` is the same."""

import argparse
import sys
from collections.abc import Callable
from typing import Final

from bench import accepting, against, delivery, http_providers, rendering, resources, smtp
from bench.figures import Figure, cpu_ticks, show, stolen_share
from bench.on_postgresql import row_j

ROWS: Final[dict[str, Callable[[int], list[Figure]]]] = {
    "a": accepting.measure,
    "b": smtp.measure,
    "c": delivery.measure_throughput,
    "d": delivery.measure_latency,
    "e": rendering.measure_rendering,
    "f": resources.measure_memory,
    "g": rendering.measure_languages,
    "h": http_providers.measure,
    "i": resources.measure_start,
    "j": row_j.measure,
}
_NAMES: Final = (
    "a accepting, b SMTP, c throughput from POST to arrival, d latency, e rendering, f memory, g languages, "
    "h HTTP providers, i the start, and changes of templates, j PostgreSQL"
)
_COMPARED: Final = "aicdhfbe"


def main() -> int:
    """Measure; 1 when an aim was missed, or a figure is worse than the other revision's."""
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description=f"{__doc__} With --against REV it measures this tree and that revision in turn instead.",
        epilog=f"Rows: {_NAMES}. `--against` compares rows {_COMPARED} and ends with 1 when CPU, throughput or memory "
        "is worse by more than 5 %; latencies are printed only. More --rounds, on an idle machine, show smaller "
        "differences.",
    )
    parser.add_argument("--rows", help="letters, as in abc")
    parser.add_argument("--rounds", type=int, help="of each side, in turn; their medians are shown (3; --against: 5)")
    parser.add_argument("--against", metavar="REV", help="compare with this revision, checked out by git")
    parser.add_argument("--json", action="store_true", help="for a machine")
    options = parser.parse_args()
    if options.against:
        try:
            compared = against.measure(options.against, options.rows or _COMPARED, options.rounds or 5)
        except RuntimeError as error:
            parser.error(str(error))
        against.show(compared, revision=options.against, as_json=options.json)
        return int(any(one.within is False for one in compared))
    figures: list[Figure] = []
    for letter in options.rows or ROWS:
        began = cpu_ticks()
        print(f"row {letter} …", file=sys.stderr, end="", flush=True)
        figures.extend(ROWS[letter](options.rounds or 3))
        print(f" the host took {stolen_share(began):.0%} of the machine's time", file=sys.stderr)
    show(figures, as_json=options.json)
    return int(any(figure.met is False for figure in figures))


if __name__ == "__main__":
    sys.exit(main())
