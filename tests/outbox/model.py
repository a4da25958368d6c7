"""A model test: after random operations the outbox and a dictionary have the same messages in the same states."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Final

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule
from msgspec.structs import replace

from mailroom.message import Attempt, Message, Priority, State
from mailroom.outbox import (
    HELD_MISCONFIGURED,
    HELD_RENDERING,
    REPEAT_SECONDS,
    ClaimLimit,
    EndedMessage,
    Lease,
    Settlement,
)
from tests.clock import FakeClock
from tests.outbox.contract import email, message

_LEASE: Final = 40.0
_RECIPIENTS: Final = ("ada@example.com", "bob@example.com")
_TEMPLATES: Final = {"SignIn": Priority.CODE, "OrganizationInvitation": Priority.INVITATION, "Welcome": Priority.EVENT}


@dataclass
class Row:
    """A message in the model."""

    message: Message
    state: State
    due_at: float
    reason: str = ""
    body: bytes | None = None
    attempts: int = 0
    key: bytes | None = None
    """The supersede key."""
    superseded: bool = False
    has_rendered: bool = False
    ahead: float = 0.0
    """How far the clock that accepted it was ahead of the one that it was dated anew by; its id tells still."""


class OutboxModel(RuleBasedStateMachine):
    """Runs operations on an outbox and on the model. Subclass it and open the outbox of an engine."""

    bodies = Bundle("bodies")
    leased = Bundle("leased")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = FakeClock()
        self.rows: dict[str, Row] = {}
        self.outbox = self._open()

    def _run(self, doing: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(doing)

    def _open(self) -> Any:
        """Return an outbox of this machine's database."""
        raise NotImplementedError

    def _count(self) -> tuple[int, int]:
        """Return how many messages have no payload any more, and how many have a rendered mail."""
        raise NotImplementedError

    def teardown(self) -> None:
        """Close everything."""
        self._run(self.outbox.close())
        self._run(self.loop.shutdown_default_executor())
        self.loop.close()

    @rule(
        target=leased,
        template=st.sampled_from(sorted(_TEMPLATES)),
        lifetime=st.sampled_from([30.0, 100.0, 500.0]),
        body=st.none() | st.sampled_from([b"a", b"b", b"c"]),
        recipient=st.sampled_from(_RECIPIENTS),
        key=st.sampled_from([None, b"1", b"2"]),
        lease=st.booleans(),
    )
    def put(
        self, *, template: str, lifetime: float, body: bytes | None, recipient: str, key: bytes | None, lease: bool
    ) -> Any:
        """Put a message, with a lease or not; it may be a repeat."""
        now = self.clock.now()
        one = message(now, template=template, priority=_TEMPLATES[template], lifetime=lifetime, recipient=recipient)
        key = recipient.lower().encode() + key if key and one.is_code else None  # as `supersede_key` makes it
        leases = Lease("main", _LEASE) if lease else None
        kept = self._run(self.outbox.put(one, route=template, repeat_of=body, supersede_key=key, lease=leases))
        earlier = [row for row in self.rows.values() if body is not None and row.body == body]
        repeated = [
            row
            for row in earlier
            if row.state is not State.FAILED and abs(now - row.message.created_at) < REPEAT_SECONDS
        ]
        if repeated:
            assert (kept.id, kept.fresh) == (repeated[-1].message.id, False)
            return multiple()
        assert (kept.id, kept.fresh) == (one.id, True)
        for row in earlier:
            row.body = None
        self.rows[one.id] = Row(
            one,
            State.SENDING if lease else State.QUEUED,
            now + _LEASE if lease else now,
            body=body,
            attempts=lease,
            key=key,
        )
        return one.id if lease else multiple()

    @rule(
        target=leased,
        total=st.integers(1, 4),
        others=st.integers(0, 4),
        templates=st.sets(st.sampled_from(sorted(_TEMPLATES)), max_size=2),
        exclude=st.booleans(),
    )
    def claim(self, total: int, others: int, templates: set[str], exclude: bool) -> Any:  # noqa: FBT001 - hypothesis's
        """Claim due messages: the same as in the model, in the same order."""
        now = self.clock.now()
        due = sorted(
            (
                row
                for row in self.rows.values()
                if row.state in {State.QUEUED, State.SENDING}
                and row.due_at <= now < row.message.expires_at
                and (row.message.template in templates) is not exclude
                and not any(newer.state in {State.QUEUED, State.SENDING} for newer in self._same_key(row, newer=True))
            ),
            key=lambda row: (row.message.priority, row.due_at, row.message.id),
        )
        codes = [row for row in due if row.message.is_code][:total]
        wanted = codes + [row for row in due if not row.message.is_code][: min(others, total - len(codes))]
        limit = ClaimLimit(tuple(templates), total, others, exclude)
        claimed = self._run(self.outbox.claim([limit], lease_seconds=_LEASE))
        # What is due since the same moment may come in any order.
        order = [(leased.message.priority, self.rows[leased.message.id].due_at) for leased in claimed.leased]
        assert order == [(row.message.priority, row.due_at) for row in wanted]
        for leased in claimed.leased:
            row = self.rows[leased.message.id]
            assert leased.message == row.message
            assert len(leased.attempts) == row.attempts
            row.state, row.due_at = State.SENDING, now + _LEASE
        waiting = [
            row.due_at
            for row in self.rows.values()
            if row.state in {State.QUEUED, State.SENDING} and now < row.due_at < row.message.expires_at
        ]
        # With as many as it may lease it need not look what will be due, for the next claim may find more at once.
        is_full = len(claimed.leased) >= total and claimed.next_due is not None and claimed.next_due <= now
        assert is_full or claimed.next_due == min(waiting, default=None)
        return multiple(*(leased.message.id for leased in claimed.leased))

    @rule(id_=leased)
    def attempt(self, id_: str) -> None:
        """Record an attempt of a message that is, or once was, leased to us."""
        row = self.rows.get(id_)
        record = self._run(self.outbox.get(id_))
        attempts = (*(record.attempts if record else ()), Attempt("main", self.clock.now()))
        is_ours = row is not None and row.state is State.SENDING and not row.superseded
        assert self._run(self.outbox.attempt(id_, attempts)) is is_ours
        if row is not None and is_ours:
            row.attempts += 1

    @rule(
        id_=consumes(leased),
        state=st.sampled_from([State.QUEUED, State.HELD, State.SENT, State.FAILED]),
        wait=st.sampled_from([0.0, 5.0, 50.0]),
    )
    def settle(self, id_: str, state: State, wait: float) -> None:
        """Settle a message that is or was leased."""
        row, due_at = self.rows.get(id_), self.clock.now() + wait
        record = self._run(self.outbox.get(id_))
        if row is None:  # another lease of it was settled, and it is gone
            assert record is None
            assert not self._run(self.outbox.settle(Settlement(id_, state, (), due_at=due_at))).is_recorded
            return
        rendered = {"main": email(id_)} if wait else {}
        settlement = Settlement(
            id_, state, record.attempts, due_at=due_at, reason=HELD_MISCONFIGURED, rendered=rendered
        )
        result = self._run(self.outbox.settle(settlement))
        assert result.is_recorded is (row.state is State.SENDING)
        if row.state is not State.SENDING:
            return
        row.state, row.due_at, row.reason = state, min(due_at, row.message.expires_at), HELD_MISCONFIGURED
        row.has_rendered = row.has_rendered or bool(rendered)
        if state is State.SENT:
            for older in self._same_key(row, newer=False):
                older.superseded = older.superseded or not older.state.settled
        assert {ended.id for ended in result.superseded} == self._end_superseded()

    def _same_key(self, row: Row, *, newer: bool) -> list[Row]:
        rows = list(self.rows.values())
        at = rows.index(row)
        return [one for one in (rows[at + 1 :] if newer else rows[:at]) if row.key and one.key == row.key]

    def _end_superseded(self) -> set[str]:
        over = [row for row in self.rows.values() if row.superseded and row.state in {State.QUEUED, State.HELD}]
        for row in over:
            row.state = State.SUPERSEDED
        return {row.message.id for row in over}

    @rule(limit=st.none() | st.integers(1, 2))
    def release(self, limit: int | None) -> None:
        """Release held messages, the oldest first."""
        now = self.clock.now()
        held = [row for row in self.rows.values() if row.state is State.HELD and now < row.message.expires_at][:limit]
        assert self._run(self.outbox.release(HELD_MISCONFIGURED, now=now, limit=limit)) == len(held)
        for row in held:
            row.state, row.due_at = State.QUEUED, now

    @rule()
    def expire(self) -> None:
        """Expire messages whose lifetime has ended, except those whose lease runs."""
        now = self.clock.now()
        over = [
            row
            for row in self.rows.values()
            if not row.state.settled
            and row.message.expires_at <= now
            and (row.state is not State.SENDING or row.due_at <= now)
        ]
        ended = self._run(self.outbox.expire(now=now, limit=1000))
        assert set(ended) == {EndedMessage(row.message.id, row.message.template, row.message.priority) for row in over}
        for row in over:
            row.state = State.EXPIRED

    @rule(age=st.sampled_from([0.0, 100.0]))
    def purge(self, age: float) -> None:
        """Delete old settled messages."""
        now = self.clock.now()
        gone = [
            id_
            for id_, row in self.rows.items()
            if row.state.settled and row.message.created_at + row.ahead < now - age
        ]
        assert self._run(self.outbox.purge(before=now - age, now=now, limit=1000)) == len(gone)
        for id_ in gone:
            del self.rows[id_]

    @rule(limit=st.integers(1, 3))
    def index(self, limit: int) -> None:
        """Index a few recipients."""
        assert self._run(self.outbox.index(limit=limit)) <= limit

    @rule(seconds=st.sampled_from([1.0, 10.0, 41.0, 70.0]))
    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self._run(self.clock.advance(seconds))

    @rule(back=st.sampled_from([0.0, 0.0, 20.0, 3600.0]))
    def restart(self, back: float) -> None:
        """Close and open the outbox, perhaps with the clock set back."""
        self._run(self.outbox.close())
        now = self.clock.now() - back
        self.clock.set(now)
        self.outbox = self._open()
        for row in self.rows.values():
            ahead = row.message.created_at - now
            if ahead > 0 and not row.state.settled:  # accepted by a clock that was ahead: as if accepted now
                row.message = replace(row.message, created_at=now, expires_at=row.message.expires_at - ahead)
                row.ahead += ahead
                row.due_at = now if row.state is not State.HELD else row.message.expires_at
        for row in self.rows.values():
            row.state = State.SUPERSEDED if row.superseded and row.state is State.SENDING else row.state
        for row in self.rows.values():
            released = row.state is State.HELD and row.reason in {HELD_MISCONFIGURED, HELD_RENDERING}
            if row.state is State.SENDING or (released and now < row.message.expires_at):
                since = row.message.created_at if row.state is State.SENDING else now  # what was cut off goes first
                row.state, row.due_at = State.QUEUED, min(now, since, row.message.expires_at)

    @invariant()
    def agree(self) -> None:
        """Compare the outbox with the model."""
        records = self._run(self.outbox.find(limit=1000))
        assert {record.id: record.state for record in records} == {id_: row.state for id_, row in self.rows.items()}
        for recipient in _RECIPIENTS:
            found = self._run(self.outbox.find(recipient=recipient, limit=1000))
            wanted = [id_ for id_, row in self.rows.items() if row.message.recipient == recipient]
            assert [record.id for record in found] == sorted(wanted, reverse=True)
        depth = self._run(self.outbox.depth())
        waiting = [row for row in self.rows.values() if row.state in {State.QUEUED, State.SENDING}]
        assert {priority: depth[priority].count for priority in Priority} == {
            priority: sum(row.message.priority is priority for row in waiting) for priority in Priority
        }
        assert self._count() == (
            sum(row.state.settled for row in self.rows.values()),
            sum(row.has_rendered and not row.state.settled for row in self.rows.values()),
        )
