"""The protocol of the outbox: stores messages durably from their acceptance on, and records each change of their state.

    await outbox.put(message)                                    # queued, or sending if it gets a `lease`
    result = await outbox.claim(limits, lease_seconds=300)       # sending
    await outbox.settle(Settlement(id, State.SENT, attempts))    # settled, or queued or held again

Every change is durable when its call returns; concurrent calls share one transaction (group commit). `sqlite/`
and `postgres/` implement the protocol; every implementation must pass the tests in `tests/outbox/contract.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from mailroom.clock import Instant
from mailroom.message import Attempt, Email, Message, Outcome, Priority, State
from mailroom.outbox.captured_mails import CapturedMails
from mailroom.outbox.shared import Shared
from mailroom.sealing import EntityStore

REPEAT_SECONDS = 60.0
"""How long a repeated body is recognized."""


class DedupKey(msgspec.Struct, frozen=True):
    """An event that is handled only once: a webhook's body, a user's welcome. Stored as a keyed hash."""

    what: bytes
    until: Instant | None = None
    """When it is deleted; None: never."""


class Lease(msgspec.Struct, frozen=True):
    """A lease that a message gets when it is inserted, with its first attempt; saves a `claim`."""

    provider: str
    seconds: float
    """How long it lasts, by the outbox's clock."""


class PutResult(msgspec.Struct, frozen=True):
    """The result of `put`."""

    id: str
    """The message's id; for a repeat the id of the message that was stored before."""
    fresh: bool
    """False: a repeat, nothing was stored."""
    is_held: bool = False
    """True: the event limit is reached; it is stored as held, also if it has a `lease`."""

    @property
    def to_be_sent(self) -> bool:
        """Whether it was stored, and is not held."""
        return self.fresh and not self.is_held


class ClaimLimit(msgspec.Struct, frozen=True):
    """How many messages of some routes, by their names, one claim may lease."""

    routes: tuple[str, ...]
    total: int
    others: int
    """How many of `total` may be other messages than codes."""
    exclude: bool = False
    """True: all routes but `routes`."""


class Leased(msgspec.Struct, frozen=True):
    """A message that this process sends until its lease ends."""

    message: Message
    attempts: tuple[Attempt, ...]
    """Those of before; an attempt without an outcome was cut off by the end of its process."""
    begun: Attempt | None = None
    """The attempt that was recorded with the message, see `Lease`."""
    rendered: Mapping[str, Email] = {}
    """Provider -> the mail that it may have sent already, see `Settlement`."""
    route: str = ""
    """As it was stored: the settings may have changed since."""


class ClaimResult(msgspec.Struct, frozen=True):
    """The result of `claim`."""

    leased: tuple[Leased, ...]
    next_due: Instant | None
    """When a message will be due that is not due yet; None: there is none. In the past: claim again at once."""


class Settlement(msgspec.Struct, frozen=True):
    """The result of sending a leased message: its new state, and all its attempts."""

    id: str
    state: State
    """QUEUED (again, not before `due_at`), HELD, or one of the settled states."""
    attempts: tuple[Attempt, ...]
    due_at: Instant | None = None
    reason: str = ""
    """Why it is held or failed: one of the `HELD_…` below, or a short sentence for the operator."""
    provider_message_id: str = ""
    rendered: Mapping[str, Email] = {}
    """Provider -> the mail that it may have sent, for the next attempt by it; stored while the message is unsettled."""


HELD_MISCONFIGURED = "misconfigured"
"""Every provider refused because of our configuration. Released at restart; retried with one message at a time."""
HELD_REFUSED = "refused"
"""Every provider refused this mail, and not because of the recipient's address. Released at restart."""
HELD_LINK = "the invitation's link cannot be shown"
"""The link is `javascript:` or the like, too long, or no text; a mail without it would be useless."""
HELD_EXHAUSTED = "exhausted"
"""No attempts are left."""
HELD_RENDERING = "rendering"
"""A template failed. Released at restart."""
HELD_OPERATOR = "held by an operator"
"""`mailroom outbox hold-all`."""
HELD_FLOOD = "flood"
"""More events in an hour than `webhook.max_per_hour`."""
RELEASED_AT_START = (HELD_MISCONFIGURED, HELD_REFUSED, HELD_RENDERING)
SENT_UNCERTAIN = "uncertain"
"""Sent, perhaps: providers were asked several times and none of them answered."""


class EndedMessage(msgspec.Struct, frozen=True):
    """A message that ended while it waited: expired or superseded."""

    id: str
    template: str
    priority: Priority


class SettleResult(msgspec.Struct, frozen=True):
    """The result of `settle`."""

    is_recorded: bool
    """False: the lease was lost, and nothing was recorded."""
    superseded: tuple[EndedMessage, ...] = ()
    """Messages that ended in the same transaction because a newer one was sent."""


@dataclass(frozen=True, slots=True)
class Depth:
    """The queued and sending messages of one priority."""

    count: int
    oldest: Instant | None
    """When the oldest of them was accepted; None: there are none."""


@dataclass(frozen=True, slots=True)
class AttemptSummary:
    """The attempts by one provider with one outcome."""

    provider: str
    outcome: Outcome | None
    """None: under way, or interrupted by the end of a process."""
    count: int
    last_at: Instant
    """When the last of them started."""
    diagnostic: str
    """The remote server's text about the last one, redacted."""


@dataclass(frozen=True, slots=True)
class Record:
    """The metadata of a message, decrypted, for operators: no code, no link, no body."""

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
    """The known harmless fields; everything else is masked."""


class Outbox(Protocol):
    """Stores messages. Every method that writes raises CannotKeep when the change could not be made durable.

    It is opened with two limits over a sliding window by the engine's clock, each of which may be None: one for the
    codes of each recipient, failed ones not counted, and one for all events, beyond which they are held.
    """

    @property
    def captured(self) -> CapturedMails:
        """The mails of the `capture` provider."""

    @property
    def secrets(self) -> EntityStore:
        """The secrets that providers get while they run, and what is known of users and organizations."""

    @property
    def shared(self) -> Shared | None:
        """What the processes that serve from this outbox tell each other; None: there is only one."""

    async def put(
        self,
        message: Message,
        *,
        route: str = "",
        repeat_of: bytes | None = None,
        once: Sequence[DedupKey] = (),
        supersede_key: bytes | None = None,
        lease: Lease | None = None,
        due_at: Instant | None = None,
    ) -> PutResult:
        """Store a message; durable when this returns. It is not sent before `due_at`.

        Claims select by `route`. `repeat_of` is the request's body: when it repeats within `REPEAT_SECONDS`, the result
        is the first message's id, unless that one failed. Nothing is stored either if one of the events in `once` is
        stored already. A message with a `supersede_key` is claimed before older ones with the same key, and supersedes
        them once it is sent. With a `lease` it is inserted as sending, otherwise as queued. Raises LimitExceeded for a
        code beyond its recipient's limit (events are held instead), ValueError for an invalid address or text.
        """

    async def claim(self, limits: Sequence[ClaimLimit], *, lease_seconds: float) -> ClaimResult:
        """Lease due messages for so many seconds: codes first, then by due time, at most `limits`.

        Messages whose lease has ended are due again; expired messages are not returned (see `expire`).
        """

    async def reroute(self, routes: Mapping[str, str]) -> None:
        """Queue leased messages again under other routes: id -> route."""

    async def attempt(self, id: str, attempts: tuple[Attempt, ...]) -> bool:  # noqa: A002 - the field's word
        """Record that another attempt on a leased message begins.

        False: do not send; the lease was lost, or the message is superseded.
        """

    async def settle(self, settlement: Settlement) -> SettleResult:
        """Record a leased message's new state; erases the payload of a settled one.

        A message that is sent supersedes the older ones with its `supersede_key`: those that wait end now, one that
        is being sent ends as superseded as soon as it is settled as queued or held.
        """

    async def release(self, reason: str, *, now: Instant, limit: int | None = None) -> int:
        """Queue messages that are held for this reason, oldest first; return how many."""

    async def expire(self, *, now: Instant, limit: int) -> list[EndedMessage]:
        """Change messages whose lifetime has ended to `expired`, payload erased; not those whose lease runs."""

    async def purge(self, *, before: Instant, now: Instant, limit: int) -> int:
        """Delete up to `limit` settled messages accepted before, and events stored until `now`.

        Returns how many rows were deleted; 0: there is nothing left to do.
        """

    async def index(self, *, limit: int) -> int:
        """Index the recipients of up to `limit` messages; return how many. 0: all are indexed.

        `find` and `languages` also find messages that are not indexed, but read each of them.
        """

    async def remember(self, once: DedupKey) -> None:
        """Store an event that belongs to no message; durable when this returns."""

    async def happened(self, what: bytes) -> bool:
        """Return whether an event is stored, and its time has not ended."""

    async def was_changed(self) -> bool:
        """Return whether another process has written since the last call; the first call returns True."""

    async def woken(self) -> None:
        """Return when another process has told that messages wait; never where there are no others."""

    async def paused(self) -> Mapping[str, Instant]:
        """Return the providers that an operator has paused, and since when."""

    async def truncate_log(self) -> bool:
        """Empty SQLite's log, which has sealed payloads of settled messages; False: another process is reading it."""

    async def languages(self, recipient: str) -> tuple[str, ...]:
        """Return the languages of the last mail to this address that had any, or ()."""

    async def accepted(self, provider: str, *, since: Instant, slice_seconds: float) -> Sequence[tuple[Instant, int]]:
        """Return how many mails a provider has accepted since then, or may have: time and number for each slice.

        Oldest first, for quotas. Mails of messages that waited for more than a day are not counted.
        """

    async def depth(self) -> Mapping[Priority, Depth]:
        """Return the number and age of waiting messages, by priority."""

    async def held(self) -> Mapping[str, int]:
        """Return how many messages are held, by reason."""

    async def free_bytes(self) -> int | None:
        """Return the free octets on the outbox's disk; None: unknown."""

    async def get(self, id: str) -> Record | None:  # noqa: A002 - the field's word
        """Return one message's record; None: unknown id."""

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
        """Finish the operations that wait, and close the file or the connections."""
