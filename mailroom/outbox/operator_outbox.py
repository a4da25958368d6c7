"""The protocol of the outbox for operators' commands, which read and change rows beside the servers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mailroom.clock import Instant
from mailroom.message import Priority, State
from mailroom.outbox import AttemptSummary, Depth, Record
from mailroom.outbox.shared import OpenBreaker
from mailroom.sealing import SecretStore


@dataclass(frozen=True, slots=True)
class OperatorResult:
    """The result of an operator's `retry` or `cancel`."""

    changed: tuple[str, ...]
    refused: Mapping[str, State]
    """Id -> the state in which it was refused: `queued` and `held` ones have expired."""


class OperatorOutbox(Protocol):
    """The outbox as commands use it, while servers run. Every method raises OutboxError."""

    @property
    def secrets(self) -> SecretStore:
        """The secrets that providers got while they ran."""

    async def get(self, id: str) -> Record | None:  # noqa: A002 - the field's word
        """Return one message's record."""

    async def find(
        self, *, recipient: str | None = None, state: State | None = None, before: str | None = None, limit: int = 50
    ) -> list[Record]:
        """Return records, newest first."""

    async def resolve(self, prefix: str) -> str:
        """Return the id that begins so, or has this provider's id; it is an error if none has, or several."""

    async def short_ids(self, ids: Sequence[str]) -> Mapping[str, str]:
        """Return for each id a prefix that `resolve` takes."""

    async def depth(self) -> Mapping[Priority, Depth]:
        """Return the number and age of waiting messages, by priority."""

    async def held(self, *, priority: Priority | None = None) -> Mapping[str, int]:
        """Return how many messages are held, by reason."""

    async def tried(
        self, *, since: Instant, accepted: Instant, priority: Priority | None = None, limit: int = -1
    ) -> list[AttemptSummary]:
        """Return the numbers of attempts by provider and outcome."""

    async def paused(self) -> Mapping[str, Instant]:
        """Return the paused providers, and since when."""

    async def open_breakers(self) -> Mapping[str, OpenBreaker]:
        """Return the providers that all processes skip; on SQLite only the serving process knows."""

    async def in_state(self, state: State) -> list[str]:
        """Return the ids of all messages that wait in this state, oldest first."""

    async def count_settled(self, *, before: Instant) -> int:
        """Return how many settled messages were accepted before."""

    async def retry(self, ids: Sequence[str], *, now: Instant) -> OperatorResult:
        """Let queued and held messages be due now."""

    async def cancel(self, ids: Sequence[str], *, now: Instant) -> OperatorResult:
        """End queued and held messages unsent."""

    async def hold(self, ids: Sequence[str], *, now: Instant) -> OperatorResult:
        """Hold queued messages, and those whose process ended while they were sent."""

    async def backup(self, target: Path, on_progress: Callable[[float], None]) -> None:
        """Copy the database to a file. `on_progress` gets the percentage copied since its last call."""

    async def prune(self, *, before: Instant, limit: int) -> int:
        """Delete up to `limit` settled messages accepted before; return how many, 0: there are none left."""

    async def pause(self, provider: str, *, now: Instant) -> bool:
        """Pause a provider; False: it is paused already."""

    async def resume(self, provider: str) -> bool:
        """Resume a provider; False: it was not paused."""

    async def close(self) -> None:
        """Close the file or the connections."""
