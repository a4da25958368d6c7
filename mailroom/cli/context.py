"""What all commands share: the settings file, and how the outbox is opened."""

import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from mailroom.cli import outbox_access
from mailroom.cli.outbox_access import Reader
from mailroom.cli.output import print_faults
from mailroom.config import load
from mailroom.config.model import Settings
from mailroom.errors import SettingsError
from mailroom.text import printable


@dataclass(frozen=True, slots=True)
class CliContext:
    """The options before the command, and how to open the outbox."""

    config: Path | None
    dev: bool
    open: Callable[[Settings], Awaitable[Reader]] = outbox_access.opened

    def settings(self) -> Settings:
        """Return the settings; on faults, print them all and exit with 1."""
        try:
            return load(environ=os.environ, config=self.config, dev=self.dev)
        except SettingsError as error:
            print_faults(error.faults)
            raise click.exceptions.Exit(1) from error


class _Commands(click.Group):
    """A group that escapes errors, which may contain foreign text: a server's answer, a file's name."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; escape its error message."""
        try:
            return super().invoke(ctx)
        except click.ClickException as error:
            vars(error)["message"] = printable(error.message)  # click declares it final
            raise


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The TOML file with the settings.  [default: $MAILROOM_CONFIG, else ./mailroom.toml if there is one]",
)
@click.option("--dev", is_flag=True, help="Use the settings of `server.py --dev`.")
@click.version_option(package_name="mailroom", prog_name="mailroom")
@click.pass_context
def mailroom(context: click.Context, config: Path | None, dev: bool) -> None:  # noqa: FBT001 - click passes flags so
    """Operate a Mailroom: check settings and templates, inspect the outbox, send test mails."""
    if context.obj is None:
        context.obj = CliContext(config, dev)


as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")


_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not bound


def server_url(settings: Settings) -> str:
    """Return the server's base URL, without a trailing slash."""
    host = _EVERYWHERE.get(settings.host, settings.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"
