"""`python -m bench`: measures every row and prints one table; `make bench` is the same."""

import argparse
import sys
from collections.abc import Callable

from bench import accept, http, languages, memory, mime, smtp, whole
from bench.figures import Figure, show, ticks

ROWS: dict[str, Callable[[int], list[Figure]]] = {
    "a": accept.measure,
    "b": smtp.figures,
    "c": whole.measure_throughput,
    "d": whole.measure_latency,
    "e": mime.figures,
    "f": memory.measure,
    "g": lambda _rounds: languages.figures(),
    "h": lambda _rounds: http.figures(),
}


def main() -> int:
    """Measure; 1 when an aim was missed."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rows", default="".join(ROWS), help="letters, as in abc")
    parser.add_argument("--rounds", type=int, default=3, help="of each side, in turn; their medians are shown")
    parser.add_argument("--json", action="store_true", help="for a machine")
    options = parser.parse_args()
    figures: list[Figure] = []
    for letter in options.rows:
        began = ticks()
        print(f"row {letter} …", file=sys.stderr, end="", flush=True)
        figures.extend(ROWS[letter](options.rounds))
        stolen, whole = (now - then for now, then in zip(ticks(), began, strict=True))
        print(f" the host took {stolen / max(1, whole):.0%} of the machine's time", file=sys.stderr)
    show(figures, as_json=options.json)
    return int(any(figure.met is False for figure in figures))


if __name__ == "__main__":
    sys.exit(main())
