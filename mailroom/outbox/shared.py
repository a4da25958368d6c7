"""What the processes that serve from one outbox tell each other: how much of a limit is used, which providers fail.

Each process exchanges this once a second, and no request waits for it. So for up to a second it does not know what the
others have done, and they may exceed a limit by what they do in a second. Only rates are taken when mails wait.
"""

from collections.abc import Collection, Mapping
from typing import Protocol

import msgspec

from mailroom.clock import Instant


class Slice(msgspec.Struct, frozen=True):
    """A slice of time in which something is counted, over all processes."""

    what: str
    """For example a provider's quota, or an address; it is stored as a keyed hash."""
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


class Observation(msgspec.Struct, frozen=True):
    """What a process has seen of a provider: that it fails, or works."""

    at: Instant
    reason: str
    """Why it is skipped, in its words, secrets masked; empty: it works."""
    open_seconds: float
    """How long until the next probe, from `at` on."""


class OpenBreaker(msgspec.Struct, frozen=True):
    """A provider that is skipped by all processes."""

    reason: str
    """In the provider's words, secrets masked."""
    since: Instant
    open_seconds: float
    """How long until the next probe, from the last one on."""
    probe_until: Instant | None
    """Until when this process may begin to probe it; None: another one may, or it is not time yet."""


class SharedBreakers(Protocol):
    """The open breakers of all processes. Every method raises CannotKeep."""

    async def exchange(
        self, observed: Mapping[str, Observation], *, providers: Collection[str], probing: Collection[str]
    ) -> Mapping[str, OpenBreaker]:
        """Store what this process has observed since the last call; return which providers are skipped.

        Of two observations the newer one counts. `providers`: those that this process uses, and may be chosen to probe;
        `probing`: those that it probes now, so that no other process does meanwhile.
        """


class Shared(Protocol):
    """What processes share."""

    @property
    def counts(self) -> SharedCounts:
        """How much of a limit is used."""

    @property
    def breakers(self) -> SharedBreakers:
        """Which providers fail."""
