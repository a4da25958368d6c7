"""What twenty languages cost: time to start, memory, and time per mail, against English alone.

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
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Final

from bench.mime import MESSAGE, SENDER
from mailroom.rendering import Brand
from mailroom.rendering.writer import BUNDLED, TemplateWriter

ROUNDS: Final = 15
REPEATS: Final = 200
START_BUDGET: Final = 300
"""ms of CPU, for all languages."""
MEMORY_BUDGET: Final = 20
"""MiB, for all languages."""
MAIL_BUDGET: Final = 1.1
"""Times what a mail in English takes alone; less cannot be told from a busy machine."""


def main() -> int:
    """Print the row; the exit code tells whether the aims were met."""
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
    print(f"   start {start:6.1f} ms (≤ {START_BUDGET}); nineteen languages {memory:5.2f} MiB (≤ {MEMORY_BUDGET})")
    for name, taken in micros.items():
        print(f"   {name:<14} {taken:6.1f} µs a mail, rendered and serialized")
    dearer = micros["en, of twenty"] / micros["en, alone"]
    met = start <= START_BUDGET and memory <= MEMORY_BUDGET and dearer <= MAIL_BUDGET
    print(f"   aims: {'met' if met else 'MISSED'}")
    return 0 if met else 1


def _but_english(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if Path(folder).name == "locales" and name != "en.toml"]


def _writer(templates: Path) -> TemplateWriter:
    return TemplateWriter(
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
    """Return what a writer keeps."""
    gc.collect()
    tracemalloc.start()
    kept = _writer(templates)
    gc.collect()
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del kept
    return size / 2**20


def _mail(writer: TemplateWriter, tag: str) -> Callable[[], object]:
    message = replace(MESSAGE, languages=(tag,))
    return lambda: writer.write(message, sender=SENDER, reply_to=None)


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
