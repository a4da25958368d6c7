"""`mailroom check`: whether the settings are fit to serve with."""

import os

import click

from mailroom.cli.group import Desk, as_json
from mailroom.cli.printing import print_faults, print_json, print_table
from mailroom.errors import Fault, SettingsError
from mailroom.loading import load, warnings
from mailroom.settings import Settings


@click.command()
@as_json
@click.pass_obj
def check(desk: Desk, *, as_json: bool) -> None:
    """Check the settings; prints all faults at once and exits with 1 if there are any."""
    faults: list[Fault] = []
    cautions: list[str] = []
    settings: Settings | None = None
    try:
        settings = load(environ=os.environ, config=desk.config, dev=desk.dev)
        cautions = warnings(settings)
    except SettingsError as error:
        faults = error.faults
    if as_json:
        print_json({"faults": faults, "warnings": cautions})
    elif settings is None:
        print_faults(faults)
    else:
        _print_summary(settings, cautions)
    if faults:
        raise click.exceptions.Exit(1)


def _print_summary(settings: Settings, cautions: list[str]) -> None:
    click.secho("The settings are fit to serve with.", fg="green")
    for caution in cautions:
        click.secho(f"But: {caution}", fg="yellow")
    route = settings.routes.get("default") or tuple(settings.providers)
    print_table(
        ("", ""),
        [
            ("from", f"{settings.sender.name} <{settings.sender.email}>".strip()),
            ("delivered by", ", then ".join(f"{name} ({settings.providers[name].type})" for name in route)),
            ("kept in", str(settings.database_path)),
            ("listens on", f"{settings.host} port {settings.port}"),
            ("webhook", "open" if settings.webhook.signing_keys else "closed: no webhook.signing_keys"),
        ],
    )
