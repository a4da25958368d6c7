"""The `mailroom` command group, and what all commands share: the settings, and read access to the outbox."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import click

from mailroom.cli.output import print_faults
from mailroom.clock import Instant
from mailroom.config import load
from mailroom.config.model import Settings
from mailroom.errors import MailroomError, SettingsError
from mailroom.message import Priority, State
from mailroom.outbox import AttemptSummary, Depth, Record
from mailroom.text import printable


class OutboxReader(Protocol):
    """The read-only part of the outbox, which can be used while the server runs."""

    async def get(self, id: str) -> Record | None:  # noqa: A002 - the field's word
        """Return one message's record."""

    async def find(
        self, *, recipient: str | None = None, state: State | None = None, before: str | None = None, limit: int = 50
    ) -> list[Record]:
        """Return records, newest first."""

    async def depth(self) -> Mapping[Priority, Depth]:
        """Return the number and age of waiting messages, by priority."""

    async def held(self) -> Mapping[str, int]:
        """Return how many messages are held, by reason."""

    async def tried(self, *, since: Instant, accepted: Instant) -> list[AttemptSummary]:
        """Return the numbers of attempts by provider and outcome."""

    async def close(self) -> None:
        """Close the file."""


async def open_outbox(settings: Settings) -> OutboxReader:
    """Open the outbox that these settings name. Raises OutboxError, SealBroken."""
    from mailroom.outbox.sqlite.queries import open_readonly  # noqa: PLC0415 - takes half of a command's start-up time; few need it

    keys = [key.get_secret_value() for key in settings.secret_key]
    return await open_readonly(settings.database_path, secret_keys=keys)


@dataclass(frozen=True, slots=True)
class CliContext:
    """The options before the command, and how to open the outbox."""

    config: Path | None
    dev: bool
    open: Callable[[Settings], Awaitable[OutboxReader]] = open_outbox

    def load(self) -> Settings:
        """Return the settings. Raises SettingsError."""
        return load(environ=os.environ, config=self.config, dev=self.dev)

    def settings(self) -> Settings:
        """Return the settings; on faults, print them all and exit with 1."""
        try:
            return self.load()
        except SettingsError as error:
            print_faults(error.faults)
            raise click.exceptions.Exit(1) from error

    @asynccontextmanager
    async def outbox(self, settings: Settings) -> AsyncIterator[OutboxReader]:
        """Open the outbox for the block; an error ends the command with its message."""
        try:
            reader = await self.open(settings)
            try:
                yield reader
            finally:
                await reader.close()
        except MailroomError as error:
            raise click.ClickException(f"{settings.database_path}: {error}") from error


class _Commands(click.Group):
    """A group that escapes errors, which may contain foreign text: a server's answer, a file's name."""

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
