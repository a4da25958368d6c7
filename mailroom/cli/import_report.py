"""Prints what an import did, as text or as JSON."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mailroom.cli.output import print_block, print_line, print_table
from mailroom.config import DEFAULT_CONFIG
from mailroom.importing.configuration import Configuration
from mailroom.importing.folder import PlacedFile
from mailroom.importing.plan import ImportLog

_INDENT: Final = "    "


@dataclass(frozen=True, slots=True)
class Report:
    """What an import did, or in a dry run would do."""

    config: Path
    env_file: Path
    templates: str
    placed: list[PlacedFile]
    configuration: Configuration
    log: ImportLog
    dry_run: bool

    @property
    def is_empty(self) -> bool:
        """Whether there was nothing to import."""
        merged = self.configuration
        written = self.placed or merged.new_toml or merged.block or merged.settled
        return not (written or self.log.left_out or self.log.notes)


def report_as_json(report: Report) -> dict[str, Any]:
    """Return the report as `--json` prints it; no secret is in it."""
    configuration = report.configuration
    return {
        "dry_run": report.dry_run,
        "templates": report.templates,
        "files": [{"path": file.path, "fate": file.status} for file in report.placed],
        "settings": {
            "file": str(report.config),
            "written": configuration.new_toml,
            "to_paste": configuration.block,
            "in_place": configuration.settled,
        },
        "secrets": {"file": str(report.env_file), "added": list(configuration.new_variables)},
        "left_out": report.log.left_out,
        "notes": report.log.notes,
    }


def print_report(report: Report) -> None:
    """Print the report for people."""
    configuration = report.configuration
    would = "would be " if report.dry_run else ""
    if report.placed:
        print_line(f"Templates, in {report.templates}:", style="bold")
        rows = [(file, would if file.status in ("written", "overwritten") else "") for file in report.placed]
        print_table(("", ""), [(f"  {file.path}", f"{prefix}{file.status}") for file, prefix in rows])
    if configuration.new_toml is not None:
        print_line(f"{report.config} {would}written.", style="bold")
        if report.dry_run:
            print_block(configuration.new_toml, indent=_INDENT)
    for name in configuration.settled:
        print_line(f"{report.config} has the provider {name} already.")
    for name in configuration.new_variables:
        print_line(f"{report.env_file}: {name} {would}added.")
    if configuration.block:
        print_line(f"To be pasted into {report.config}:", style="bold")
        print_block(configuration.block, indent=_INDENT)
    _print_log(report.log)
    if configuration.new_toml is not None and not report.dry_run:
        print_line("Next:", style="bold")
        option = "" if report.config == DEFAULT_CONFIG else f" --config {report.config}"
        steps = f"keygen --write {report.config}", "check", "serve"
        print_block("\n".join(f"mailroom{option} {step}" for step in steps), indent=_INDENT)


def _print_log(log: ImportLog) -> None:
    if log.left_out:
        print_line(f"Not taken over: {len(log.left_out)}", style="bold yellow")
        for left in log.left_out:
            print_line(f"  {left.source}: {left.what}", style="yellow")
            print_line(f"    {left.why}; {left.remedy}")
    for note in log.notes:
        print_line(f"Note, {note.source}: {note.text}")
    if not log.left_out:
        print_line("Everything is imported.", style="green")
