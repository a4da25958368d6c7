"""Which messages get a slot, and what a claim may lease."""

import asyncio

from msgspec.structs import replace

from mailroom.config.overrides import Override
from mailroom.courier.admission import PATIENCE_SECONDS, Admission, Slots
from mailroom.courier.channels.channel import Channel
from mailroom.courier.channels.rated_limiter import RatedLimiter
from mailroom.courier.channels.rates import Rates
from mailroom.courier.routes import Routes
from mailroom.message import Priority
from mailroom.outbox import ClaimLimit, Leased
from tests.clock import FakeClock, settle
from tests.courier.parts import SENDER, ScriptedProvider, message

CODE, INVITATION, EVENT = Priority


def admission(**by_template: tuple[str, ...]) -> Admission:
    """Return the admission of two providers with 5 permits each, 4 of them for all mail, and nothing in the outbox."""
    channels = {
        name: Channel(ScriptedProvider(), RatedLimiter(5, Rates(FakeClock())), SENDER) for name in ("main", "backup")
    }
    made = Admission(channels, Routes(by_template, ("main",)))
    made.end_claim(made.limits(is_due=False), [])
    return made


def leased(*priorities: Priority, template: str = "SignIn") -> list[Leased]:
    """Return messages that a claim has leased."""
    return [Leased(message(template, priority), ()) for priority in priorities]


async def taken(slots: Slots, priority: Priority, most: int = 1) -> int:
    """Take up to so many slots; return how many there were at once."""
    for number in range(most):
        waiting = asyncio.ensure_future(slots.acquire(priority))
        await settle(3)
        if not (waiting.done() and waiting.result()):
            waiting.cancel()
            await asyncio.wait([waiting])
            return number
    return most


async def test_each_permit_makes_four_slots_some_of_them_for_codes_only() -> None:
    slots = admission().slots(message("SignIn"))
    assert await taken(slots, EVENT, 100) == 16
    assert await taken(slots, CODE, 100) == 4
    slots.release(EVENT)
    assert await taken(slots, CODE)


async def test_at_the_start_everything_waits_in_the_outbox() -> None:
    """Until the first claim has seen what the last process left."""
    channels = {"main": Channel(ScriptedProvider(), RatedLimiter(5, Rates(FakeClock())), SENDER)}
    made = Admission(channels, Routes({}, ("main",)))
    assert not await taken(made.slots(message("SignIn")), CODE)
    limits = made.limits(is_due=False)
    assert list(limits.values()) == [ClaimLimit((), 20, 16, exclude=True)]
    made.end_claim(limits, [])
    assert await taken(made.slots(message("SignIn")), CODE)


async def test_new_messages_do_not_overtake_those_that_wait() -> None:
    """More urgent ones do."""
    made = admission()
    slots = made.slots(message("SignIn"))
    slots.add_backlog(INVITATION)
    assert [await taken(slots, priority) for priority in (CODE, INVITATION, EVENT)] == [1, 0, 0]
    limits = made.limits(is_due=False)
    assert not await taken(slots, INVITATION), "the claim is not over"
    made.end_claim(limits, leased(INVITATION))
    assert await taken(slots, INVITATION)
    assert not made.has_backlog


async def test_a_message_that_comes_during_the_claim_waits_for_the_next_one() -> None:
    """The claim may not have seen it."""
    made = admission()
    slots = made.slots(message("SignIn"))
    slots.add_backlog(CODE)
    limits = made.limits(is_due=False)
    slots.add_backlog(EVENT)
    made.end_claim(limits, [])
    assert slots.backlog == {EVENT}


async def test_a_claim_that_reaches_its_limit_leaves_a_backlog() -> None:
    """Of the last priority that it leased, and of those that waited before."""
    made = admission()
    slots = made.slots(message("SignIn"))
    for _ in range(18):
        await taken(slots, CODE)
    slots.add_backlog(EVENT)
    limits = made.limits(is_due=False)
    assert [(limit.total, limit.others) for limit in limits.values()] == [(2, 2)]
    made.end_claim(limits, leased(CODE, INVITATION))
    assert slots.backlog == {INVITATION, EVENT}


async def test_a_claim_full_of_other_mail_leaves_no_codes_behind() -> None:
    made = admission()
    slots = made.slots(message("SignIn"))
    slots.add_backlog(CODE)
    slots.add_backlog(EVENT)
    made.end_claim(made.limits(is_due=False), leased(*[EVENT] * 16))
    assert slots.backlog == {EVENT}
    assert await taken(slots, CODE)


async def test_half_of_the_slots_stay_for_new_messages_while_nothing_waits() -> None:
    made = admission()
    assert made.limits(is_due=False) == {}
    limits = made.limits(is_due=True)
    assert [limit.total for limit in limits.values()] == [10]
    assert await taken(made.slots(message("SignIn")), CODE), "a claim of what is due does not keep new messages waiting"


async def test_what_is_due_gets_the_slots_that_become_free() -> None:
    """In a flood there is always a new message that would take them."""
    made = admission()
    slots = made.slots(message("SignIn"))
    for _ in range(20):
        await taken(slots, CODE)
    assert made.limits(is_due=True) == {}
    slots.release(CODE)
    assert not await taken(slots, CODE)
    assert [limit.total for limit in made.limits(is_due=True).values()] == [1]


async def test_after_a_failed_claim_anything_may_wait() -> None:
    made = admission()
    slots = made.slots(message("SignIn"))
    slots.add_backlog(EVENT)
    made.abandon_claim(made.limits(is_due=False))
    assert not await taken(slots, CODE)


async def test_each_set_of_providers_has_slots_of_its_own() -> None:
    """And a claim names it; the default's set also takes what has a route that is not in the settings any more."""
    made = admission(Welcome=("backup",), SignIn=("main", "backup"), Generic=("main",))
    welcome, sign_in = made.slots(message("Welcome")), made.slots(message("SignIn"))
    await taken(sign_in, CODE, 1000)
    assert await taken(welcome, EVENT)
    assert made.slots(message("Register")) is made.slots(message("Generic"))
    sign_in.release(CODE)
    limits = made.limits(is_due=True)
    assert {frozenset(limit.routes): limit.exclude for limit in limits.values()} == {
        frozenset({"backup"}): False,
        frozenset({"main,backup"}): False,
        frozenset({"backup", "main,backup"}): True,
    }


async def test_a_message_with_an_override_takes_a_slot_of_its_own_providers() -> None:
    override = Override.model_validate({"when": {"application": "app1"}, "providers": ("backup",)})
    channels = {
        name: Channel(ScriptedProvider(), RatedLimiter(5, Rates(FakeClock())), SENDER) for name in ("main", "backup")
    }
    made = Admission(channels, Routes({}, ("main",), (override,)))
    one = replace(message(), payload={"application": {"id": "app1"}})
    assert made.slots(one) is not made.slots(message())
    claims = {(limit.routes, limit.exclude) for limit in made.limits(is_due=True).values()}
    assert claims == {(("backup",), False), (("backup",), True)}


async def test_nothing_is_claimed_for_paused_providers() -> None:
    channels = {
        name: Channel(ScriptedProvider(), RatedLimiter(5, Rates(FakeClock())), SENDER) for name in ("main", "backup")
    }
    made = Admission(channels, Routes({"Welcome": ("main", "backup")}, ("main",)))
    channels["main"].is_paused = True
    assert [limit.routes for limit in made.limits(is_due=True).values()] == [("main,backup",)]


async def test_what_is_due_while_no_provider_can_be_used_is_a_backlog() -> None:
    """It is claimed when one can be used again, before new messages; nobody looks for it without a pause until then."""
    channels = {"main": Channel(ScriptedProvider(), RatedLimiter(5, Rates(FakeClock())), SENDER)}
    made = Admission(channels, Routes({}, ("main",)))
    made.end_claim(made.limits(is_due=False), [])
    channels["main"].is_paused = True
    assert not made.limits(is_due=True)
    assert made.has_backlog
    channels["main"].is_paused = False
    assert not await taken(made.slots(message("SignIn")), CODE)
    assert made.limits(is_due=False)


async def test_a_request_waits_a_moment_for_a_slot() -> None:
    """Then its message goes to the outbox, and so do those that wait behind it."""
    made = admission()
    slots = made.slots(message("SignIn"))
    await taken(slots, CODE, 1000)
    waiting = [asyncio.ensure_future(slots.acquire(CODE)) for _ in range(3)]
    await settle()
    slots.release(CODE)
    await settle()
    assert [one.done() for one in waiting] == [True, False, False]
    made.end_waits(slots.limiter.clock.now() + PATIENCE_SECONDS)
    assert [await one for one in waiting] == [True, False, False]
    late = asyncio.ensure_future(slots.acquire(CODE))
    await settle()
    slots.add_backlog(CODE)
    assert not await late


async def test_what_is_due_beyond_the_limit_of_other_mail_is_a_backlog() -> None:
    """Else nothing would claim it when slots become free."""
    made = admission()
    slots = made.slots(message("SignIn"))
    assert await taken(slots, EVENT, 15) == 15
    limits = made.limits(is_due=True)
    assert [(limit.total, limit.others) for limit in limits.values()] == [(3, 1)]
    made.end_claim(limits, leased(EVENT))
    assert EVENT in slots.backlog
    assert await taken(slots, CODE)
