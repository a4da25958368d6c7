"""Opens the outbox read-only, also while the server runs; the only module of the commands that opens it."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Protocol

import click

from mailroom.clock import Instant
from mailroom.config.model import Settings
from mailroom.errors import MailroomError
from mailroom.message import Priority, State
from mailroom.outbox import AttemptSummary, Depth, Record


class Reader(Protocol):
    """The read-only part of the outbox."""

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


async def opened(settings: Settings) -> Reader:
    """Open the outbox that these settings name. Raises OutboxError, SealBroken."""
    from mailroom.outbox.sqlite.queries import open_readonly  # noqa: PLC0415 - takes half of a command's start-up time; few need it

    keys = [key.get_secret_value() for key in settings.secret_key]
    return await open_readonly(settings.database_path, secret_keys=keys)


@asynccontextmanager
async def looking(open_: Callable[[Settings], Awaitable[Reader]], settings: Settings) -> AsyncIterator[Reader]:
    """Open the outbox for the block; an error ends the command with its message."""
    try:
        reader = await open_(settings)
        try:
            yield reader
        finally:
            await reader.close()
    except MailroomError as error:
        raise click.ClickException(f"{settings.database_path}: {error}") from error
