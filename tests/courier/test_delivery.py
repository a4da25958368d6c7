"""One message's delivering through the providers of its route."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace

import pytest
import structlog.testing
from msgspec import structs

from mailroom.courier.channels.channel import Channel
from mailroom.courier.channels.rated_limiter import RatedLimiter
from mailroom.courier.channels.rates import Rates
from mailroom.courier.delivery import Delivery
from mailroom.courier.round import Selector
from mailroom.courier.routes import Routes
from mailroom.errors import (
    CannotKeep,
    Declined,
    Misconfigured,
    MissingVariable,
    Rejected,
    RenderingError,
    SendingError,
    Unavailable,
    Uncertain,
)
from mailroom.message import MASK, Attempt, Email, Message, Outcome, Priority, Receipt, State
from mailroom.outbox import (
    HELD_EXHAUSTED,
    HELD_LINK,
    HELD_MISCONFIGURED,
    HELD_REFUSED,
    HELD_RENDERING,
    SENT_UNCERTAIN,
    Leased,
    Settlement,
)
from mailroom.providers import Provider
from mailroom.providers.smtp.replies import refusal
from mailroom.smtpclient import Command, Reply
from tests.clock import FakeClock, settle
from tests.courier.parts import SENDER, PlainRenderer, ScriptedProvider, message


class Delivering:
    """A delivery with two providers, and what it recorded."""

    def __init__(self, main: Provider, backup: Provider | None = None, *, main_forwards: bool = False) -> None:
        self.clock = FakeClock()
        self.renderer = PlainRenderer()
        self.recorded: list[tuple[Attempt, ...]] = []
        self.outcomes: list[tuple[str, Outcome]] = []
        self.still_ours = True
        self.disk_full = False
        providers: Mapping[str, Provider] = {"main": main} | ({"backup": backup} if backup else {})
        self.channels = {
            name: Channel(
                provider, RatedLimiter(10, Rates(self.clock)), SENDER, forwards=main_forwards and name == "main"
            )
            for name, provider in providers.items()
        }
        self.delivery = Delivery(
            selector=Selector(self.channels, self.clock),
            routes=Routes({}, tuple(providers)),
            renderer=self.renderer,
            reply_to=None,
            clock=self.clock,
            jitter=lambda: 0.0,
            record=self._record,
            on_result=self._note,
        )

    def _note(self, provider: str, attempt: str, result: Receipt | SendingError, diagnostic: str) -> None:
        outcome = Outcome(result.outcome) if isinstance(result, SendingError) else Outcome.ACCEPTED
        self.outcomes.append((provider, outcome))
        self.channels[provider].record(result, diagnostic, self.clock.now(), attempt=attempt)

    async def _record(self, _id: str, attempts: tuple[Attempt, ...]) -> bool:
        if self.disk_full:
            raise CannotKeep("disk full")
        self.recorded.append(attempts)
        return self.still_ours

    async def of(self, sent: Message, *before: Attempt) -> Settlement | None:
        """Deliver a message; its next attempt was recorded with it unless there were attempts before."""
        begun = None if before else Attempt("main", self.clock.now())
        return await self.delivery.deliver(Leased(sent, before, begun))

    async def settled(self, sent: Message, *before: Attempt) -> Settlement:
        """Deliver a message and return what is to be recorded."""
        settlement = await self.of(sent, *before)
        assert settlement is not None
        return settlement


def _outcomes(settlement: Settlement) -> list[tuple[str, Outcome | None]]:
    return [(attempt.provider, attempt.outcome) for attempt in settlement.attempts]


async def test_the_first_provider_takes_it() -> None:
    """And its receipt is kept."""
    delivering = Delivering(ScriptedProvider([Receipt("queued as 4F2", "250 2.0.0 ok")]), backup := ScriptedProvider())
    settlement = await delivering.settled(message(now=delivering.clock.now()))
    assert (settlement.state, settlement.provider_message_id) == (State.SENT, "queued as 4F2")
    assert _outcomes(settlement) == [("main", Outcome.ACCEPTED)]
    assert settlement.attempts[0].diagnostic == "250 2.0.0 ok"
    assert delivering.recorded == []  # the attempt was recorded with the lease
    assert backup.sent.empty()


async def test_a_mail_goes_by_the_template_of_the_provider_that_has_one() -> None:
    main, backup = ScriptedProvider([Unavailable("busy")]), ScriptedProvider()
    delivering = Delivering(main, backup)
    channel = replace(delivering.channels["backup"], template_for=lambda kind: f"d-{kind}")
    delivering.channels["backup"] = channel
    await delivering.settled(message(now=delivering.clock.now()))
    assert [one.sent.get_nowait().template_at_provider for one in (main, backup)] == ["", "d-SignIn"]


@pytest.mark.parametrize(
    "failure", [Unavailable("450 busy"), Misconfigured("535 who are you"), Declined("554 we do not like it")]
)
async def test_the_next_provider_is_tried_in_the_same_breath(failure: Unavailable | Misconfigured) -> None:
    """Its attempt is recorded before it is dialled."""
    backup = ScriptedProvider([lambda _email: Receipt(f"recorded {len(delivering.recorded)}")])
    delivering = Delivering(ScriptedProvider([failure]), backup)
    settlement = await delivering.settled(message(now=delivering.clock.now()))
    assert settlement.state is State.SENT
    assert settlement.provider_message_id == "recorded 1"
    assert _outcomes(settlement) == [("main", Outcome(failure.outcome)), ("backup", Outcome.ACCEPTED)]
    assert delivering.outcomes == [("main", Outcome(failure.outcome)), ("backup", Outcome.ACCEPTED)]
    assert [attempt.outcome for attempt in delivering.recorded[0]] == [Outcome(failure.outcome), None]


async def test_a_providers_mails_may_leave_out_that_they_are_automatic() -> None:
    main = ScriptedProvider()
    delivering = Delivering(main)
    delivering.channels["main"].auto_submitted = False
    await delivering.settled(message(now=delivering.clock.now()))
    assert main.sent.get_nowait().headers == ()


async def test_a_provider_that_forwards_gets_the_message_whatever_the_templates_say() -> None:
    """Another of the route gets the mail, written."""
    main, backup = ScriptedProvider([Unavailable("450 busy"), Receipt()]), ScriptedProvider()
    delivering = Delivering(main, backup, main_forwards=True)
    sent = message(now=delivering.clock.now())
    assert (await delivering.settled(sent)).state is State.SENT
    forwarded, written = main.sent.get_nowait(), backup.sent.get_nowait()
    assert (forwarded.message, forwarded.id, forwarded.recipient) == (sent, sent.id, sent.recipient)
    assert (forwarded.subject, forwarded.html, forwarded.text, forwarded.raw) == ("", "", "", b"")
    assert (written.message, written.text) == (None, "Your code: 314159")
    delivering.renderer.fault = RenderingError("Generic/html.jinja, line 3: broken")
    assert (await delivering.settled(sent)).state is State.SENT


async def test_what_a_service_repeats_of_a_forwarded_message_is_masked() -> None:
    delivering = Delivering(ScriptedProvider([Rejected("314159 is spam")]), main_forwards=True)
    settlement = await delivering.settled(message(now=delivering.clock.now()))
    assert settlement.reason == f"{MASK} is spam"


async def test_a_rejected_mail_fails_and_bothers_nobody_else() -> None:
    """This mail will never go; the provider's words are kept without the code."""
    delivering = Delivering(
        ScriptedProvider([Rejected("314159 is spam", code="550 5.7.1")]), backup := ScriptedProvider()
    )
    settlement = await delivering.settled(message(now=delivering.clock.now()))
    assert settlement.state is State.FAILED
    assert settlement.reason == settlement.attempts[0].diagnostic == f"550 5.7.1 {MASK} is spam"
    assert backup.sent.empty()


async def test_a_breaker_opens_for_a_reason_without_secrets() -> None:
    """The reason is logged, as `provider.opened`."""
    delivering = Delivering(ScriptedProvider([Misconfigured("no 314159 to ada@example.com", code="535")]))
    await delivering.settled(message(now=delivering.clock.now()))
    assert delivering.channels["main"].breaker.reason == f"535 no {MASK} to {MASK}"


async def test_an_uncertain_code_goes_to_the_next_provider_at_once() -> None:
    """Two mails are better than none."""
    delivering = Delivering(ScriptedProvider([Uncertain("silence")]), ScriptedProvider())
    settlement = await delivering.settled(message(now=delivering.clock.now()))
    assert _outcomes(settlement) == [("main", Outcome.UNCERTAIN), ("backup", Outcome.ACCEPTED)]


async def test_other_uncertain_mail_waits_for_the_same_provider() -> None:
    """Another one would surely send it twice."""
    delivering = Delivering(ScriptedProvider([Uncertain("silence")]), backup := ScriptedProvider())
    now = delivering.clock.now()
    settlement = await delivering.settled(message("Welcome", Priority.EVENT, now=now, lifetime=86400))
    assert (settlement.state, settlement.due_at) == (State.QUEUED, now + 30)
    assert backup.sent.empty()


async def test_a_round_without_success_is_repeated_later() -> None:
    """A code within seconds, and not before the first provider wants to be asked again."""
    delivering = Delivering(
        ScriptedProvider([Unavailable("busy", retry_after=60)]), ScriptedProvider([Unavailable("busy", retry_after=7)])
    )
    now = delivering.clock.now()
    settlement = await delivering.settled(message(now=now))
    assert (settlement.state, settlement.due_at) == (State.QUEUED, now + 7)
    assert len(settlement.attempts) == 2


async def test_a_code_that_no_further_try_can_save_expires() -> None:
    """It says so now rather than pretend to wait."""
    delivering = Delivering(ScriptedProvider([Unavailable("busy", retry_after=3600)]))
    settlement = await delivering.settled(message(now=delivering.clock.now()))
    assert settlement.state is State.EXPIRED


async def test_mail_that_every_provider_refused_for_our_faults_is_held() -> None:
    """It is sent as soon as the operator has corrected the settings."""
    delivering = Delivering(ScriptedProvider([Misconfigured("535")]), ScriptedProvider([Misconfigured("no credit")]))
    settlement = await delivering.settled(message(now=delivering.clock.now()))
    assert (settlement.state, settlement.reason) == (State.HELD, HELD_MISCONFIGURED)


@pytest.mark.parametrize(
    "failures",
    [
        (Declined("554 5.6.0 no"), Declined("554 5.6.0 no")),
        (Misconfigured("535 who are you"), Declined("554 5.6.0 no")),
    ],
)
async def test_mail_that_a_provider_refuses_for_another_reason_than_its_address_is_held(
    failures: tuple[Misconfigured, Misconfigured],
) -> None:
    """It is not released with the others when that provider takes another mail: it would be refused again."""
    delivering = Delivering(ScriptedProvider([failures[0]]), ScriptedProvider([failures[1]]))
    settlement = await delivering.settled(message(now=delivering.clock.now()))
    assert (settlement.state, settlement.reason) == (State.HELD, HELD_REFUSED)


async def test_the_hint_stands_behind_the_providers_words_and_no_code_is_said_twice() -> None:
    refused = refusal(Command.CONTENT, Reply(554, ("5.7.0 314159 is not authorized to perform ses:SendRawEmail",)))
    delivering = Delivering(ScriptedProvider([refused]))
    [attempt] = (await delivering.settled(message(now=delivering.clock.now()))).attempts
    said, _, hint = attempt.diagnostic.partition(" → ")
    assert said == f"554 5.7.0 {MASK} is not authorized to perform ses:SendRawEmail"
    assert hint == refused.hint


@pytest.mark.parametrize(
    ("error", "diagnostic"),
    [
        (Uncertain("handed over, then: 421 4.3.2 bye", code="421 4.3.2"), "handed over, then: 421 4.3.2 bye"),
        (Misconfigured("the proxy opens no tunnel: 407 who?", code="407"), "the proxy opens no tunnel: 407 who?"),
        (Misconfigured("no token: invalid_grant", code="invalid_grant"), "no token: invalid_grant"),
        (Unavailable("come back in 1000 s", code="100"), "100 come back in 1000 s"),
        (Unavailable("busy"), "busy"),
    ],
)
async def test_a_code_stands_before_a_diagnostic_that_does_not_hold_it(error: SendingError, diagnostic: str) -> None:
    delivering = Delivering(ScriptedProvider([error]))
    [attempt] = (await delivering.settled(message(now=delivering.clock.now()))).attempts
    assert attempt.diagnostic == diagnostic


async def test_too_many_connections_delay_a_mail_by_seconds() -> None:
    """A 432 was taken for a password transition, and held the mail for five minutes."""
    for sent in (message(), message("OrganizationInvitation", Priority.INVITATION, lifetime=86400)):
        busy = refusal(Command.CONTENT, Reply(432, ("4.3.2 Concurrent connections limit exceeded",)))
        delivering = Delivering(ScriptedProvider([busy]))
        now = delivering.clock.now()
        settlement = await delivering.settled(structs.replace(sent, expires_at=now + 86400))
        assert (settlement.state, settlement.due_at) == (State.QUEUED, now + 1)


async def test_mail_whose_tries_are_used_up_is_held() -> None:
    """An operator may know more."""
    delivering = Delivering(ScriptedProvider([Unavailable("busy")]))
    before = [Attempt("main", 0.0, 0.1, Outcome.UNAVAILABLE, "busy")] * 19
    sent = message("Welcome", Priority.EVENT, now=delivering.clock.now(), lifetime=10**6)
    settlement = await delivering.settled(sent, *before)
    assert (settlement.state, settlement.reason) == (State.HELD, HELD_EXHAUSTED)
    assert len(settlement.attempts) == 20


async def test_an_expired_message_is_not_dialled() -> None:
    """The attempt that never started is not counted."""
    delivering = Delivering(main := ScriptedProvider())
    late = message(now=delivering.clock.now() - 571)
    settlement = await delivering.settled(late)
    assert (settlement.state, settlement.attempts) == (State.EXPIRED, ())
    assert main.sent.empty()


async def test_a_mail_that_cannot_be_written_is_held_for_the_operator() -> None:
    """A template can be corrected; a bug in one counts the same."""
    for fault in (RenderingError("SignIn/html.jinja:3: no such filter"), ZeroDivisionError()):
        delivering = Delivering(main := ScriptedProvider())
        delivering.renderer.fault = fault
        settlement = await delivering.settled(message(now=delivering.clock.now()))
        assert (settlement.state, settlement.reason, settlement.attempts) == (State.HELD, HELD_RENDERING, ())
        assert main.sent.empty()


async def test_a_code_mail_without_its_code_fails() -> None:
    """It cannot be corrected: Logto did not send one."""
    delivering = Delivering(main := ScriptedProvider())
    delivering.renderer.fault = MissingVariable("the request has no code")
    settlement = await delivering.settled(message(now=delivering.clock.now()))
    assert (settlement.state, settlement.reason) == (State.FAILED, "the request has no code")
    assert main.sent.empty()


async def test_an_invitation_whose_link_cannot_be_shown_is_held() -> None:
    """The link is lost if it fails; the log names the reason."""
    delivering = Delivering(main := ScriptedProvider())
    delivering.renderer.fault = MissingVariable("the link is javascript:")
    invitation = message("OrganizationInvitation", Priority.INVITATION, now=delivering.clock.now(), lifetime=86400)
    with structlog.testing.capture_logs() as lines:
        settlement = await delivering.settled(invitation)
    assert (settlement.state, settlement.reason) == (State.HELD, HELD_LINK)
    assert [line["problem"] for line in lines] == ["the link is javascript:"]
    assert main.sent.empty()


async def test_a_provider_that_breaks_its_promise_is_uncertain() -> None:
    """Nobody knows how far the mail got."""

    def broken(_email: Email) -> Receipt:
        raise KeyError("id")

    delivering = Delivering(ScriptedProvider([broken]), ScriptedProvider())
    settlement = await delivering.settled(message(now=delivering.clock.now()))
    assert _outcomes(settlement) == [("main", Outcome.UNCERTAIN), ("backup", Outcome.ACCEPTED)]


async def test_a_lost_lease_dials_nobody_else() -> None:
    """Another process has taken over."""
    delivering = Delivering(ScriptedProvider([Unavailable("busy")]), backup := ScriptedProvider())
    delivering.still_ours = False
    settlement = await delivering.settled(message(now=delivering.clock.now()))
    assert (settlement.state, _outcomes(settlement)) == (State.QUEUED, [("main", Outcome.UNAVAILABLE)])
    assert backup.sent.empty()


async def test_what_cannot_be_recorded_is_not_dialled() -> None:
    """The message waits for its next round instead."""
    delivering = Delivering(ScriptedProvider([Unavailable("busy")]), backup := ScriptedProvider())
    delivering.disk_full = True
    settlement = await delivering.settled(message(now=delivering.clock.now()))
    assert settlement.state is State.QUEUED
    assert _outcomes(settlement) == [("main", Outcome.UNAVAILABLE)]
    assert backup.sent.empty()


def _open(delivering: Delivering, name: str) -> None:
    delivering.channels[name].record(Misconfigured("535 bad credentials"), "", delivering.clock.now())


async def test_a_provider_whose_breaker_is_open_is_skipped() -> None:
    """What was recorded with the message becomes an attempt of the provider that is asked."""
    delivering = Delivering(main := ScriptedProvider(), ScriptedProvider())
    _open(delivering, "main")
    settlement = await delivering.settled(message(now=delivering.clock.now()))
    assert _outcomes(settlement) == [("backup", Outcome.ACCEPTED)]
    assert [[attempt.provider for attempt in attempts] for attempts in delivering.recorded] == [["backup"]]
    assert main.sent.empty()


async def test_the_message_that_probes_goes_to_the_others_if_the_probe_fails() -> None:
    main = ScriptedProvider([Misconfigured("535 bad credentials")])
    delivering = Delivering(main, ScriptedProvider())
    _open(delivering, "main")
    await delivering.clock.advance(5)
    first, second = [await delivering.settled(message(now=delivering.clock.now())) for _ in range(2)]
    assert _outcomes(first) == [("main", Outcome.MISCONFIGURED), ("backup", Outcome.ACCEPTED)]
    assert _outcomes(second) == [("backup", Outcome.ACCEPTED)]


async def test_a_message_is_never_left_without_a_provider() -> None:
    """With all breakers open they are asked nevertheless, in order."""
    delivering = Delivering(ScriptedProvider(), ScriptedProvider())
    _open(delivering, "main")
    _open(delivering, "backup")
    settlement = await delivering.settled(message(now=delivering.clock.now()))
    assert _outcomes(settlement) == [("main", Outcome.ACCEPTED)]


async def test_without_a_provider_in_use_a_message_is_due_again_soon() -> None:
    """An operator has paused all of them; no attempt is recorded."""
    delivering = Delivering(ScriptedProvider(), ScriptedProvider())
    for channel in delivering.channels.values():
        channel.is_paused = True
    now = delivering.clock.now()
    settlement = await delivering.settled(message(now=now))
    assert (settlement.state, settlement.attempts, settlement.due_at) == (State.QUEUED, (), now + 5)


async def _occupied(delivering: Delivering, sent: Message) -> "asyncio.Task[Settlement]":
    """Return the delivery of a message that waits for a permit of `main`, all of which are in use."""
    main = delivering.channels["main"]
    for _ in range(10):
        await main.limiter.acquire(Priority.CODE)
        main.begin(sent.id, delivering.clock.now())
    task = asyncio.create_task(delivering.settled(sent))
    await settle()
    return task


async def test_a_message_that_waited_for_its_permit_asks_the_outbox_again() -> None:
    """Another process may have ended its lease meanwhile, or sent a newer code."""
    delivering = Delivering(main := ScriptedProvider())
    waiting = await _occupied(delivering, message(now=delivering.clock.now()))
    await delivering.clock.advance(2)
    delivering.still_ours = False
    delivering.channels["main"].limiter.release(Priority.CODE)
    settlement = await waiting
    assert (settlement.state, len(delivering.recorded)) == (State.QUEUED, 1)
    assert main.sent.empty()


async def test_a_code_waits_a_second_for_a_busy_provider() -> None:
    """Then it goes to the next one."""
    delivering = Delivering(ScriptedProvider(), ScriptedProvider())
    now = delivering.clock.now()
    waiting = await _occupied(delivering, message(now=now))
    main = delivering.channels["main"]
    main.check_progress(now + 0.9)
    await settle()
    assert not waiting.done()
    main.check_progress(now + 1)
    assert _outcomes(await waiting) == [("backup", Outcome.ACCEPTED)]


async def test_a_code_does_not_wait_for_a_provider_that_has_been_silent_for_a_second() -> None:
    """Those before it have waited for that second."""
    delivering = Delivering(ScriptedProvider(), ScriptedProvider())
    now = delivering.clock.now()
    first = await _occupied(delivering, message(now=now))
    await delivering.clock.advance(1)
    second = asyncio.create_task(delivering.settled(message(now=now + 1)))
    await settle()
    assert second.done()
    delivering.channels["main"].check_progress(now + 1)
    assert [_outcomes(await waiting) for waiting in (first, second)] == [[("backup", Outcome.ACCEPTED)]] * 2


async def test_other_mail_waits_for_a_busy_provider_until_its_breaker_opens() -> None:
    """The second provider is for failures, not for floods."""
    delivering = Delivering(ScriptedProvider(), ScriptedProvider())
    now = delivering.clock.now()
    waiting = await _occupied(delivering, message("Welcome", Priority.EVENT, now=now, lifetime=86400))
    main = delivering.channels["main"]
    main.check_progress(now + 5)
    await settle()
    assert not waiting.done()
    _open(delivering, "main")
    assert _outcomes(await waiting) == [("backup", Outcome.ACCEPTED)]


async def test_a_code_goes_to_whichever_busy_provider_is_free_first() -> None:
    """It waited for the first one without limit when the second one was busy, too."""
    delivering = Delivering(main := ScriptedProvider(), ScriptedProvider())
    channels = delivering.channels
    now = delivering.clock.now()
    channels["backup"].begin("another", now)
    for _ in range(10):
        await channels["backup"].limiter.acquire(Priority.CODE)
    waiting = await _occupied(delivering, message(now=now))
    for seconds in (1, 2):
        for channel in channels.values():
            channel.check_progress(now + seconds)
            await settle()
    channels["backup"].limiter.release(Priority.CODE)
    await settle()
    assert waiting.done()
    assert _outcomes(await waiting) == [("backup", Outcome.ACCEPTED)]
    assert main.sent.empty()
    for name, free in (("main", 0), ("backup", 1)):
        limiter = channels[name].limiter
        assert limiter.total - limiter._used == free, "no permit is lost"


async def test_a_code_that_waits_for_several_providers_takes_one_permit() -> None:
    """Both are granted in the same moment, or it is cancelled while it waits."""
    delivering = Delivering(ScriptedProvider(), ScriptedProvider())
    channels = delivering.channels
    for is_cancelled in (False, True):
        for _ in range(10):
            await channels["backup"].limiter.acquire(Priority.CODE)
        now = delivering.clock.now()
        waiting = await _occupied(delivering, message(now=now))
        channels["main"].check_progress(now + 1)
        await settle()
        for channel in channels.values():
            for _ in range(10):
                channel.limiter.release(Priority.CODE)
        if is_cancelled:
            waiting.cancel()
        await asyncio.wait([waiting])
        await settle()
        assert waiting.cancelled() is is_cancelled
        assert [channel.limiter._used for channel in channels.values()] == [0, 0]


async def test_a_code_that_no_other_provider_can_take_waits_on() -> None:
    delivering = Delivering(ScriptedProvider(), ScriptedProvider())
    _open(delivering, "backup")
    now = delivering.clock.now()
    waiting = await _occupied(delivering, message(now=now))
    main = delivering.channels["main"]
    main.check_progress(now + 5)
    main.limiter.release(Priority.CODE)
    assert _outcomes(await waiting) == [("main", Outcome.ACCEPTED)]


async def test_a_provider_that_may_have_sent_a_mail_gets_the_same_mail_again() -> None:
    """However the template was changed since: an idempotency key wants identical content."""
    delivering = Delivering(main := ScriptedProvider([Uncertain("silence")]))
    sent = message("Welcome", Priority.EVENT, now=delivering.clock.now(), lifetime=86400)
    settlement = await delivering.settled(sent)
    mail = main.sent.get_nowait()
    assert settlement.rendered == {"main": mail}
    delivering.renderer.fault = RenderingError("Welcome/html.jinja, line 3: broken")
    again = await delivering.delivery.deliver(Leased(sent, settlement.attempts, rendered=settlement.rendered))
    assert (again.state, main.sent.get_nowait()) == (State.SENT, mail)


async def test_after_three_uncertain_attempts_a_message_counts_as_sent() -> None:
    """Marked as such; a reader gets three mails at most."""
    delivering = Delivering(ScriptedProvider([Uncertain("silence")] * 9), ScriptedProvider([Uncertain("silence")] * 9))
    sent = message(now=delivering.clock.now())
    first = await delivering.settled(sent)
    assert (first.state, len(first.attempts)) == (State.QUEUED, 2)
    second = await delivering.delivery.deliver(Leased(sent, first.attempts, rendered=first.rendered))
    assert (second.state, second.reason, len(second.attempts)) == (State.SENT, SENT_UNCERTAIN, 3)


async def test_attempts_that_were_cut_off_may_have_been_sent() -> None:
    """Three processes ended while they sent it: nobody is asked any more."""
    delivering = Delivering(main := ScriptedProvider())
    now = delivering.clock.now()
    settlement = await delivering.settled(message(now=now), *[Attempt("main", now)] * 3)
    assert (settlement.state, settlement.reason, main.sent.empty()) == (State.SENT, SENT_UNCERTAIN, True)


async def test_a_message_that_waits_for_too_long_goes_back_to_the_outbox() -> None:
    """Before its lease ends, with its place among what waits, and without a try that counts."""
    delivering = Delivering(ScriptedProvider())
    now = delivering.clock.now()
    waiting = await _occupied(delivering, message("Welcome", Priority.EVENT, now=now, lifetime=86400))
    await delivering.clock.advance(150)
    delivering.channels["main"].check_progress(now + 150)
    async with asyncio.timeout(20):
        settlement = await waiting
    assert (settlement.state, settlement.attempts, settlement.due_at) == (State.QUEUED, (), now)


async def test_a_mail_that_may_have_been_sent_is_kept_when_its_message_waits_again() -> None:
    """The next try by the same provider is the same mail, whatever the templates say by then."""
    delivering = Delivering(main := ScriptedProvider([Uncertain("no reply")]), ScriptedProvider())
    delivering.delivery = replace(delivering.delivery, is_replaced=lambda _: not main.sent.empty())
    settlement = await delivering.settled(message(now=delivering.clock.now()))
    assert (settlement.state, _outcomes(settlement)) == (State.QUEUED, [("main", Outcome.UNCERTAIN)])
    assert list(settlement.rendered) == ["main"]


async def test_a_message_is_not_held_while_a_provider_that_pauses_was_not_asked() -> None:
    """Not every provider has refused it: the other one can be asked again soon."""
    delivering = Delivering(ScriptedProvider(), ScriptedProvider([Misconfigured("535 wrong password")]))
    delivering.channels["main"].rates.suspended_until = delivering.clock.now() + 15
    settlement = await delivering.settled(message(now=delivering.clock.now()))
    assert (settlement.state, settlement.due_at) == (State.QUEUED, delivering.clock.now() + 1)
