"""Keeps messages from the moment they are accepted until they are settled, durably; the one place where states change.

This page is the protocol. `sqlite.py` keeps it on one machine; a contract suite (`tests/outbox/contract.py`) holds
every implementation to the same promises.

A row's life: `put` (queued, or born sending: leased to this process) → `claim` (sending) → `settle` (queued again,
held, or settled with its payload erased). Every change is durable when its call returns: calls that run
at the same time share one transaction (group commit).
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from mailroom.clock import Instant
from mailroom.message import Attempt, Email, Message, Outcome, Priority, State


class DedupKey(msgspec.Struct, frozen=True):
    """Something that may happen once: a webhook's body, a user's welcome. Kept as a keyed hash."""

    what: bytes
    until: Instant | None = None
    """When it is forgotten; None: never."""


class Lease(msgspec.Struct, frozen=True):
    """The right to send, for a message that is born with it: its first attempt is recorded in the very insert."""

    provider: str
    until: Instant


class PutResult(msgspec.Struct, frozen=True):
    """The answer of `put`."""

    id: str
    """The message's id; for a repeat that of the message which was kept before."""
    fresh: bool
    """False: a repeat, nothing was kept anew."""


class Candidate(msgspec.Struct, frozen=True):
    """What `claim` shows of a message before it is leased."""

    id: str
    template: str
    priority: Priority
    attempts: tuple[Attempt, ...]


class Leased(msgspec.Struct, frozen=True):
    """A message that is ours to send until the lease ends. The last attempt is the one just begun."""

    message: Message
    attempts: tuple[Attempt, ...]


class ClaimResult(msgspec.Struct, frozen=True):
    """The answer of `claim`."""

    leased: tuple[Leased, ...]
    next_due: Instant | None
    """When the next message that was not claimed is due (in the past: there are more already); None: there is none."""


class Settlement(msgspec.Struct, frozen=True):
    """What became of a leased message: the state it goes to and its attempts so far."""

    id: str
    state: State
    """QUEUED (again, not before `due_at`), HELD, or one of the settled states."""
    attempts: tuple[Attempt, ...]
    due_at: Instant | None = None
    reason: str = ""
    """Why it is held or failed: one of `mailroom.outbox.HELD_…`, or a short sentence for the operator."""
    provider_message_id: str = ""


HELD_MISCONFIGURED = "misconfigured"
"""Every provider refused for reasons that are ours. Released at restart; probed with one message at a time."""
HELD_REFUSED = "refused"
"""No provider takes this mail, and the recipient's address is not the reason. Released at restart."""
HELD_LINK = "the invitation's link cannot be shown"
"""It is `javascript:` or the like, too long, or no text: a mail without it would be of no use."""
HELD_EXHAUSTED = "exhausted"
"""The tries are used up."""
HELD_RENDERING = "rendering"
"""A template failed. Released at restart."""
RELEASED_AT_START = (HELD_MISCONFIGURED, HELD_REFUSED, HELD_RENDERING)


class ExpiredMessage(msgspec.Struct, frozen=True):
    """A message that ended without an attempt of ours: it expired while it waited."""

    id: str
    template: str
    priority: Priority


@dataclass(frozen=True, slots=True)
class Depth:
    """How much waits at one priority (`queued` and `sending`)."""

    count: int
    oldest: Instant | None
    """When the oldest of them was accepted."""


@dataclass(frozen=True, slots=True)
class AttemptSummary:
    """What came of attempts by one provider with one outcome."""

    provider: str
    outcome: Outcome | None
    """None: on its way, or cut off by the end of a process."""
    count: int
    last_at: Instant
    """When the last of them started."""
    words: str
    """The provider's own words about the last one, masked."""


@dataclass(frozen=True, slots=True)
class Record:
    """What an operator may see of a message: no code, no link, no body. Unsealed metadata."""

    id: str
    state: State
    template: str
    priority: Priority
    recipient: str
    created_at: Instant
    expires_at: Instant
    settled_at: Instant | None
    due_at: Instant | None
    attempts: tuple[Attempt, ...]
    reason: str
    provider_message_id: str
    languages: tuple[str, ...]
    payload: Mapping[str, Any] = field(repr=False)
    """The harmless known fields; everything else is masked."""


@dataclass(frozen=True, slots=True)
class CapturedMail:
    """A mail that the `capture` provider kept instead of sending it."""

    id: str
    captured_at: Instant
    sender: str
    recipient: str
    subject: str
    size: int
    """Octets of the raw mail."""


class CapturedMails(Protocol):
    """The mail catcher's store: bounded, the oldest go first."""

    async def keep(self, email: Email) -> None:
        """Keep a mail. Raises CannotKeep."""

    async def newest(self, limit: int) -> list[CapturedMail]:
        """Return the latest mails, newest first."""

    async def raw(self, id: str) -> bytes | None:  # noqa: A002 - the field's word
        """Return a mail as RFC 5322 text."""


class Outbox(Protocol):
    """Where messages are kept. Every writing method raises CannotKeep when it could not be made durable."""

    @property
    def captured(self) -> CapturedMails:
        """The mail catcher's store."""

    async def put(
        self,
        message: Message,
        *,
        repeat_of: bytes | None = None,
        once: Sequence[DedupKey] = (),
        lease: Lease | None = None,
    ) -> PutResult:
        """Keep a message; durable when this returns.

        `repeat_of` is the request's body where a repeat within `REPEAT_SECONDS` is to be recognized: kept once,
        answered with the same id, unless the earlier message failed. `once` names what must not have
        happened before: if one of them has, nothing is kept. With a `lease` the message is born sending.
        """

    async def claim(
        self,
        *,
        now: Instant,
        until: Instant,
        limit: int,
        choose: Callable[[Candidate], str | None],
        without: Collection[str] = (),
    ) -> ClaimResult:
        """Lease up to `limit` due messages until `until`, codes first, then by due time; begins an attempt on each.

        `choose` is called for each candidate within the transaction, in another thread: it names the provider,
        or None to leave the message where it is. Templates in `without` are passed over. Leases that
        have run out are due again; expired messages are not returned (`expire` ends them).
        """

    async def attempt(self, id: str, attempts: tuple[Attempt, ...]) -> bool:  # noqa: A002 - the field's word
        """Record that another attempt on a leased message begins; False: the lease was lost, do not dial."""

    async def settle(self, settlement: Settlement) -> bool:
        """Record what became of a leased message; erases the payload if the state is a settled one.

        False: the lease was lost, and nothing was recorded.
        """

    async def release(self, reason: str, *, now: Instant, limit: int | None = None) -> int:
        """Queue messages again that are held for this reason, oldest first; returns how many."""

    async def expire(self, *, now: Instant, limit: int) -> list[ExpiredMessage]:
        """End messages, queued or held, that are worth nothing any more: `expired`, payload erased."""

    async def purge(self, *, before: Instant, now: Instant, limit: int) -> int:
        """Delete up to `limit` settled messages accepted before, and what was remembered until `now`.

        Returns how many rows went; 0: there is nothing left to do.
        """

    async def index(self, *, limit: int) -> int:
        """Make up to `limit` messages quick to find by their recipients; returns how many. 0: all of them are.

        What is not indexed yet is found, too, but the more there is of it the longer that takes.
        """

    async def remember(self, once: DedupKey) -> None:
        """Note that this happened, where no message belongs to it; durable when this returns."""

    async def happened(self, what: bytes) -> bool:
        """Tell whether this was noted, and not to be forgotten by now."""

    async def truncate_log(self) -> bool:
        """Drop what only the database's own log still has of settled messages: their sealed payloads.

        False: not now, somebody reads it. Nothing to do where the log is not ours (PostgreSQL).
        """

    async def languages(self, recipient: str) -> tuple[str, ...]:
        """Return the languages of the last mail to this address that had any, or ()."""

    async def depth(self) -> Mapping[Priority, Depth]:
        """Return what waits, by priority."""

    async def held(self) -> Mapping[str, int]:
        """Return how many messages are held, by reason."""

    async def free_bytes(self) -> int | None:
        """Return the free room where the outbox lies, None if that cannot be known."""

    async def get(self, id: str) -> Record | None:  # noqa: A002 - the field's word
        """Return one message's record."""

    async def find(
        self,
        *,
        recipient: str | None = None,
        state: State | None = None,
        before: str | None = None,
        limit: int = 50,
    ) -> list[Record]:
        """Return records, newest first; `before` is the id at which the last page ended."""

    async def close(self) -> None:
        """Finish what was begun and let go of the file or the server."""


REPEAT_SECONDS = 60.0
"""A repeated body is known for this long."""
