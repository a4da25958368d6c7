"""Row g: what twenty languages cost in memory and in time per mail, against English alone.

python -m bench.languages
"""

import gc
import shutil
import statistics
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from bench.figures import Figure, show
from bench.mime import MESSAGE, SENDER
from mailroom.lint.samples import Sample, message
from mailroom.rendering import Brand
from mailroom.rendering.renderer import BUNDLED, TemplateRenderer

ROUNDS: Final = 15
REPEATS: Final = 200
MEMORY_BUDGET: Final = 20
"""MiB, for all languages."""
MAIL_BUDGET: Final = 1.1
"""Times what a mail in English takes alone; less cannot be told from a busy machine."""


def figures(_rounds: int = ROUNDS) -> list[Figure]:
    """Return row g. The time to start is printed for comparison: it is this machine's."""
    with tempfile.TemporaryDirectory() as folder:
        english = Path(folder) / "mails"
        shutil.copytree(BUNDLED, english, ignore=_but_english)
        start = _start(BUNDLED)
        memory = _mebibytes(BUNDLED) - _mebibytes(english)
        few, many = _writer(english), _writer(BUNDLED)
        micros = _micros(
            {
                "en, alone": lambda: few.write(MESSAGE, sender=SENDER, reply_to=None),
                "en, of twenty": lambda: many.write(MESSAGE, sender=SENDER, reply_to=None),
                **{tag: _mail(many, tag) for tag in ("de", "ru", "ar", "zh-TW")},
            }
        )
    alone = micros.pop("en, alone")
    dearer = micros["en, of twenty"] / alone
    fits, is_free = memory <= MEMORY_BUDGET, dearer <= MAIL_BUDGET
    sides = {name: (f"{taken:.0f} µs", f"{alone:.0f} µs", taken / alone) for name, taken in micros.items()}
    mail = sides.pop("en, of twenty")
    what = "a mail in English, with nineteen more there (against alone)"
    return [
        Figure(
            "g", "nineteen more, all kinds written", f"{memory:.1f} MiB", "", memory, f"≤ {MEMORY_BUDGET}", met=fits
        ),
        Figure("g", what, *mail, f"≤ {MAIL_BUDGET}", met=is_free),
        *[Figure("g", f"the same in {tag}", *side, "", met=None) for tag, side in sides.items()],
        Figure("g", "reading all languages at a start", f"{start:.0f} ms", "", start, "", met=None),
    ]


def main() -> int:
    """Print the row; the exit code tells whether the aims were met."""
    found = figures()
    show(found, as_json=False)
    return int(any(figure.met is False for figure in found))


def _but_english(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if Path(folder).name == "locales" and name != "en.toml"]


def _writer(templates: Path) -> TemplateRenderer:
    return TemplateRenderer(
        brand=Brand(name="Acme", company="Acme Inc., 1 Main St", support_email="help@acme.example"),
        code_lifetime=timedelta(minutes=10),
        message_id_domain="acme.example",
        templates=templates,
    )


def _start(templates: Path) -> float:
    """Return the median ms of CPU that a writer takes to make."""
    taken = []
    for _ in range(ROUNDS):
        begun = time.thread_time_ns()
        _writer(templates)
        taken.append((time.thread_time_ns() - begun) / 1e6)
    return statistics.median(taken)


def _mebibytes(templates: Path) -> float:
    """Return what a writer keeps that has written each kind in each language, and so compiled its page."""
    gc.collect()
    tracemalloc.start()
    kept = _writer(templates)
    for kind, languages in kept.inventory({}).kinds.items():
        for language in languages:
            kept.write(message(kind, Sample.FULL, language), sender=SENDER, reply_to=None)
    gc.collect()
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del kept
    return size / 2**20


def _mail(writer: TemplateRenderer, tag: str) -> Callable[[], object]:
    asked = replace(MESSAGE, languages=(tag,))
    return lambda: writer.render(asked, sender=SENDER, reply_to=None)


def _micros(jobs: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Return the µs of CPU of each in its best round: a neighbour only ever adds to it."""
    taken: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(ROUNDS):
        for name, job in jobs.items():
            begun = time.thread_time_ns()
            for _ in range(REPEATS):
                job()
            taken[name].append((time.thread_time_ns() - begun) / REPEATS / 1000)
    return {name: min(rounds) for name, rounds in taken.items()}


if __name__ == "__main__":
    sys.exit(main())
