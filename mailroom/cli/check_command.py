"""`mailroom check`: validates the settings and lints every mail of the templates."""

import click

from mailroom.cli.context import CliContext, as_json
from mailroom.cli.output import print_faults, print_json, print_line, print_table, progress_bar
from mailroom.config import senders, template_sources, warnings
from mailroom.config.model import Settings
from mailroom.config.overrides import Override
from mailroom.errors import Fault, RenderingError, SettingsError
from mailroom.lint import Finding, FindingGroup, group_findings, merge_findings
from mailroom.message import Address
from mailroom.outbox.by_url import place_of

_LISTED = 3
"""How many files, kinds or languages are listed by name."""


@click.command()
@as_json
@click.pass_obj
def check(cli: CliContext, *, as_json: bool) -> None:
    """Check the settings, then every mail that the templates make; exit with 1 if anything is wrong.

    Every kind of mail is rendered in every language with a full, a minimal, an empty and a hostile payload, and goes
    through 22 checks (docs/check.md). Nothing is sent, no network is used. Warnings do not fail.
    """
    faults: list[Fault] = []
    cautions: list[str] = []
    findings: list[Finding] = []
    settings: Settings | None = None
    try:
        settings = cli.load()
        cautions = warnings(settings)
        findings = _lint(settings)
    except SettingsError as error:
        faults = error.faults
    if as_json:
        print_json({"faults": faults, "warnings": cautions, "findings": findings})
    else:
        if faults:
            print_faults(faults, cli.file)
        elif settings is not None:
            _print_summary(settings, cautions)
        if settings is not None:
            _print_findings(findings)
    if faults or any(not finding.is_warning for finding in findings):
        raise click.exceptions.Exit(1)


def _lint(settings: Settings) -> list[Finding]:
    """Return what is wrong with the mails and templates of these settings; show a progress bar."""
    from mailroom.lint import runner  # noqa: PLC0415 - parsers, for this command only
    from mailroom.lint.rules import rendered  # noqa: PLC0415 - likewise
    from mailroom.lint.template_faults import find_template_faults  # noqa: PLC0415 - likewise
    from mailroom.lint.unused_names import find_unused_names  # noqa: PLC0415 - likewise

    faults: list[Fault] = []
    try:
        renderer = template_sources.build_renderer(settings, on_fault=faults.append)
    except RenderingError as error:
        return [rendered.render_failure(error)]
    domains = template_sources.sender_domains(settings)
    context = rendered.LintContext(renderer, settings.sender, settings.reply_to, domains)
    with progress_bar(runner.count(context)) as advance:
        findings = runner.check(context, default_language=settings.default_locale, progress=advance)
    event_templates = {rule.template for rule in settings.webhook.events.values()}
    names = find_unused_names(context, event_templates)
    return merge_findings([*find_template_faults(faults, context), *names, *findings])


def _print_findings(findings: list[Finding]) -> None:
    """Print findings for people: by file and cause, with the remedy."""
    if not findings:
        print_line("The templates pass all 22 checks, in every kind and language.", style="green")
        return
    wrong = sum(not finding.is_warning for finding in findings)
    counts = [f"{count} {word}" for count, word in ((wrong, "wrong"), (len(findings) - wrong, "doubtful")) if count]
    print_line(f"The templates: {', '.join(counts)} (see docs/check.md)", style="bold", wrap=True)
    for group in group_findings(findings):
        _print_group(group)


def _print_group(group: FindingGroup) -> None:
    print_line(_listed(group.files) or "the settings", style="bold", wrap=True)
    for finding in group.findings:
        style = "yellow" if finding.is_warning else "red"
        line = f"line {finding.line}: " if finding.line else ""
        print_line((f"{finding.check:4}  ", style), line, finding.problem, wrap=True)
        print_line(f"      to do: {finding.remedy}", wrap=True)
        if finding.kinds:
            places = map(_listed, filter(None, (finding.kinds, finding.languages, finding.owners)))
            print_line(f"      seen in: {'; '.join(places)}", style="dim", wrap=True)


def _listed(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


def _mailbox(address: Address) -> str:
    return f"{address.name} <{address.email}>".strip()


def _describe_route(settings: Settings, names: tuple[str, ...]) -> str:
    return ", then ".join(f"{name} ({settings.providers[name].type})" for name in names)


def _describe_override(settings: Settings, override: Override) -> str:
    parts = [f"from {_mailbox(override.sender)}"] if override.sender else []
    parts += [f"Reply-To {_mailbox(override.reply_to)}"] if override.reply_to else []
    parts += [f"delivered by {_describe_route(settings, override.providers)}"] if override.providers else []
    return "; ".join(parts)


def _print_summary(settings: Settings, cautions: list[str]) -> None:
    print_line("The settings are valid.", style="green")
    for caution in cautions:
        print_line(f"Warning: {caution}", style="yellow")
    print_table(
        ("", ""),
        [
            ("from", _mailbox(settings.sender)),
            ("delivered by", _describe_route(settings, senders.routes(settings)["default"])),
            *((str(one.when), _describe_override(settings, one)) for one in settings.overrides),
            ("stored in", place_of(settings.database_url)),
            ("listens on", f"{settings.host} port {settings.port}"),
            ("webhook", "open" if settings.webhook.signing_keys else "closed: no webhook.signing_keys"),
        ],
    )
