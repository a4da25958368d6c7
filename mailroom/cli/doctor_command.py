"""`mailroom doctor`: checks the outgoing address, the credentials, and MX, SPF, DKIM, DMARC and PTR."""

import asyncio
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any, Final

import click

from mailroom.cli.context import CliContext, as_json
from mailroom.cli.output import print_json, print_line
from mailroom.clock import SystemClock
from mailroom.config.model import Settings
from mailroom.config.senders import senders_of
from mailroom.doctor import (
    CheckResult,
    Examination,
    ExaminationOptions,
    IpAddress,
    Mark,
    SystemResolver,
    check_database,
    examine,
)
from mailroom.errors import MailroomError
from mailroom.outbox.by_url import is_postgres, place_of

_MARKS: Final = {Mark.GOOD: ("✓", "green"), Mark.WRONG: ("✗", "bold red"), Mark.UNKNOWN: ("–", "yellow")}  # noqa: RUF001 - as it is printed


def _ip_address(text: str) -> IpAddress:
    try:
        return ip_address(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is not an address; write it as 203.0.113.9") from None


def _name_server(text: str) -> SystemResolver:
    address, _, port = text.partition("#")
    try:
        return SystemResolver([str(ip_address(address))], port=int(port or 53))
    except ValueError:
        raise click.BadParameter("write a name server as 192.0.2.53 or 192.0.2.53#5353") from None


@click.command()
@click.argument("providers", nargs=-1, metavar="[PROVIDER]…")
@click.option("--echo", metavar="URL", help="Service that returns our public address.  [default: echo_url]")
@click.option(
    "--egress",
    type=_ip_address,
    metavar="ADDRESS",
    multiple=True,
    help="An address that your own relay delivers from, for SPF and PTR; may be repeated.",
)
@click.option(
    "--selector", "selectors", multiple=True, metavar="NAME", help="A DKIM selector to look for; may be repeated."
)
@click.option(
    "--nameserver",
    "resolver",
    type=_name_server,
    metavar="ADDRESS[#PORT]",
    help="Name server to query.  [default: the system's]",
)
@as_json
@click.pass_obj
def doctor(
    cli: CliContext,
    *,
    providers: tuple[str, ...],
    echo: str | None,
    egress: tuple[IpAddress, ...],
    selectors: tuple[str, ...],
    resolver: SystemResolver | None,
    as_json: bool,
) -> None:
    """Examine all providers, or those named. Sends no mail; uses an address echo service only if one is set.

    Tests each provider's credentials and checks the sender's domain as receivers do. Without names it also examines
    the PostgreSQL of database_url, and says what a failover could lose. Exits with 1 if anything is wrong.
    """
    settings = cli.settings()
    for name in providers:
        if name not in settings.providers:
            raise click.BadParameter(f"there is no provider {name!r}; there are: {', '.join(settings.providers)}")
    options = ExaminationOptions(echo or settings.echo_url, egress, selectors)
    names = providers or tuple(settings.providers)
    secrets = ServerSecrets(cli, settings)
    examinations = asyncio.run(_examine_all(settings, names, resolver or SystemResolver(), secrets, options))
    database: list[CheckResult] = []
    if is_postgres(settings.database_url) and not providers:
        database = asyncio.run(check_database(settings.database_url, SystemClock()))
    results = [result for examination in examinations for result in examination.all_results] + database
    wrong = sum(result.mark is Mark.WRONG for result in results)
    if as_json:
        findings = [_finding(result) for result in database]
        print_json(
            {
                "wrong": wrong,
                "providers": [_as_json(examination) for examination in examinations],
                "database": findings,
            }
        )
    else:
        if database:
            print_line(place_of(settings.database_url), style="bold")
            _print_results(database)
            print_line()
        _print(examinations, wrong)
    if wrong:
        raise click.exceptions.Exit(1)


async def _examine_all(
    settings: Settings,
    names: tuple[str, ...],
    resolver: SystemResolver,
    secrets: "ServerSecrets",
    options: ExaminationOptions,
) -> list[Examination]:
    """Examine concurrently; the resolver caches its answers."""
    clock = SystemClock()
    pending = [
        examine(
            name,
            settings.providers[name],
            senders_of(settings, name),
            resolver=resolver,
            clock=clock,
            secrets=secrets,
            options=options,
        )
        for name in names
    ]
    return list(await asyncio.gather(*pending))


class ServerSecrets:
    """The secrets that the server's providers have stored, a `SecretStore`; none before it first ran."""

    def __init__(self, cli: CliContext, settings: Settings) -> None:
        self._cli = cli
        self._settings = settings

    async def get(self, name: str) -> str | None:
        """Return a secret; None if the outbox cannot be read."""
        try:
            outbox = await self._cli.open(self._settings)
            try:
                return await outbox.secrets.get(name)
            finally:
                await outbox.close()
        except MailroomError:
            return None

    async def put(self, name: str, secret: str) -> None:
        """Store a secret for the server, or warn that it is lost."""
        try:
            outbox = await self._cli.open(self._settings)
            try:
                await outbox.secrets.put(name, secret)
            finally:
                await outbox.close()
        except MailroomError as error:
            print_line(f"the new {name.rpartition(' ')[0]} could not be stored for the server: {error}", error=True)


def _as_json(examination: Examination) -> dict[str, Any]:
    return {
        "provider": examination.provider,
        "type": examination.type,
        "from": [sender.email for sender in examination.senders],
        "findings": [
            {"domain": domain, **_finding(result)}
            for domain, results in ((None, examination.results), *examination.domains.items())
            for result in results
        ],
    }


def _finding(result: CheckResult) -> dict[str, str]:
    return {"about": result.about, "mark": result.mark, "diagnostic": result.text, "todo": result.todo}


def _print(examinations: list[Examination], wrong: int) -> None:
    for examination in examinations:
        senders = ", ".join(sender.email for sender in examination.senders)
        print_line(f"{examination.provider} ({examination.type}), mails from {senders}", style="bold")
        _print_results(examination.results)
        for domain, results in examination.domains.items():
            if len(examination.domains) > 1:
                print_line(f"  mails from @{domain}", style="bold")
            _print_results(results)
        print_line()
    if wrong:
        print_line(f"{wrong} {'thing is' if wrong == 1 else 'things are'} wrong.", style="bold red")
    else:
        print_line("Nothing is wrong.", style="green")


def _print_results(results: Sequence[CheckResult]) -> None:
    for result in results:
        print_line("  ", _MARKS[result.mark], f" {result.about:<12}", result.text)
        if result.todo:
            print_line(f"    → {result.todo}", style="" if result.mark is Mark.WRONG else "dim")
