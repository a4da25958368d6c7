"""What the processes that serve from one outbox tell each other: how much of a limit is used, which providers fail.

Each process exchanges this once a second, and never while a request waits. So for up to a second it does not know what
the others have done, and they may exceed a limit by what they do in a second.
"""

from collections.abc import Mapping
from typing import Protocol

import msgspec

from mailroom.clock import Instant


class Slice(msgspec.Struct, frozen=True):
    """A slice of time in which something is counted, over all processes."""

    what: str
    """For example a provider's quota, or the keyed hash of an address."""
    number: int
    """Since the epoch; how long a slice is depends on `what`."""


class SharedCounts(Protocol):
    """Counts over all processes. Every method raises CannotKeep."""

    async def add(self, counts: Mapping[Slice, int], *, until: Instant) -> Mapping[Slice, int]:
        """Add to counts, which are kept until then; return their sums over all processes."""

    async def take(self, what: str, count: int, *, limit: int, seconds: float) -> tuple[int, Instant]:
        """Take up to `count` of at most `limit` in any period of so many seconds.

        Returns how many were taken, and from when on there may be more.
        """


class OpenBreaker(msgspec.Struct, frozen=True):
    """A provider that is skipped by all processes."""

    reason: str
    """In the provider's words, secrets masked."""
    open_seconds: float
    """How long until the next probe, from the last one on."""
    may_probe: bool
    """Whether this process is the one that may hand it a message now."""


class SharedBreakers(Protocol):
    """The open breakers of all processes. Every method raises CannotKeep."""

    async def exchange(self, opened: Mapping[str, OpenBreaker], closed: frozenset[str]) -> Mapping[str, OpenBreaker]:
        """Store which breakers this process has opened and closed since the last call; return those that are open."""


class Shared(Protocol):
    """What processes share."""

    @property
    def counts(self) -> SharedCounts:
        """How much of a limit is used."""

    @property
    def breakers(self) -> SharedBreakers:
        """Which providers fail."""
