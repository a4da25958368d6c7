"""Prints what an import did, as text or as JSON."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mailroom.cli.output import print_block, print_table, say
from mailroom.importing.configuration import Configuration
from mailroom.importing.folder import Placed
from mailroom.importing.plan import Ledger

_INDENT: Final = "    "


@dataclass(frozen=True, slots=True)
class Report:
    """What an import did, or in a dry run would do."""

    config: Path
    env_file: Path
    templates: str
    placed: list[Placed]
    arranged: Configuration
    ledger: Ledger
    dry_run: bool

    @property
    def left_out(self) -> bool:
        """Whether something was not imported."""
        return bool(self.ledger.left_out)

    @property
    def is_empty(self) -> bool:
        """Whether there was nothing to import."""
        arranged = self.arranged
        return not (self.placed or arranged.new_toml or arranged.block or arranged.settled or self._has_messages)

    @property
    def _has_messages(self) -> bool:
        return bool(self.ledger.left_out or self.ledger.notes)


def report_as_json(report: Report) -> dict[str, Any]:
    """Return the report as `--json` prints it; no secret is in it."""
    arranged = report.arranged
    return {
        "dry_run": report.dry_run,
        "templates": report.templates,
        "files": [{"path": file.path, "fate": file.fate} for file in report.placed],
        "settings": {
            "file": str(report.config),
            "written": arranged.new_toml,
            "to_paste": arranged.block,
            "in_place": arranged.settled,
        },
        "secrets": {"file": str(report.env_file), "added": list(arranged.new_variables)},
        "left_out": report.ledger.left_out,
        "notes": report.ledger.notes,
    }


def print_report(report: Report) -> None:
    """Print the report for people."""
    arranged = report.arranged
    would = "would be " if report.dry_run else ""
    if report.placed:
        say(f"Templates, in {report.templates}:", style="bold")
        print_table(("", ""), [(f"  {file.path}", _fate(file, would)) for file in report.placed])
    if arranged.new_toml is not None:
        say(f"{report.config} {would}written.", style="bold")
        if report.dry_run:
            print_block(arranged.new_toml, indent=_INDENT)
    for name in arranged.settled:
        say(f"{report.config} has the provider {name} already.")
    for name in arranged.new_variables:
        say(f"{report.env_file}: {name} {would}added.")
    if arranged.block:
        say(f"To be pasted into {report.config}:", style="bold")
        print_block(arranged.block, indent=_INDENT)
    _print_ledger(report.ledger)


def _fate(file: Placed, would: str) -> str:
    return f"{would}{file.fate}" if file.fate in ("written", "overwritten") else str(file.fate)


def _print_ledger(ledger: Ledger) -> None:
    if ledger.left_out:
        say(f"Not taken over: {len(ledger.left_out)}", style="bold yellow")
        for left in ledger.left_out:
            say(f"  {left.source}: {left.what}", style="yellow")
            say(f"    {left.why}; {left.remedy}")
    for note in ledger.notes:
        say(f"Note, {note.source}: {note.text}")
    if not ledger.left_out:
        say("Everything is imported.", style="green")
