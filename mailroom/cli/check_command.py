"""`mailroom check`: validates the settings and lints every mail of the templates."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from mailroom.cli.context import CliContext, as_json
from mailroom.cli.output import print_faults, print_json, print_table, say
from mailroom.config import load, template_sources, warnings
from mailroom.config.model import Settings
from mailroom.errors import Fault, RenderingError, SettingsError
from mailroom.lint import CHECKS, Finding

_NAMED = 3
"""How many kinds or languages a finding lists by name."""


@click.command()
@as_json
@click.pass_obj
def check(desk: CliContext, *, as_json: bool) -> None:
    """Check the settings, then every mail that the templates make; exit with 1 if anything is wrong.

    Every kind of mail is rendered in every language with a full, a minimal, an empty and a hostile payload, and goes
    through 22 checks (docs/check.md). Nothing is sent, no network is used. Warnings do not fail.
    """
    faults: list[Fault] = []
    cautions: list[str] = []
    results: list[Finding] = []
    settings: Settings | None = None
    try:
        settings = load(environ=os.environ, config=desk.config, dev=desk.dev)
        cautions = warnings(settings)
        results = findings(settings, faults)
    except SettingsError as error:
        faults = error.faults
    if as_json:
        print_json({"faults": faults, "warnings": cautions, "findings": [asdict(finding) for finding in results]})
    elif settings is None:
        print_faults(faults)
    else:
        if faults:
            print_faults(faults)
        else:
            _print_summary(settings, cautions)
        print_findings(results)
    if faults or any(not finding.is_warning for finding in results):
        raise click.exceptions.Exit(1)


def findings(settings: Settings, faults: list[Fault]) -> list[Finding]:
    """Return what is wrong with the mails of these settings; show a progress bar.

    Templates of the operator that cannot be used at all are added to the faults; the bundled ones replace them.
    """
    from mailroom.lint import runner  # noqa: PLC0415 - parsers, for this command only
    from mailroom.lint.rules import rendered  # noqa: PLC0415 - likewise

    try:
        writer = template_sources.writer(settings, tell=faults.append)
    except RenderingError as error:
        return [rendered.unwritable(error)]
    desk = rendered.LintContext(writer, settings.sender, settings.reply_to, template_sources.sender_domains(settings))
    with bar(runner.count(desk)) as progress:
        return runner.check(desk, default_language=settings.default_locale, progress=progress)


@contextmanager
def bar(mails: int) -> Iterator[Callable[[], None]]:
    """Show a progress bar on a terminal while the block runs."""
    columns = TextColumn("Mails"), BarColumn(), TaskProgressColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("mails", total=mails)
        yield lambda: progress.advance(task)


def print_findings(results: list[Finding]) -> None:
    """Print findings for people: problem, place, remedy."""
    if not results:
        say("The templates pass all 22 checks, in every kind and language.", style="green")
        return
    wrong = sum(not finding.is_warning for finding in results)
    doubtful = len(results) - wrong
    counts = [f"{count} {word}" for count, word in ((wrong, "wrong"), (doubtful, "doubtful")) if count]
    say(f"The templates: {', '.join(counts)} (see docs/check.md)", style="bold", wrap=True)
    for finding in results:
        style = "yellow" if finding.is_warning else "red"
        where = finding.place or "the settings"
        say((f"{finding.check:4}  ", style), (where, "bold"), f": {finding.problem}", wrap=True)
        say(f"      must hold: {CHECKS[finding.check]}", wrap=True)
        say(f"      to do: {finding.remedy}", wrap=True)
        if finding.kinds:
            seen = map(_listed, filter(None, (finding.kinds, finding.languages, finding.owners)))
            say(f"      seen in: {'; '.join(seen)}", style="dim", wrap=True)


def _listed(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _print_summary(settings: Settings, cautions: list[str]) -> None:
    say("The settings are valid.", style="green")
    for caution in cautions:
        say(f"Warning: {caution}", style="yellow")
    route = settings.routes.get("default") or tuple(settings.providers)
    print_table(
        ("", ""),
        [
            ("from", f"{settings.sender.name} <{settings.sender.email}>".strip()),
            ("delivered by", ", then ".join(f"{name} ({settings.providers[name].type})" for name in route)),
            ("stored in", str(settings.database_path)),
            ("listens on", f"{settings.host} port {settings.port}"),
            ("webhook", "open" if settings.webhook.signing_keys else "closed: no webhook.signing_keys"),
        ],
    )
