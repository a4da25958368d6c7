"""`mailroom doctor`: checks the outgoing address, the credentials, and MX, SPF, DKIM, DMARC and PTR."""

import asyncio
from ipaddress import ip_address
from typing import Any, Final

import click

from mailroom.cli.context import CliContext, as_json
from mailroom.cli.output import print_json, say
from mailroom.clock import SystemClock
from mailroom.config.model import Settings
from mailroom.doctor import Examination, ExaminationOptions, Finding, Mark, SystemResolver, examine

_MARKS: Final = {Mark.GOOD: ("✓", "green"), Mark.WRONG: ("✗", "bold red"), Mark.UNKNOWN: ("–", "yellow")}  # noqa: RUF001 - as it is printed


class _IpAddress(click.ParamType[Any]):
    name = "address"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return ip_address(value)
        except ValueError:
            self.fail(f"{value!r} is not an address; write it as 203.0.113.9", param, ctx)


@click.command()
@click.argument("providers", nargs=-1, metavar="[PROVIDER]…")
@click.option("--echo", metavar="URL", help="Service that returns our public address.  [default: echo_url]")
@click.option(
    "--egress",
    type=_IpAddress(),
    multiple=True,
    help="An address that your own relay delivers from, for SPF and PTR; may be repeated.",
)
@click.option(
    "--selector", "selectors", multiple=True, metavar="NAME", help="A DKIM selector to look for; may be repeated."
)
@click.option("--nameserver", metavar="ADDRESS[#PORT]", help="Name server to query.  [default: the system's]")
@as_json
@click.pass_obj
def doctor(
    desk: CliContext,
    *,
    providers: tuple[str, ...],
    echo: str | None,
    egress: tuple[Any, ...],
    selectors: tuple[str, ...],
    nameserver: str | None,
    as_json: bool,
) -> None:
    """Examine all providers, or those named. Sends no mail; uses an address echo service only if one is set.

    Tests each provider's credentials and checks the sender's domain as receivers do. Exits with 1 if anything is
    wrong.
    """
    settings = desk.settings()
    for name in providers:
        if name not in settings.providers:
            raise click.BadParameter(f"there is no provider {name!r}; there are: {', '.join(settings.providers)}")
    options = ExaminationOptions(echo or settings.echo_url, egress, selectors)
    examinations = asyncio.run(
        _examine_all(settings, providers or tuple(settings.providers), _resolver(nameserver), options)
    )
    if as_json:
        print_json(
            {"wrong": _count_wrong(examinations), "providers": [_as_json(examination) for examination in examinations]}
        )
    else:
        _print(examinations)
    if _count_wrong(examinations):
        raise click.exceptions.Exit(1)


def _resolver(nameserver: str | None) -> SystemResolver:
    if nameserver is None:
        return SystemResolver()
    address, _, port = nameserver.partition("#")
    try:
        return SystemResolver([str(ip_address(address))], port=int(port or 53))
    except ValueError:
        raise click.BadParameter("write a name server as 192.0.2.53 or 192.0.2.53#5353") from None


async def _examine_all(
    settings: Settings, names: tuple[str, ...], resolver: SystemResolver, options: ExaminationOptions
) -> list[Examination]:
    """Examine concurrently; the resolver caches its answers."""
    clock = SystemClock()
    pending = [
        examine(name, settings.providers[name], settings.sender, resolver=resolver, clock=clock, options=options)
        for name in names
    ]
    return list(await asyncio.gather(*pending))


def _count_wrong(examinations: list[Examination]) -> int:
    return sum(finding.mark is Mark.WRONG for examination in examinations for finding in examination.findings)


def _as_json(examination: Examination) -> dict[str, Any]:
    return {
        "provider": examination.provider,
        "type": examination.type,
        "from": examination.sender.email,
        "findings": [
            {"about": finding.about, "mark": finding.mark, "words": finding.words, "todo": finding.todo}
            for finding in examination.findings
        ],
    }


def _print(examinations: list[Examination]) -> None:
    for examination in examinations:
        say(f"{examination.provider} ({examination.type}), mails from {examination.sender.email}", style="bold")
        for finding in examination.findings:
            _print_finding(finding)
        say()
    count = _count_wrong(examinations)
    if count:
        say(f"{count} {'thing is' if count == 1 else 'things are'} wrong.", style="bold red")
    else:
        say("Nothing is wrong.", style="green")


def _print_finding(finding: Finding) -> None:
    say("  ", _MARKS[finding.mark], f" {finding.about:<12}", finding.words)
    if finding.todo:
        say(f"    → {finding.todo}", style="" if finding.mark is Mark.WRONG else "dim")
