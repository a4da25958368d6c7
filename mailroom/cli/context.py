"""The `mailroom` command group, and what all commands share: the settings, and the outbox."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import click

from mailroom.cli.output import print_faults
from mailroom.config import load, settings_file
from mailroom.config.model import Settings
from mailroom.errors import MailroomError, SettingsError
from mailroom.outbox.by_url import open_operator_outbox, place_of
from mailroom.outbox.operator_outbox import OperatorOutbox
from mailroom.text import printable


async def open_outbox(settings: Settings) -> OperatorOutbox:
    """Open the outbox that these settings name. Raises OutboxError, SealBroken."""
    keys = [key.get_secret_value() for key in settings.secret_key]
    return await open_operator_outbox(settings.database_url, secret_keys=keys)


@dataclass(frozen=True, slots=True)
class CliContext:
    """The options before the command, and how to open the outbox."""

    config: Path | None
    dev: bool
    open: Callable[[Settings], Awaitable[OperatorOutbox]] = open_outbox

    def load(self) -> Settings:
        """Return the settings. Raises SettingsError."""
        return load(environ=os.environ, config=self.config, dev=self.dev)

    @property
    def file(self) -> Path:
        """The settings file, which may not exist."""
        return settings_file(os.environ, self.config)

    def settings(self) -> Settings:
        """Return the settings; on faults, print them all and exit with 1."""
        try:
            return self.load()
        except SettingsError as error:
            print_faults(error.faults, self.file)
            raise click.exceptions.Exit(1) from error

    @asynccontextmanager
    async def outbox(self, settings: Settings) -> AsyncIterator[OperatorOutbox]:
        """Open the outbox for the block; an error ends the command with its message."""
        try:
            outbox = await self.open(settings)
            try:
                yield outbox
            finally:
                await outbox.close()
        except MailroomError as error:
            raise click.ClickException(f"{place_of(settings.database_url)}: {error}") from error


_COMMANDS: Final = {
    "check": "check_command:check",
    "doctor": "doctor_command:doctor",
    "import": "import_command:import_",
    "keygen": "keygen_command:keygen",
    "outbox": "outbox_commands:outbox",
    "pause": "operator_commands:pause",
    "preview": "preview_command:preview",
    "providers": "providers_command:providers",
    "resume": "operator_commands:resume",
    "send": "send_command:send",
    "serve": "serve_command:serve",
    "status": "status_command:status",
}
"""Command -> its module and its name there."""


class _Commands(click.Group):
    """A group that imports a command's module when it is used: all of them take longer than most commands run.

    It escapes errors, which may contain foreign text: a server's answer, a file's name.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names of the commands."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - likewise
        """Return a command; None: there is none of this name."""
        module, _, name = _COMMANDS.get(cmd_name, "").partition(":")
        command: click.Command | None = getattr(import_module(f"mailroom.cli.{module}"), name) if module else None
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; escape its error message."""
        try:
            return super().invoke(ctx)
        except MailroomError as error:
            raise click.ClickException(printable(str(error))) from error
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


_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not bound
"""A server that listens on all addresses can be reached here."""


def server_url(settings: Settings) -> str:
    """Return the server's base URL, without a trailing slash."""
    host = _LOOPBACK.get(settings.host, settings.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"
