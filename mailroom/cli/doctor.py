"""`mailroom doctor`: whether mails will leave, and arrive: address, credentials, MX, SPF, DKIM, DMARC, PTR."""

import asyncio
from ipaddress import ip_address
from typing import Any, Final

import click
from rich.console import Console
from rich.text import Text

from mailroom.cli.group import Desk, as_json
from mailroom.cli.printing import print_json
from mailroom.clock import SystemClock
from mailroom.doctor import Examination, Finding, Mark, System, Wishes, examine
from mailroom.logs import printable
from mailroom.settings import Settings

_MARKS: Final = {Mark.GOOD: ("✓", "green"), Mark.WRONG: ("✗", "bold red"), Mark.UNKNOWN: ("–", "yellow")}  # noqa: RUF001 - as it is printed


class _IpAddress(click.ParamType[Any]):
    name = "address"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return ip_address(value)
        except ValueError:
            self.fail(f"{value!r} is no address; write it as 203.0.113.9", param, ctx)


@click.command()
@click.argument("providers", nargs=-1, metavar="[PROVIDER]…")
@click.option("--echo", metavar="URL", help="Ask this service which address others see.  [default: echo_url]")
@click.option(
    "--egress",
    type=_IpAddress(),
    multiple=True,
    help="An address that your own relay delivers from, for SPF and PTR; may be repeated.",
)
@click.option(
    "--selector", "selectors", multiple=True, metavar="NAME", help="A DKIM selector to look for; may be repeated."
)
@click.option("--nameserver", metavar="ADDRESS[#PORT]", help="Ask this name server.  [default: the system's]")
@as_json
@click.pass_obj
def doctor(
    desk: Desk,
    *,
    providers: tuple[str, ...],
    echo: str | None,
    egress: tuple[Any, ...],
    selectors: tuple[str, ...],
    nameserver: str | None,
    as_json: bool,
) -> None:
    """Examine providers (all, or those named): sends no mail, and asks no address echo service unless one is named.

    Tries each provider's credentials, and looks at the sender's domain as receivers do. Exits with 1 if anything is
    wrong.
    """
    settings = desk.settings()
    for name in providers:
        if name not in settings.providers:
            raise click.BadParameter(f"there is no provider {name!r}; there are: {', '.join(settings.providers)}")
    wishes = Wishes(echo or settings.echo_url, egress, selectors)
    found = asyncio.run(_examined(settings, providers or tuple(settings.providers), _resolver(nameserver), wishes))
    if as_json:
        print_json({"wrong": _count(found), "providers": [_as_json(examination) for examination in found]})
    else:
        _print(found)
    if _count(found):
        raise click.exceptions.Exit(1)


def _resolver(nameserver: str | None) -> System:
    if nameserver is None:
        return System()
    address, _, port = nameserver.partition("#")
    try:
        return System([str(ip_address(address))], port=int(port or 53))
    except ValueError:
        raise click.BadParameter("write a name server as 192.0.2.53 or 192.0.2.53#5353") from None


async def _examined(settings: Settings, names: tuple[str, ...], resolver: System, wishes: Wishes) -> list[Examination]:
    """Examine at the same time; the resolver asks nothing twice."""
    clock = SystemClock()
    examining = [
        examine(name, settings.providers[name], settings.sender, resolver=resolver, clock=clock, wishes=wishes)
        for name in names
    ]
    return list(await asyncio.gather(*examining))


def _count(found: list[Examination]) -> int:
    return sum(finding.mark is Mark.WRONG for examination in found for finding in examination.findings)


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


def _print(found: list[Examination]) -> None:
    console = Console(highlight=False)
    for number, examination in enumerate(found):
        heading = f"{examination.provider} ({examination.type}), mails from {printable(examination.sender.email)}"
        console.print(Text(("\n" if number else "") + heading, style="bold"), soft_wrap=True)
        for finding in examination.findings:
            console.print(_line(finding), soft_wrap=True)
    count = _count(found)
    if count:
        console.print(Text(f"\n{count} {'thing is' if count == 1 else 'things are'} wrong.", style="bold red"))
    else:
        console.print(Text("\nNothing is wrong.", style="green"))


def _line(finding: Finding) -> Text:
    mark, style = _MARKS[finding.mark]
    line = Text.assemble("  ", (mark, style), f" {finding.about:<12}", printable(finding.words))
    if finding.todo:
        line.append(f"\n    → {printable(finding.todo)}", style="" if finding.mark is Mark.WRONG else "dim")
    return line
