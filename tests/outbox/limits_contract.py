"""The contract of the limits. Subclass `LimitsContract` and give it `open_outbox`, which passes arguments on."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from mailroom.errors import LimitExceeded
from mailroom.message import Message, Priority, State
from mailroom.outbox import HELD_FLOOD, DedupKey, Lease, Outbox, PutResult, Settlement
from mailroom.outbox.limits import RateLimit
from tests.clock import START, FakeClock
from tests.outbox.contract import claim, claim_one, message

OpenOutbox = Callable[..., Awaitable[Outbox]]

_WINDOW = 600.0
_CODES = RateLimit(3, _WINDOW)
_EVENTS = RateLimit(2, 3600)


def event(now: float = START, lifetime: float = 86400) -> Message:
    """Return an event's message."""
    return message(now, template="Welcome", priority=Priority.EVENT, lifetime=lifetime)


async def put_all(outbox: Outbox, messages: Sequence[Message]) -> list[PutResult | BaseException]:
    """Put messages at the same time."""
    return await asyncio.gather(*(outbox.put(one) for one in messages), return_exceptions=True)


class LimitsContract:
    """The limits of `mailroom.outbox.Outbox`."""

    @pytest.fixture
    async def limited(self, open_outbox: OpenOutbox) -> Outbox:
        """Return an outbox that is opened with both limits."""
        return await open_outbox(recipient_limit=_CODES, event_limit=_EVENTS)

    # Codes

    async def test_a_code_beyond_its_recipients_limit_is_not_stored(self, limited: Outbox, clock: FakeClock) -> None:
        """The error tells when the next one is allowed; other spellings are the same recipient."""
        for seconds in (0, 10, 20):
            clock.set(START + seconds)
            await limited.put(message(START + seconds))
        clock.set(START + 100)
        refused = message(START + 100, recipient="ADA@EXAMPLE.COM")
        with pytest.raises(LimitExceeded) as error:
            await limited.put(refused, lease=Lease("main", 300))
        assert (error.value.limit, error.value.retry_after) == ("recipient", 500)
        assert await limited.get(refused.id) is None
        assert (await limited.put(message(START + 100, recipient="bob@example.com"))).fresh

    async def test_the_window_slides(self, limited: Outbox, clock: FakeClock) -> None:
        """Each code is allowed again when it is as old as the window."""
        for seconds in (0, 300, 599):
            clock.set(START + seconds)
            await limited.put(message(START + seconds))
        for now, is_allowed in ((599.5, False), (600, True), (899, False), (900, True), (1198, False)):
            clock.set(START + now)
            (result,) = await put_all(limited, [message(START + now)])
            assert isinstance(result, PutResult) is is_allowed, now

    @pytest.mark.parametrize("count", [1, 50])
    async def test_of_many_concurrent_codes_exactly_the_limit_is_stored(
        self, open_outbox: OpenOutbox, count: int
    ) -> None:
        """Also those of other recipients, in the same transactions."""
        outbox = await open_outbox(recipient_limit=RateLimit(count, _WINDOW))
        wanted = [message(recipient=f"user{i % 3}@example.com") for i in range(600)]
        results = await put_all(outbox, wanted)
        stored = [one.recipient for one, result in zip(wanted, results, strict=True) if isinstance(result, PutResult)]
        assert {name: stored.count(name) for name in stored} == {f"user{i}@example.com": count for i in range(3)}
        assert all(isinstance(result, PutResult | LimitExceeded) for result in results)
        assert len(await outbox.find(limit=1000)) == 3 * count

    async def test_codes_of_one_millisecond_count_whatever_the_order_of_their_ids(self, limited: Outbox) -> None:
        """The rest of an id is random."""
        results = await put_all(limited, [message() for _ in range(20)][::-1])
        assert [isinstance(result, PutResult) for result in results] == [True] * 3 + [False] * 17

    async def test_a_thousand_other_recipients_change_nothing(self, limited: Outbox) -> None:
        """None of them is refused by mistake."""
        await put_all(limited, [message() for _ in range(3)])
        others = await put_all(limited, [message(recipient=f"user{i}@example.com") for i in range(1000)])
        assert all(isinstance(result, PutResult) for result in others)
        with pytest.raises(LimitExceeded):
            await limited.put(message())

    async def test_codes_stored_before_a_restart_count(self, open_outbox: OpenOutbox, clock: FakeClock) -> None:
        """Those of the last window only, indexed or not."""
        before = await open_outbox(recipient_limit=_CODES)
        for seconds in (0, 10, 20):
            clock.set(START + seconds)
            await before.put(message(START + seconds))
        await before.index(limit=2)
        await before.close()
        after = await open_outbox(recipient_limit=_CODES)
        with pytest.raises(LimitExceeded):
            await after.put(message(START + 20))
        clock.set(START + 600)
        assert (await after.put(message(START + 600))).fresh
        with pytest.raises(LimitExceeded):
            await after.put(message(START + 600))

    async def test_repeats_do_not_count_and_are_not_refused(self, limited: Outbox) -> None:
        """Logto sends a request again whose response it did not see."""
        await asyncio.gather(*(limited.put(message(), repeat_of=b"body 1") for _ in range(10)))
        await limited.put(message(), repeat_of=b"body 2")
        assert (await limited.put(message(), repeat_of=b"body 3")).fresh
        assert not (await limited.put(message(), repeat_of=b"body 2")).fresh
        with pytest.raises(LimitExceeded):
            await limited.put(message(), repeat_of=b"body 4")

    async def test_failed_codes_do_not_count(self, limited: Outbox) -> None:
        """As in Logto, where a code that could not be sent leaves the user's limit alone."""
        for state in (State.FAILED, State.FAILED, State.EXPIRED, State.SENT, State.QUEUED):
            one = message()
            await limited.put(one, lease=Lease("main", 300))
            await limited.settle(Settlement(one.id, state, ()))
        with pytest.raises(LimitExceeded):
            await limited.put(message())

    async def test_invitations_and_events_have_no_recipient_limit(self, limited: Outbox) -> None:
        """Nor do they count."""
        for _ in range(5):
            assert (await limited.put(message(template="OrganizationInvitation", priority=Priority.INVITATION))).fresh
            assert (await limited.put(event())).fresh
        assert (await limited.put(message())).fresh

    async def test_without_a_limit_every_code_is_stored(self, open_outbox: OpenOutbox) -> None:
        """`recipient = "0"`."""
        outbox = await open_outbox()
        assert all(isinstance(result, PutResult) for result in await put_all(outbox, [message() for _ in range(200)]))

    # Events

    async def test_an_event_beyond_the_limit_is_stored_as_held(self, limited: Outbox) -> None:
        """Whether it was to be sent at once or queued; it can be released, and has no attempt yet."""
        results = [await limited.put(event(), lease=lease) for lease in (None, None, Lease("main", 300), None)]
        assert [result.is_held for result in results] == [False, False, True, True]
        assert await limited.held() == {HELD_FLOOD: 2}
        assert len((await claim(limited, START)).leased) == 2
        assert await limited.release(HELD_FLOOD, now=START) == 2
        assert {leased.attempts[0].started_at for leased in (await claim(limited, START)).leased} == {START}

    async def test_held_and_repeated_events_do_not_count(self, limited: Outbox, clock: FakeClock) -> None:
        """So a flood does not keep later events from being sent."""
        once = [DedupKey(b"webhook:1")]
        assert [(await limited.put(event(), once=once)).fresh for _ in range(3)] == [True, False, False]
        assert [(await limited.put(event())).is_held for _ in range(3)] == [False, True, True]
        clock.set(START + 3600)
        assert [(await limited.put(event(START + 3600))).is_held for _ in range(3)] == [False, False, True]

    async def test_a_restart_neither_releases_held_events_nor_forgets_the_sent_ones(
        self, open_outbox: OpenOutbox
    ) -> None:
        """Held ones still do not count."""
        before = await open_outbox(event_limit=_EVENTS)
        assert [(await before.put(event())).is_held for _ in range(4)] == [False, False, True, True]
        await before.close()
        after = await open_outbox(event_limit=_EVENTS)
        assert await after.held() == {HELD_FLOOD: 2}
        assert (await after.put(event())).is_held
        await after.close()
        wider = await open_outbox(event_limit=RateLimit(3, 3600))
        assert [(await wider.put(event())).is_held for _ in range(2)] == [False, True]

    async def test_a_held_event_expires(self, limited: Outbox) -> None:
        """At the end of its lifetime, as every held message."""
        held = [event(lifetime=60) for _ in range(3)][-1]
        for one in (event(), event(), held):
            await limited.put(one)
        assert [ended.id for ended in await limited.expire(now=START + 60, limit=10)] == [held.id]

    async def test_codes_are_never_held(self, limited: Outbox) -> None:
        """Whatever the events do."""
        for _ in range(5):
            await limited.put(event())
        assert not (await limited.put(message())).is_held

    # Delay

    async def test_a_message_with_due_at_is_not_claimed_before(self, limited: Outbox) -> None:
        """The claim before tells when it will be due."""
        later = event()
        await limited.put(later, due_at=START + 600)
        early = await claim(limited, START + 599)
        assert (early.leased, early.next_due) == ((), START + 600)
        assert (await claim_one(limited, START + 600)).message == later

    @pytest.mark.parametrize("set_back", [0.0, 7200.0])
    async def test_a_restart_does_not_shorten_a_delay(
        self, open_outbox: OpenOutbox, clock: FakeClock, set_back: float
    ) -> None:
        """Nor if the clock was set back meanwhile: then the delay starts again, as the lifetime does."""
        before = await open_outbox()
        later = event(lifetime=86400)
        await before.put(later, due_at=START + 600)
        await before.close()
        clock.set(START - set_back)
        after = await open_outbox()
        assert (await claim(after, START - set_back + 599)).leased == ()
        assert (await claim_one(after, START - set_back + 600)).message.id == later.id
