"""Prints text and JSON: the only module that writes to the terminal.

Names, addresses, subjects and providers' diagnostics are foreign text. Control characters (C0, C1, bidi) are escaped,
line breaks too, and Rich's markup is not interpreted, so no text can move the cursor, hide or imitate a line.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.table import Column, Table
from rich.text import Text

from mailroom.clock import Instant
from mailroom.errors import Fault
from mailroom.message import State
from mailroom.outbox import Record
from mailroom.text import printable

_STYLES = {
    State.QUEUED: "cyan",
    State.SENDING: "cyan",
    State.HELD: "yellow",
    State.SENT: "green",
    State.DELIVERED: "green",
}


def print_line(*parts: str | tuple[str, str], style: str = "", wrap: bool = False, error: bool = False) -> None:
    """Print one line: texts, or pairs of a text and its style. `wrap` breaks it between words on a terminal."""
    console = Console(stderr=error)
    pairs = [(part, "") if isinstance(part, str) else part for part in parts]
    line = Text.assemble(*((printable(text), part_style) for text, part_style in pairs), style=style)
    console.print(line, soft_wrap=not (wrap and console.is_terminal))


def print_block(text: str, *, indent: str = "") -> None:
    """Print lines that the operator copies."""
    for line in text.removesuffix("\n").split("\n"):
        print_line(f"{indent}{line}".rstrip())


def print_json(value: Any) -> None:
    """Print one JSON document, indented; unprintable characters are escaped as in RFC 8259 §7."""
    text = msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
    click.echo("".join(char if char.isprintable() or char == "\n" else json.dumps(char)[1:-1] for char in text))


def print_faults(faults: Sequence[Fault], file: Path) -> None:
    """Print what is wrong with the settings, to standard error; `file` may not exist."""
    count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
    print_line(f"The settings have {count}:", style="bold red", error=True)
    for fault in faults:
        print_line("  ", (fault.path, "bold"), ": ", fault.problem, wrap=True, error=True)
    if not file.exists():
        print_line(f"There is no {file.absolute()}: name your settings file with --config FILE.", wrap=True, error=True)


@contextmanager
def progress_bar(total: float, label: str = "Mails") -> Iterator[partial[None]]:
    """Show a progress bar on a terminal while the block runs; the yielded function advances it, by one by default."""
    columns = TextColumn(label), BarColumn(), TaskProgressColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        yield partial(progress.advance, progress.add_task(label, total=total))


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str | Text]]) -> None:
    """Print a table. What is too long is wrapped on a terminal; if the output is none, each row is one line."""
    console = Console(width=None if sys.stdout.isatty() else 10_000)
    columns = [Column(heading, overflow="fold") for heading in headings]
    table = Table(*columns, box=None, pad_edge=False, header_style="bold", show_header=any(headings))
    for row in rows:
        table.add_row(*(Text(printable(cell)) if isinstance(cell, str) else cell for cell in row))
    console.print(table)


def styled_state(state: State) -> Text:
    """Return a state in its colour."""
    return Text(state, style=_STYLES.get(state, "red"))


def iso_time(instant: Instant | None) -> str | None:
    """Return a time as ISO 8601, UTC, to the second."""
    return None if instant is None else datetime.fromtimestamp(instant, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def local_time(instant: Instant) -> str:
    """Return a time for people: local, without its year, to the second."""
    return datetime.fromtimestamp(instant, UTC).astimezone().strftime("%m-%d %H:%M:%S")


def record_as_json(record: Record) -> dict[str, Any]:
    """Return a record as `--json` prints it: times in ISO 8601, durations in seconds."""
    return {
        "id": record.id,
        "state": record.state,
        "template": record.template,
        "priority": record.priority.name.lower(),
        "recipient": record.recipient,
        "created_at": iso_time(record.created_at),
        "expires_at": iso_time(record.expires_at),
        "settled_at": iso_time(record.settled_at),
        "due_at": iso_time(record.due_at),
        "reason": record.reason,
        "provider_message_id": record.provider_message_id,
        "languages": record.languages,
        "attempts": [
            {
                "provider": attempt.provider,
                "started_at": iso_time(attempt.started_at),
                "duration_seconds": attempt.duration_seconds,
                "outcome": attempt.outcome,
                "diagnostic": attempt.diagnostic,
            }
            for attempt in record.attempts
        ],
        "payload": record.payload,
    }


def short_duration(seconds: float | None) -> str:
    """Return a duration for people: `12 s`, `4 min`, `3 h`, `2 d`; empty for None."""
    if seconds is None:
        return ""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{int(seconds / length)} {unit}"
    return f"{max(0, int(seconds))} s"
