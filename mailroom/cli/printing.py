"""Prints for people and for machines; what strangers wrote is shown, not obeyed."""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mailroom.clock import Instant
from mailroom.errors import Fault
from mailroom.logs import printable
from mailroom.message import State
from mailroom.outbox import Record

_STYLES = {
    State.QUEUED: "cyan",
    State.SENDING: "cyan",
    State.HELD: "yellow",
    State.SENT: "green",
    State.DELIVERED: "green",
}


def print_json(value: Any) -> None:
    """Print one JSON document, indented."""
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2))


def print_faults(faults: Sequence[Fault]) -> None:
    """Print what is wrong with the settings, to standard error."""
    console = Console(stderr=True)
    count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
    console.print(Text(f"The settings have {count}:", style="bold red"))
    for fault in faults:
        text = Text.assemble("  ", (printable(fault.path), "bold"), ": ", printable(fault.problem))
        console.print(text, soft_wrap=not console.is_terminal)


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str | Text]]) -> None:
    """Print a table; where the output is no terminal nothing is cut off."""
    console = Console(width=None if sys.stdout.isatty() else 1000)
    table = Table(*headings, box=None, pad_edge=False, header_style="bold", show_header=any(headings))
    for row in rows:
        table.add_row(*(Text(printable(cell)) if isinstance(cell, str) else cell for cell in row))
    console.print(table)


def shown(state: State) -> Text:
    """Return a state in its colour."""
    return Text(state, style=_STYLES.get(state, "red"))


def moment(instant: Instant | None) -> str | None:
    """Return a moment as ISO 8601, UTC, to the second."""
    return None if instant is None else datetime.fromtimestamp(instant, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def record_as_json(record: Record) -> dict[str, Any]:
    """Return a record as `--json` prints it: moments in ISO 8601, durations in seconds."""
    return {
        "id": record.id,
        "state": record.state,
        "template": record.template,
        "priority": record.priority.name.lower(),
        "recipient": record.recipient,
        "created_at": moment(record.created_at),
        "expires_at": moment(record.expires_at),
        "settled_at": moment(record.settled_at),
        "due_at": moment(record.due_at),
        "reason": record.reason,
        "provider_message_id": record.provider_message_id,
        "languages": record.languages,
        "attempts": [
            {
                "provider": attempt.provider,
                "started_at": moment(attempt.started_at),
                "duration_seconds": attempt.duration_seconds,
                "outcome": attempt.outcome,
                "words": attempt.words,
            }
            for attempt in record.attempts
        ],
        "payload": record.payload,
    }


def span(seconds: float) -> str:
    """Return a duration for people: `12 s`, `4 min`, `3 h`, `2 d`."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{int(seconds / length)} {unit}"
    return f"{max(0, int(seconds))} s"
