"""The contract of every engine. Subclass `OutboxContract` and give it an `outbox` fixture on the `clock`."""

import asyncio
from itertools import count
from typing import Any

import pytest
from msgspec.structs import replace

from mailroom.errors import OutboxError
from mailroom.message import MASK, Address, Attempt, Email, Message, Outcome, Priority, State, new_id
from mailroom.outbox import (
    HELD_EXHAUSTED,
    HELD_MISCONFIGURED,
    REPEAT_SECONDS,
    ClaimLimit,
    ClaimResult,
    DedupKey,
    EndedMessage,
    Lease,
    Leased,
    Outbox,
    Record,
    Settlement,
)
from tests.clock import START, FakeClock

_numbers = count(1)

PAYLOAD: dict[str, Any] = {
    "code": "739105",
    "link": "https://acme.example/accept?token=s3cr3t-t0ken",
    "locale": "fr",
    "application": {"id": "app1", "name": "Acme", "customData": {"note": "n0te-of-theirs"}},
    "null": None,
    "large": 10**30,
    "list": [1, 2.5, {"deep": ["é", "\0"]}],
}


def message(
    now: float = START,
    *,
    template: str = "SignIn",
    priority: Priority = Priority.CODE,
    recipient: str = "Ada@example.com",
    lifetime: float = 570.0,
    **more: Any,
) -> Message:
    """Return a message that was accepted at this moment."""
    return Message(
        id=new_id(now, next(_numbers).to_bytes(10, "big")),
        template=template,
        priority=priority,
        recipient=recipient,
        payload=more.pop("payload", PAYLOAD),
        created_at=now,
        expires_at=now + lifetime,
        **more,
    )


def email(id_: str, raw: bytes = b"Subject: 739105\r\n\r\nYour code\r\n") -> Email:
    """Return a rendered mail."""
    return Email(
        id=id_,
        message_id=f"<{id_}@acme.example>",
        sender=Address("no-reply@acme.example", "Acme"),
        recipient="ada@example.com",
        reply_to=None,
        subject="739105 is your code",
        html="",
        text="",
        headers=(),
        language="en",
        template="SignIn",
        raw=raw,
    )


def up_to(number: int) -> ClaimLimit:
    """Return a limit of so many messages of any route."""
    return ClaimLimit((), total=number, others=number, exclude=True)


async def claim(outbox: Outbox, now: float, *limits: ClaimLimit, limit: int = 100, lease: float = 300.0) -> ClaimResult:
    """Lease what is due at this moment, and begin an attempt by the provider `main` on each message."""
    outbox._clock.set(now)  # type: ignore[attr-defined]  # the fixture's FakeClock
    claimed = await outbox.claim(limits or (up_to(limit),), lease_seconds=lease)
    begun = [replace(one, attempts=(*one.attempts, Attempt("main", now))) for one in claimed.leased]
    await asyncio.gather(*(outbox.attempt(one.message.id, one.attempts) for one in begun))
    return replace(claimed, leased=tuple(begun))


async def claim_one(outbox: Outbox, now: float) -> Leased:
    """Claim the one message that is due."""
    (leased,) = (await claim(outbox, now)).leased
    return leased


async def _record(outbox: Outbox, one: Message) -> Record:
    record = await outbox.get(one.id)
    assert record is not None
    return record


def ended(leased: Leased, outcome: Outcome, words: str = "") -> tuple[Attempt, ...]:
    """Return the attempts of a leased message, the last one with its outcome."""
    *before, last = leased.attempts
    return (*before, replace(last, duration_seconds=0.25, outcome=outcome, diagnostic=words))


class OutboxContract:
    """The contract of `mailroom.outbox.Outbox`."""

    @pytest.fixture
    def clock(self) -> FakeClock:
        """Return the clock that the outbox uses."""
        return FakeClock()

    # Put

    async def test_a_claimed_message_equals_the_message_that_was_put(self, outbox: Outbox) -> None:
        """Every field survives, any JSON in the payload included."""
        kept = message(ip="203.0.113.9", languages=("fr-CA", "en"))
        assert (await outbox.put(kept)).fresh
        leased = await claim_one(outbox, START + 1)
        assert leased.message == kept
        assert leased.message.payload == kept.payload
        assert leased.attempts == (Attempt("main", START + 1),)

    async def test_a_message_put_with_a_lease_is_sending(self, outbox: Outbox) -> None:
        """Its first attempt is recorded; it cannot be claimed, and can be settled."""
        born = message()
        await outbox.put(born, lease=Lease("main", 300))
        record = await outbox.get(born.id)
        assert record is not None
        assert (record.state, record.attempts) == (State.SENDING, (Attempt("main", START),))
        assert (await claim(outbox, START + 299)).leased == ()
        assert (await outbox.settle(Settlement(born.id, State.SENT, record.attempts))).is_recorded

    async def test_messages_put_concurrently_are_all_stored(self, outbox: Outbox) -> None:
        """Each put returns its own id, although they share transactions."""
        wanted = [message(recipient=f"user{i}@example.com") for i in range(150)]
        kept = await asyncio.gather(*(outbox.put(one) for one in wanted))
        assert [one.id for one in kept] == [one.id for one in wanted]
        leased = (await claim(outbox, START, up_to(200))).leased
        assert {one.message.id: one.message.recipient for one in leased} == {one.id: one.recipient for one in wanted}

    async def test_a_repeated_body_is_stored_once(self, outbox: Outbox) -> None:
        """Within a minute the same body returns the first message's id."""
        first, second = message(), message(START + REPEAT_SECONDS - 1)
        assert (await outbox.put(first, repeat_of=b"body")).fresh
        kept = await outbox.put(second, repeat_of=b"body")
        assert (kept.id, kept.fresh) == (first.id, False)
        assert await outbox.get(second.id) is None

    async def test_concurrent_repeats_are_stored_once(self, outbox: Outbox) -> None:
        """One of them is stored; concurrent other bodies are not affected."""
        repeats = [outbox.put(message(), repeat_of=b"body") for _ in range(20)]
        others = [outbox.put(message(), repeat_of=b"body %d" % i) for i in range(20)]
        kept = await asyncio.gather(*repeats, *others)
        assert [one.fresh for one in kept[:20]].count(True) == 1
        assert len({one.id for one in kept[:20]}) == 1
        assert all(one.fresh for one in kept[20:])

    async def test_after_a_minute_the_same_body_is_a_new_message(self, outbox: Outbox) -> None:
        """After `REPEAT_SECONDS` it is stored, and later repeats return its id."""
        await outbox.put(message(), repeat_of=b"body")
        later = START + REPEAT_SECONDS
        newer = await outbox.put(message(later), repeat_of=b"body")
        assert newer.fresh
        assert (await outbox.put(message(later + 1), repeat_of=b"body")).id == newer.id

    async def test_a_body_whose_message_failed_is_stored_again(self, outbox: Outbox) -> None:
        """A repeated request after a failure is a new message."""
        first = message()
        await outbox.put(first, repeat_of=b"body", lease=Lease("main", 300))
        await outbox.settle(Settlement(first.id, State.FAILED, (), reason="refused"))
        assert (await outbox.put(message(START + 1), repeat_of=b"body")).fresh

    async def test_without_repeat_of_every_message_is_stored(self, outbox: Outbox) -> None:
        """Without `repeat_of` nothing is compared."""
        kept = [await outbox.put(message()) for _ in range(3)]
        assert all(one.fresh for one in kept)

    async def test_a_once_event_is_stored_once(self, outbox: Outbox) -> None:
        """A user is welcomed once, for ever; other users are independent."""
        once = DedupKey(b"welcome:user1")
        first = await outbox.put(message(), once=[once])
        again = await outbox.put(message(START + 10**9), once=[once])
        assert (again.id, again.fresh) == (first.id, False)
        assert (await outbox.put(message(), once=[DedupKey(b"welcome:user2")])).fresh

    async def test_one_known_once_event_of_several_prevents_storing(self, outbox: Outbox) -> None:
        """The other events of the refused put stay unknown."""
        await outbox.put(message(), once=[DedupKey(b"a")])
        assert not (await outbox.put(message(), once=[DedupKey(b"b"), DedupKey(b"a")])).fresh
        assert (await outbox.put(message(), once=[DedupKey(b"b")])).fresh

    async def test_a_once_event_is_forgotten_after_its_time(self, outbox: Outbox) -> None:
        """A webhook's body is remembered as long as its timestamp is accepted."""
        await outbox.put(message(), once=[DedupKey(b"body", until=START + 100)])
        assert not (await outbox.put(message(START + 99), once=[DedupKey(b"body", until=START + 199)])).fresh
        assert (await outbox.put(message(START + 100), once=[DedupKey(b"body", until=START + 200)])).fresh

    async def test_a_message_that_cannot_be_encoded_fails_alone(self, outbox: Outbox) -> None:
        """A lone surrogate or an invalid address fails that call only; concurrent puts are stored."""
        results = await asyncio.gather(
            outbox.put(message()),
            outbox.put(message(payload={"code": "\ud800"})),
            outbox.put(message(recipient="nobody")),
            outbox.put(message()),
            return_exceptions=True,
        )
        assert [isinstance(result, ValueError) for result in results] == [False, True, True, False]

    async def test_cancelling_a_put_does_not_affect_concurrent_puts(self, outbox: Outbox) -> None:
        """A client that disconnects cancels its own put only."""
        tasks = [asyncio.create_task(outbox.put(message())) for _ in range(10)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(result, asyncio.CancelledError) for result in results[::2])
        assert all(getattr(result, "fresh", False) for result in results[1::2])
        assert (await outbox.put(message())).fresh

    # Claim

    async def test_claims_are_ordered_by_priority_then_due_time(self, outbox: Outbox) -> None:
        """Priority is compared first."""
        event = message(START, template="Welcome", priority=Priority.EVENT)
        late, early = message(START + 2), message(START + 1)
        for one in (event, late, early):
            await outbox.put(one)
        claimed = await claim(outbox, START + 3)
        assert [leased.message.id for leased in claimed.leased] == [early.id, late.id, event.id]

    async def test_a_leased_message_is_not_claimed_again_until_its_lease_ends(self, outbox: Outbox) -> None:
        """Afterwards it is claimed with its earlier attempts."""
        await outbox.put(message())
        first = await claim_one(outbox, START)
        assert (await claim(outbox, START + 299)).leased == ()
        again = await claim_one(outbox, START + 300)
        assert again.attempts == (*first.attempts, Attempt("main", START + 300))

    async def test_concurrent_claims_return_different_messages(self, outbox: Outbox) -> None:
        """Each message is leased once."""
        await asyncio.gather(*(outbox.put(message()) for _ in range(50)))
        claims = await asyncio.gather(*(claim(outbox, START, up_to(20)) for _ in range(4)))
        ids = [leased.message.id for one in claims for leased in one.leased]
        assert len(ids) == len(set(ids)) == 50

    async def test_next_due_is_the_next_retry_or_end_of_a_lease(self, outbox: Outbox) -> None:
        """None when no message waits."""
        assert (await claim(outbox, START)).next_due is None
        await outbox.put(message())
        leased = await claim_one(outbox, START)
        assert (await claim(outbox, START)).next_due == pytest.approx(START + 300, abs=1e-3)
        attempts = ended(leased, Outcome.UNAVAILABLE)
        await outbox.settle(Settlement(leased.message.id, State.QUEUED, attempts, due_at=START + 7))
        claimed = await claim(outbox, START + 6)
        assert (claimed.leased, claimed.next_due) == ((), START + 7)
        assert (await claim_one(outbox, START + 7)).attempts[:-1] == attempts

    async def test_accepted_mails_are_counted_by_slices_of_time(self, outbox: Outbox) -> None:
        """Of one provider; uncertain ones too, and those of messages that go on; refused ones are not."""
        outcomes = (Outcome.ACCEPTED, Outcome.ACCEPTED, Outcome.UNCERTAIN, Outcome.UNAVAILABLE, Outcome.ACCEPTED)
        for number, outcome in enumerate(outcomes):
            at = START + 40 * number
            await outbox.put(message(at))
            leased = await claim_one(outbox, at)
            state = State.SENT if outcome is Outcome.ACCEPTED else State.QUEUED
            await outbox.settle(Settlement(leased.message.id, state, ended(leased, outcome), due_at=START + 500))
        counts = await outbox.accepted("main", since=START, slice_seconds=100)
        assert list(counts) == [(START + 80.25, 3), (START + 160.25, 1)]
        assert await outbox.accepted("main", since=START + 161, slice_seconds=100) == []
        assert await outbox.accepted("backup", since=START, slice_seconds=100) == []

    async def test_a_claim_leases_no_more_than_each_limit_allows(self, outbox: Outbox) -> None:
        """Of some routes, and of all others; codes may take what other mail may not."""
        for number in range(3):
            await outbox.put(message(START + number, template="Register"), route="bulk")
            await outbox.put(message(START + number, template="SignIn"))
            await outbox.put(message(START + number, template="Welcome", priority=Priority.EVENT))
            await outbox.put(message(START + number, template="OrganizationInvitation", priority=Priority.INVITATION))
        claimed = await claim(
            outbox,
            START + 5,
            ClaimLimit(("bulk",), total=2, others=0),
            ClaimLimit(("bulk",), total=6, others=2, exclude=True),
        )
        assert [one.message.template for one in claimed.leased] == [
            *["Register"] * 2,
            *["SignIn"] * 3,
            *["OrganizationInvitation"] * 2,
        ]

    async def test_routes_beyond_the_limits_are_passed_over(self, outbox: Outbox) -> None:
        """However many of their messages are due, others are leased."""
        await asyncio.gather(*(outbox.put(message(), route="bulk,main") for _ in range(30)))
        other = message(START + 1, template="Register")
        await outbox.put(other)
        claimed = await claim(outbox, START + 2, ClaimLimit(("bulk,main",), total=1, others=1, exclude=True))
        assert [leased.message.id for leased in claimed.leased] == [other.id]

    async def test_a_message_whose_route_has_changed_is_leased_by_its_new_route(self, outbox: Outbox) -> None:
        """The settings were changed since it was stored; only who has the lease can change it."""
        first, second = message(), message(template="Register")
        await outbox.put(first, route="old")
        await outbox.put(second, route="bulk")
        outbox._clock.set(START + 1)  # type: ignore[attr-defined]  # the fixture's FakeClock
        bulk, others = ClaimLimit(("bulk",), 9, 9), ClaimLimit(("bulk",), 9, 9, exclude=True)
        await outbox.reroute({second.id: "old"})
        (leased,) = (await outbox.claim([others], lease_seconds=300)).leased
        assert (leased.message.id, leased.route) == (first.id, "old")
        await outbox.reroute({first.id: "bulk"})
        assert not (await outbox.claim([others], lease_seconds=300)).leased
        claimed = await outbox.claim([bulk], lease_seconds=300)
        assert {one.message.id: one.route for one in claimed.leased} == {first.id: "bulk", second.id: "bulk"}

    async def test_a_claim_records_no_attempt(self, outbox: Outbox) -> None:
        """Nobody knows yet which provider will be asked, and when."""
        await outbox.put(message())
        (leased,) = (await outbox.claim([up_to(1)], lease_seconds=300)).leased
        record = await outbox.get(leased.message.id)
        assert record is not None
        assert (leased.attempts, leased.begun, record.attempts, record.state) == ((), None, (), State.SENDING)

    async def test_the_newest_of_several_codes_goes_first(self, outbox: Outbox) -> None:
        """Older ones wait until it has ended; one that is held does not block them."""
        older, newer, other = message(), message(START + 1), message(START + 2)
        for one, key in ((older, b"ada"), (newer, b"ada"), (other, b"bob")):
            await outbox.put(one, supersede_key=key)
        leased = (await claim(outbox, START + 3)).leased
        assert [one.message.id for one in leased] == [newer.id, other.id]
        assert (await claim(outbox, START + 3)).leased == ()
        await outbox.settle(Settlement(newer.id, State.HELD, (), reason=HELD_MISCONFIGURED))
        assert (await claim_one(outbox, START + 4)).message.id == older.id

    async def test_a_code_that_is_sent_supersedes_the_older_ones(self, outbox: Outbox) -> None:
        """Those that wait, whatever for; not newer ones, and nothing with another key or without one."""
        queued, held, sent, newer, other, without = (message(START + number) for number in range(6))
        for one, key in ((queued, b"a"), (held, b"a"), (sent, b"a"), (newer, b"a"), (other, b"b"), (without, None)):
            await outbox.put(one, supersede_key=key, lease=Lease("main", 300) if one in (held, sent) else None)
        await outbox.settle(Settlement(held.id, State.HELD, (), reason=HELD_MISCONFIGURED))
        result = await outbox.settle(Settlement(sent.id, State.SENT, ()))
        assert {one.id for one in result.superseded} == {queued.id, held.id}
        states = [(await _record(outbox, one)).state for one in (queued, held, sent, newer, other, without)]
        assert states == [State.SUPERSEDED] * 2 + [State.SENT] + [State.QUEUED] * 3
        assert (await _record(outbox, queued)).settled_at is not None

    async def test_a_mail_that_may_have_been_sent_is_kept_for_the_next_attempt(self, outbox: Outbox) -> None:
        """As it was rendered, until the message is settled."""
        one = message()
        await outbox.put(one, lease=Lease("main", 300))
        mail = replace(email(one.id), message=one, variables={"code": "314159"})
        await outbox.settle(Settlement(one.id, State.QUEUED, (), due_at=START, rendered={"main": mail}))
        leased = await claim_one(outbox, START)
        assert leased.rendered == {"main": mail}
        await outbox.settle(Settlement(one.id, State.QUEUED, leased.attempts, due_at=START))
        assert (await claim_one(outbox, START)).rendered == {"main": mail}
        await outbox.settle(Settlement(one.id, State.SENT, leased.attempts))

    async def test_a_code_that_fails_supersedes_nothing(self, outbox: Outbox) -> None:
        """The older one may still work."""
        older, newer = message(), message(START + 1)
        await outbox.put(older, supersede_key=b"ada")
        await outbox.put(newer, supersede_key=b"ada", lease=Lease("main", 300))
        assert (await outbox.settle(Settlement(newer.id, State.FAILED, (), reason="refused"))).superseded == ()
        assert (await claim_one(outbox, START + 2)).message.id == older.id

    @pytest.mark.parametrize("state", [State.QUEUED, State.HELD])
    async def test_a_superseded_code_that_is_being_sent_gets_no_further_attempt(
        self, outbox: Outbox, state: State
    ) -> None:
        """It ends as superseded when it is to wait again."""
        older, newer = message(), message(START + 1)
        for one in (older, newer):
            await outbox.put(one, supersede_key=b"ada", lease=Lease("main", 300))
        await outbox.settle(Settlement(newer.id, State.SENT, ()))
        assert not await outbox.attempt(older.id, (Attempt("backup", START + 2),))
        result = await outbox.settle(Settlement(older.id, state, (), due_at=START + 2))
        assert (result.is_recorded, [one.id for one in result.superseded]) == (True, [older.id])
        assert (await _record(outbox, older)).state is State.SUPERSEDED

    async def test_a_superseded_code_that_was_sent_all_the_same_is_recorded_as_sent(self, outbox: Outbox) -> None:
        """What is on the wire cannot be recalled."""
        older, newer = message(), message(START + 1)
        for one in (older, newer):
            await outbox.put(one, supersede_key=b"ada", lease=Lease("main", 300))
        await outbox.settle(Settlement(newer.id, State.SENT, ()))
        await outbox.settle(Settlement(older.id, State.SENT, ()))
        assert (await _record(outbox, older)).state is State.SENT

    async def test_codes_of_one_recipient_that_are_settled_together_are_all_recorded(self, outbox: Outbox) -> None:
        """Each as what became of it: neither ends as superseded."""
        older, failed, newer = (message(START + number) for number in range(3))
        for one in (older, failed, newer):
            await outbox.put(one, supersede_key=b"ada", lease=Lease("main", 300))
        ends = ((newer, State.SENT), (older, State.SENT), (failed, State.FAILED))
        settled = await asyncio.gather(*(outbox.settle(Settlement(one.id, end, ())) for one, end in ends))
        assert [(one.is_recorded, one.superseded) for one in settled] == [(True, ())] * 3
        assert [(await _record(outbox, one)).state for one, _ in ends] == [end for _, end in ends]

    async def test_an_expired_message_is_not_claimed(self, outbox: Outbox) -> None:
        """From the moment at which its lifetime ends."""
        await outbox.put(message(lifetime=100))
        claimed = await claim(outbox, START + 100)
        assert (claimed.leased, claimed.next_due) == ((), None)

    # Attempt and settle

    async def test_a_further_attempt_is_recorded(self, outbox: Outbox) -> None:
        """It is recorded before the next provider is contacted."""
        await outbox.put(message())
        leased = await claim_one(outbox, START)
        attempts = (*ended(leased, Outcome.UNAVAILABLE, "451 later"), Attempt("backup", START + 1))
        assert await outbox.attempt(leased.message.id, attempts)
        record = await outbox.get(leased.message.id)
        assert record is not None
        assert record.attempts == attempts

    @pytest.mark.parametrize("state", [state for state in State if state.settled])
    async def test_settling_erases_the_payload_and_leaves_the_record(self, outbox: Outbox, state: State) -> None:
        """Recipient, times, attempts and the harmless fields stay."""
        await outbox.put(message(languages=("fr",)))
        leased = await claim_one(outbox, START)
        attempts = ended(leased, Outcome.ACCEPTED, "250 2.0.0 queued")
        settlement = Settlement(leased.message.id, state, attempts, reason="why", provider_message_id="their-id")
        assert (await outbox.settle(settlement)).is_recorded
        record = await outbox.get(leased.message.id)
        assert record is not None
        assert (record.state, record.attempts, record.reason) == (state, attempts, "why")
        assert (record.recipient, record.languages, record.provider_message_id) == (
            "Ada@example.com",
            ("fr",),
            "their-id",
        )
        assert (record.settled_at, record.due_at) == (START, None)
        assert record.payload == message().harmless()
        assert record.payload["code"] == MASK
        assert (await claim(outbox, START + 400)).leased == ()

    async def test_many_messages_are_settled_concurrently(self, outbox: Outbox) -> None:
        """With different states, and together with one whose lease was lost."""
        await asyncio.gather(*(outbox.put(message()) for _ in range(90)))
        leased = (await claim(outbox, START)).leased
        ways = [State.SENT, State.FAILED, State.HELD]
        settlements = [
            Settlement(one.message.id, ways[i % 3], ended(one, Outcome.ACCEPTED), reason=str(i))
            for i, one in enumerate(leased)
        ]
        stranger = Settlement(message().id, State.SENT, ())
        answers = await asyncio.gather(*(outbox.settle(one) for one in [*settlements, stranger]))
        assert [answer.is_recorded for answer in answers] == [True] * 90 + [False]
        for settlement in settlements:
            record = await outbox.get(settlement.id)
            assert record is not None
            assert (record.state, record.reason) == (settlement.state, settlement.reason)

    async def test_attempt_and_settle_change_nothing_without_a_lease(self, outbox: Outbox) -> None:
        """An unknown, a queued and a settled message: False, and no change."""
        waiting = message()
        await outbox.put(waiting)
        for id_ in (waiting.id, message().id):
            assert not await outbox.attempt(id_, (Attempt("main", START),))
            assert not (await outbox.settle(Settlement(id_, State.SENT, ()))).is_recorded
        leased = await claim_one(outbox, START)
        assert (await outbox.settle(Settlement(waiting.id, State.SENT, leased.attempts))).is_recorded
        assert not (await outbox.settle(Settlement(waiting.id, State.FAILED, ()))).is_recorded
        assert not await outbox.attempt(waiting.id, ())
        record = await outbox.get(waiting.id)
        assert record is not None
        assert record.state is State.SENT

    async def test_a_message_that_expired_after_its_lease_cannot_be_settled(self, outbox: Outbox) -> None:
        """A late result must not overwrite `expired`."""
        await outbox.put(message(lifetime=200))
        leased = await claim_one(outbox, START)
        assert len(await outbox.expire(now=START + 300, limit=10)) == 1
        assert not (await outbox.settle(Settlement(leased.message.id, State.SENT, leased.attempts))).is_recorded

    async def test_a_process_whose_lease_was_taken_over_changes_nothing(self, outbox: Outbox) -> None:
        """It neither records an attempt nor settles: another process sends the message now."""
        await outbox.put(message())
        leased = await claim_one(outbox, START)
        ours = outbox._owner  # type: ignore[attr-defined]  # every engine's
        outbox._owner = "another process"  # type: ignore[attr-defined]  # likewise
        assert not await outbox.attempt(leased.message.id, leased.attempts)
        for state in (State.SENT, State.QUEUED):
            assert not (await outbox.settle(Settlement(leased.message.id, state, ()))).is_recorded
        record = await _record(outbox, leased.message)
        assert (record.state, record.attempts) == (State.SENDING, leased.attempts)
        outbox._owner = ours  # type: ignore[attr-defined]  # likewise
        assert (await outbox.settle(Settlement(leased.message.id, State.SENT, leased.attempts))).is_recorded

    # Held

    async def test_a_held_message_is_not_claimed_until_it_is_released(self, outbox: Outbox) -> None:
        """It has its payload; release takes a reason and a limit, and starts with the oldest."""
        wanted = [message(START + i) for i in range(4)]
        reasons = [HELD_EXHAUSTED, HELD_MISCONFIGURED, HELD_MISCONFIGURED, HELD_MISCONFIGURED]
        for one in wanted:
            await outbox.put(one)
        leased = {one.message.id: one for one in (await claim(outbox, START + 5)).leased}
        for one, reason in zip(wanted, reasons, strict=True):
            attempts = ended(leased[one.id], Outcome.MISCONFIGURED)
            assert (await outbox.settle(Settlement(one.id, State.HELD, attempts, reason=reason))).is_recorded
        assert await outbox.held() == {HELD_EXHAUSTED: 1, HELD_MISCONFIGURED: 3}
        claimed = await claim(outbox, START + 400)
        assert (claimed.leased, claimed.next_due) == ((), None)
        assert await outbox.release(HELD_MISCONFIGURED, now=START + 401, limit=1) == 1
        released = await claim_one(outbox, START + 401)
        assert released.message.payload == PAYLOAD
        assert released.message.id == wanted[1].id
        assert await outbox.release(HELD_MISCONFIGURED, now=START + 402) == 2
        assert await outbox.held() == {HELD_EXHAUSTED: 1}

    async def test_an_expired_message_is_not_released(self, outbox: Outbox) -> None:
        """It cannot be sent any more."""
        await outbox.put(message(lifetime=100))
        leased = await claim_one(outbox, START)
        await outbox.settle(Settlement(leased.message.id, State.HELD, leased.attempts, reason=HELD_MISCONFIGURED))
        assert await outbox.release(HELD_MISCONFIGURED, now=START + 100) == 0

    # Expire and purge

    async def test_expire_ends_queued_held_and_abandoned_messages(self, outbox: Outbox) -> None:
        """Abandoned: the lease has ended. The result has what is reported of each message."""
        queued, held, lost, young = (message(lifetime=life) for life in (50, 50, 50, 1000))
        for one in (held, lost):
            await outbox.put(one)
        for leased in (await claim(outbox, START, lease=60)).leased:
            if leased.message.id == held.id:
                await outbox.settle(Settlement(held.id, State.HELD, leased.attempts, reason=HELD_EXHAUSTED))
        for one in (queued, young):
            await outbox.put(one)
        assert await outbox.expire(now=START + 49, limit=10) == []
        first = await outbox.expire(now=START + 61, limit=2)
        rest = await outbox.expire(now=START + 61, limit=2)
        assert len(first) == 2
        assert {*first, *rest} == {EndedMessage(one.id, "SignIn", Priority.CODE) for one in (queued, held, lost)}
        for one in (queued, held, lost):
            record = await outbox.get(one.id)
            assert record is not None
            assert (record.state, record.due_at) == (State.EXPIRED, None)
            assert record.settled_at is not None
        assert [leased.message.id for leased in (await claim(outbox, START + 62)).leased] == [young.id]

    async def test_a_message_whose_lease_runs_does_not_expire(self, outbox: Outbox) -> None:
        """It may be under way to the provider."""
        await outbox.put(message(lifetime=50))
        leased = await claim_one(outbox, START)
        assert await outbox.expire(now=START + 100, limit=10) == []
        assert (await outbox.settle(Settlement(leased.message.id, State.SENT, leased.attempts))).is_recorded

    async def test_purge_deletes_old_settled_messages_up_to_its_limit(self, outbox: Outbox) -> None:
        """Unsettled messages stay, however old; 0: nothing is left to delete."""
        old = [message(START + i, lifetime=10**6) for i in range(5)]
        waiting = message(START, lifetime=10**6)
        await outbox.put(waiting)
        for one in old:
            await outbox.put(one, lease=Lease("main", 300))
            await outbox.settle(Settlement(one.id, State.SENT, ()))
        gone = [await outbox.purge(before=START + 4, now=START, limit=3) for _ in range(3)]
        assert gone == [3, 1, 0]
        assert [record.id for record in await outbox.find()] == [old[4].id, waiting.id]

    async def test_purge_deletes_once_events_after_their_time(self, outbox: Outbox) -> None:
        """Events without an end stay, although their message is deleted."""
        welcomed = message()
        await outbox.put(
            welcomed,
            once=[DedupKey(b"for ever"), DedupKey(b"a while", until=START + 10)],
            lease=Lease("main", 300),
        )
        await outbox.settle(Settlement(welcomed.id, State.SENT, ()))
        assert await outbox.purge(before=START + 100, now=START + 100, limit=10) == 2
        assert await outbox.purge(before=START + 100, now=START + 100, limit=10) == 0
        assert await outbox.get(welcomed.id) is None
        assert not (await outbox.put(message(START + 200), once=[DedupKey(b"for ever")])).fresh
        assert (await outbox.put(message(START + 200), once=[DedupKey(b"a while", until=START + 300)])).fresh

    async def test_an_event_without_a_message_is_remembered_until_its_time(self, outbox: Outbox) -> None:
        await outbox.remember(DedupKey(b"ended", until=START + 10))
        await outbox.remember(DedupKey(b"ended for ever"))
        assert await outbox.happened(b"ended")
        assert await outbox.happened(b"ended for ever")
        assert not await outbox.happened(b"another")
        await outbox.remember(DedupKey(b"over", until=START))
        assert not await outbox.happened(b"over")
        assert await outbox.purge(before=START, now=START + 20, limit=10) == 2
        assert not await outbox.happened(b"ended")
        assert await outbox.happened(b"ended for ever")

    # Look

    async def test_languages_are_those_of_the_last_mail_to_the_mailbox(self, outbox: Outbox) -> None:
        """Spellings of the same mailbox are equal; settled mails count, mails without languages do not."""
        for i, languages in enumerate([("en",), ("fr-CA", "fr"), ()]):
            one = message(START + i, recipient="Ada@Example.com", languages=languages)
            await outbox.put(one, lease=Lease("main", 300))
            await outbox.settle(Settlement(one.id, State.SENT, ()))
        assert await outbox.languages("ada@example.COM") == ("fr-CA", "fr")
        assert await outbox.languages("bob@example.com") == ()

    async def test_messages_are_found_by_recipient_before_and_after_indexing(self, outbox: Outbox) -> None:
        """Indexing respects its limit; 0: nothing is left to index."""
        ids = []
        indexed = []
        for i in range(6):
            one = message(START + i, recipient="ada@example.com" if i % 2 else "bob@example.com", languages=(f"x{i}",))
            await outbox.put(one)
            ids.append(one.id)
            if i == 3:
                indexed.append(await outbox.index(limit=3))
            assert [record.id for record in await outbox.find(recipient="ada@example.com")] == ids[1::2][::-1]
        indexed += [await outbox.index(limit=2) for _ in range(3)]
        assert indexed in ([3, 2, 1, 0], [0, 0, 0, 0])  # where accepting does it, nothing is left to do
        assert [record.id for record in await outbox.find(recipient="ADA@example.com")] == ids[1::2][::-1]
        assert await outbox.languages("bob@example.com") == ("x4",)

    async def test_depth_counts_waiting_messages_by_priority(self, outbox: Outbox) -> None:
        """It has the time of the oldest; held and settled messages are not counted."""
        for i in range(3):
            await outbox.put(message(START + i))
        await outbox.put(message(START + 9, template="Welcome", priority=Priority.EVENT))
        leased = await claim(outbox, START + 10, limit=2)
        first, second = leased.leased
        await outbox.settle(Settlement(first.message.id, State.SENT, first.attempts))
        await outbox.settle(Settlement(second.message.id, State.QUEUED, second.attempts, due_at=START + 99))
        depth = await outbox.depth()
        assert {priority: (one.count, one.oldest) for priority, one in depth.items()} == {
            Priority.CODE: (2, START + 1),
            Priority.INVITATION: (0, None),
            Priority.EVENT: (1, START + 9),
        }
        assert await outbox.held() == {}

    async def test_find_returns_records_newest_first_in_pages(self, outbox: Outbox) -> None:
        """All, by recipient, by state, and by both."""
        ada = [message(START + i, recipient="ada@example.com") for i in range(5)]
        bob = message(START + 5, recipient="bob@example.com")
        for one in (*ada, bob):
            await outbox.put(one)
        ids = [one.id for one in (*ada, bob)]
        assert [record.id for record in await outbox.find()] == ids[::-1]
        page = await outbox.find(recipient="ADA@example.com", limit=2)
        assert [record.id for record in page] == [ids[4], ids[3]]
        page = await outbox.find(recipient="ada@example.com", before=page[-1].id, limit=10)
        assert [record.id for record in page] == [ids[2], ids[1], ids[0]]
        leased = await claim(outbox, START + 9, limit=3)
        for ours, state in zip(leased.leased, (State.SENT, State.FAILED, State.HELD), strict=True):
            await outbox.settle(Settlement(ours.message.id, state, ours.attempts))
        found = {state: [record.id for record in await outbox.find(state=state)] for state in State}
        expected: dict[State, list[str]] = {key: [] for key in State}
        expected |= {State.SENT: [ids[0]], State.FAILED: [ids[1]], State.HELD: [ids[2]]}
        assert found == {**expected, State.QUEUED: [ids[5], ids[4], ids[3]]}
        assert [record.id for record in await outbox.find(recipient="bob@example.com", state=State.QUEUED)] == [bob.id]
        assert await outbox.find(recipient="no address") == []
        assert await outbox.get(message().id) is None

    async def test_a_message_is_found_by_its_providers_id(self, outbox: Outbox) -> None:
        """Settled, or waiting again; ids of several mails or of none are refused."""
        sent, again, twin = message(), message(START + 1), message(START + 2)
        for one, state, theirs in (
            (sent, State.SENT, "Their-1"),
            (again, State.QUEUED, "Their-2"),
            (twin, State.SENT, "Their-2"),
        ):
            await outbox.put(one, lease=Lease("main", 300))
            await outbox.settle(Settlement(one.id, state, (), provider_message_id=theirs))
        resolve = outbox.resolve  # type: ignore[attr-defined]  # every engine has it, for operators
        assert await resolve("Their-1") == sent.id
        assert await resolve(again.id) == again.id
        for unknown in ("their-1", "Their-2", ""):
            with pytest.raises(OutboxError):
                await resolve(unknown)

    async def test_free_bytes_is_a_number_or_none(self, outbox: Outbox) -> None:
        """A number of octets, or None."""
        room = await outbox.free_bytes()
        assert room is None or room > 0

    # Captured

    async def test_a_secret_is_stored_and_replaced(self, outbox: Outbox) -> None:
        assert await outbox.secrets.get("main token") is None
        await outbox.secrets.put("main token", "first é")
        await outbox.secrets.put("backup token", "other")
        await outbox.secrets.put("main token", "second")
        assert await outbox.secrets.get("main token") == "second"
        assert await outbox.secrets.get("backup token") == "other"

    async def test_entities_are_found_by_their_ids_of_which_no_name_tells_any(self, outbox: Outbox) -> None:
        """Many in one read."""
        store = outbox.secrets
        await store.put_entity("user", "u1", "first é")
        await store.put_entity("user", "u2", "other")
        await store.put_entity("organization", "u1", "an organization")
        await store.put_entity("user", "u1", "second")
        assert await store.get_entities("user", ["u2", "u3", "u1"]) == ["other", None, "second"]
        assert await store.get_entities("organization", ["u1", "u2"]) == ["an organization", None]
        assert await store.get_entities("user", []) == []
        assert await store.get_entities("user", [f"u{number}" for number in range(1000)]) == [
            None, "second", "other", *[None] * 997
        ]  # fmt: skip
        for guess in ("user u1", "directory user u1"):
            assert await store.get(guess) is None

    async def test_captured_mails_can_be_read(self, outbox: Outbox) -> None:
        """Newest first, and octet by octet."""
        mails = [email(message(START + i).id, b"Subject: %d\r\n\r\nx\r\n" % i) for i in range(3)]
        for mail in mails:
            await outbox.captured.keep(mail)
        newest = await outbox.captured.newest(2)
        assert [mail.id for mail in newest] == [mails[2].id, mails[1].id]
        assert (newest[0].subject, newest[0].recipient, newest[0].sender, newest[0].size, newest[0].captured_at) == (
            "739105 is your code",
            "ada@example.com",
            "Acme <no-reply@acme.example>",
            len(mails[2].raw),
            START,
        )
        assert await outbox.captured.raw(mails[0].id) == mails[0].raw
        assert await outbox.captured.raw(message().id) is None

    async def test_the_newest_thousand_captured_mails_are_stored(self, outbox: Outbox) -> None:
        """The oldest are deleted."""
        mails = [email(message(START + i).id, b"x") for i in range(1005)]
        await asyncio.gather(*(outbox.captured.keep(mail) for mail in mails))
        kept = await outbox.captured.newest(2000)
        assert [mail.id for mail in kept] == [mail.id for mail in mails[:4:-1]]

    async def test_at_most_64_mebibytes_of_captured_mails_are_stored(self, outbox: Outbox) -> None:
        """Even if only two mails are left."""
        mails = [email(message(START + i).id, bytes(24 * 1024 * 1024)) for i in range(3)]
        for mail in mails:
            await outbox.captured.keep(mail)
        assert [mail.id for mail in await outbox.captured.newest(9)] == [mails[2].id, mails[1].id]
