"""What an outcome says of a provider, and when a provider hangs."""

import asyncio
from math import inf

import pytest

from mailroom.courier.channels.breaker import FAILURES_IN_A_ROW, Change
from mailroom.courier.channels.channel import Channel
from mailroom.courier.channels.rated_limiter import RatedLimiter
from mailroom.courier.channels.rates import LimitChange, Rates
from mailroom.errors import Declined, Misconfigured, Rejected, SendingError, Unavailable, Uncertain
from mailroom.message import Priority, Receipt
from mailroom.outbox.shared import OpenBreaker
from mailroom.providers import Rate
from tests.clock import FakeClock, settle
from tests.courier.parts import SENDER, ScriptedProvider


def channel(concurrency: int = 1) -> Channel:
    """Return a channel of a provider that nobody asks."""
    return Channel(ScriptedProvider(), RatedLimiter(concurrency, Rates(FakeClock())), SENDER)


@pytest.mark.parametrize("failure", [Unavailable("451 busy"), Uncertain("silence")])
def test_a_provider_that_does_not_work_is_skipped_after_some_failures(failure: SendingError) -> None:
    one = channel()
    changes = [one.record(failure, "", 0) for _ in range(FAILURES_IN_A_ROW)]
    assert changes[-1] is Change.OPENED
    assert not one.is_available(0)
    assert one.is_usable


@pytest.mark.parametrize("result", [Receipt(), Rejected("550 no such user"), Declined("554 5.7.1 we do not like it")])
def test_a_refusal_of_one_mail_shows_that_the_provider_works(result: Receipt | SendingError) -> None:
    one = channel()
    one.record(Misconfigured("bad credentials", code="535"), "535 bad credentials", 0)
    assert one.breaker.reason == "535 bad credentials"
    assert one.record(result, "", 1) is Change.RECOVERED


def test_a_paused_provider_is_not_asked() -> None:
    one = channel()
    one.is_paused = True
    assert (one.is_usable, one.is_available(0)) == (False, False)


async def test_a_provider_without_an_outcome_for_ten_seconds_hangs() -> None:
    """All its permits are in use and a message waits, which is free to ask another provider then."""
    one = channel()
    assert await one.limiter.acquire(Priority.CODE)
    one.begin("a", 100)
    assert one.check_progress(200) is None, "nothing waits for it"
    waiting = asyncio.create_task(one.limiter.acquire(Priority.EVENT, has_alternative=True))
    await settle()
    assert one.check_progress(109) is None
    assert one.check_progress(110) is Change.OPENED
    assert not await waiting
    assert one.check_progress(111) is None, "reported once"


async def test_an_outcome_is_progress() -> None:
    """A slow provider is not a dead one."""
    one = channel()
    await one.limiter.acquire(Priority.CODE)
    one.begin("a", 100)
    waiting = asyncio.create_task(one.limiter.acquire(Priority.EVENT, has_alternative=True))
    await settle()
    one.record(Receipt(), "", 109)
    assert one.check_progress(118) is None
    waiting.cancel()


async def test_a_provider_that_throttles_is_no_failing_one() -> None:
    """It has accepted a mail just now; its rate is lowered."""
    one = channel()
    one.record(Receipt(), "", 100)
    for seconds in range(10):
        assert one.record(Unavailable("454 Throttling failure", is_throttled=True), "", 100 + seconds) is None
    assert one.is_available(110)
    assert one.rates.per_second < 1


async def test_too_many_connections_lower_the_concurrency_and_then_the_rate() -> None:
    """With one connection left, somebody else uses the others."""
    one = channel(concurrency=2)
    one.record(Receipt(), "", 100)
    busy = Unavailable("432 4.3.2", is_throttled=True, exceeds_concurrency=True)
    assert one.record(busy, "", 101) is None
    assert (one.limiter.total, one.rates.per_second) == (1, inf)
    assert one.record(busy, "", 102) is None
    assert one.rates.per_second < inf
    one.check_progress(one.limiter.clock.now() + 60)
    assert one.limiter.total == 2


async def test_a_provider_that_throttles_everything_fails() -> None:
    """Nothing has got through for half a minute."""
    one = channel()
    one.record(Receipt(), "", 100)
    changes = [one.record(Unavailable("421 busy", is_throttled=True), "", 130) for _ in range(FAILURES_IN_A_ROW)]
    assert changes[-1] is Change.OPENED


async def test_a_provider_that_asks_for_a_pause_comes_after_the_others() -> None:
    one = channel()
    one.record(Receipt(), "", 100)
    one.record(Unavailable("429", retry_after=7, is_throttled=True), "", 100)
    assert (one.is_usable, one.is_available(100)) == (True, False)


async def test_a_channel_without_quota_left_is_not_usable() -> None:
    """Whoever waits for a permit is sent away."""
    one = Channel(ScriptedProvider(), RatedLimiter(1, Rates(FakeClock(), quota=Rate(1, 60.0))), SENDER)
    await one.limiter.acquire(Priority.CODE)
    waiting = asyncio.create_task(one.limiter.acquire(Priority.CODE))
    await settle()
    one.record(Receipt(), "", 100)
    assert one.check_limits() is LimitChange.SUSPENDED
    assert not await waiting
    assert not one.is_usable


class Login(ScriptedProvider):
    """A provider that can be asked without a message; it takes `seconds`, then raises `failure`."""

    def __init__(self, seconds: float = 0.0, failure: SendingError | None = None) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.seconds = seconds
        self.failure = failure

    async def verify(self) -> str:
        """Answer, or not."""
        await self.clock.sleep(self.seconds)
        if self.failure:
            raise self.failure
        return "it works"

    async def checked(self) -> Channel:
        """Return its channel after a failure and a check when the probe is due."""
        one = Channel(self, RatedLimiter(1, Rates(FakeClock())), SENDER)
        one.record(Misconfigured("535 bad credentials"), "", self.clock.now())
        await self.clock.advance(5)
        assert not one.is_available(self.clock.now())
        assert not one.begin("a", self.clock.now())
        check = asyncio.create_task(one.check(self.clock))
        await self.clock.advance(self.seconds)
        await check
        return one


@pytest.mark.parametrize("provider", [Login(), Login(9), Login(2, Unavailable("refused"))])
async def test_a_message_probes_a_provider_that_answers(provider: Login) -> None:
    """A refusal is an answer; so is a slow success."""
    one = await provider.checked()
    now = provider.clock.now()
    assert one.is_available(now)
    assert one.begin("a", now)
    one.record(Unavailable("refused"), "", now, attempt="a")
    assert not one.is_available(now + 60), "it is checked anew"


async def test_no_message_probes_a_provider_that_stays_silent() -> None:
    """It would wait for 5 s; the next check is 10 s later."""
    one = await (provider := Login(5, Unavailable("no greeting within 5 s"))).checked()
    opened_at = provider.clock.now()
    assert one.breaker.reason == "no greeting within 5 s"
    provider.failure = None
    provider.seconds = 0
    await provider.clock.advance(9)
    await one.check(provider.clock)
    assert not one.is_available(opened_at + 9)
    await provider.clock.advance(1)
    await one.check(provider.clock)
    assert one.is_available(opened_at + 10)


async def test_a_provider_that_works_is_not_checked() -> None:
    one = Channel(Login(1, Unavailable("refused")), RatedLimiter(1, Rates(FakeClock())), SENDER)
    await one.check(FakeClock())
    assert one.begin("a", 0)


async def test_what_began_before_the_breaker_opened_disturbs_no_probe() -> None:
    """It ends without an outcome, or fails late, while a message probes."""
    one = channel(concurrency=2)
    one.begin("early", 0)
    one.record(Misconfigured("535 bad credentials"), "535", 0)
    assert one.begin("probe", 5)
    assert one.record(Unavailable("451 late"), "451", 5, attempt="early") is None
    one.end("early", Priority.CODE)
    assert not one.begin("second", 5)
    assert one.record(Unavailable("451 busy"), "451", 5, attempt="probe") is Change.PROBE_FAILED
    assert one.begin("second", 15)


async def test_a_late_failure_leaves_the_answer_to_a_check() -> None:
    """A message probes the provider that answered the check, although an earlier attempt fails meanwhile."""
    provider = Login()
    one = await provider.checked()
    assert one.record(Unavailable("451 late"), "451", provider.clock.now(), attempt="early") is None
    assert one.begin("probe", provider.clock.now())


async def test_a_check_ends_no_probe_but_its_own() -> None:
    """The provider took a mail and failed again while the check waited for an answer."""
    provider = Login(9, Unavailable("no greeting"))
    one = Channel(provider, RatedLimiter(1, Rates(FakeClock())), SENDER)
    one.record(Misconfigured("535"), "535", provider.clock.now())
    await provider.clock.advance(5)
    check = asyncio.create_task(one.check(provider.clock))
    await settle()
    one.record(Receipt(), "", provider.clock.now())
    one.record(Misconfigured("535"), "535", provider.clock.now())
    await provider.clock.advance(9)
    assert await check is None
    assert (one.breaker.reason, one.breaker.open_seconds) == ("535", 5)
    assert not one.is_available(provider.clock.now()), "it is checked anew"


async def test_a_provider_that_another_process_may_probe_is_checked_anew_before_this_one_does() -> None:
    """Its answer is old then."""
    provider = Login()
    one = await provider.checked()
    now = provider.clock.now()
    one.follow(OpenBreaker("421 busy", now, 5, probe_until=now + 8))
    assert one.is_available(now)
    one.follow(OpenBreaker("421 busy", now, 5, probe_until=None))
    one.follow(OpenBreaker("421 busy", now, 5, probe_until=now + 8))
    assert not one.is_available(now)
    await one.check(provider.clock)
    assert one.is_available(now)


async def test_who_waits_for_a_provider_that_another_process_skips_asks_the_next_one() -> None:
    one = channel()
    await one.limiter.acquire(Priority.CODE)
    waiting = asyncio.create_task(one.limiter.acquire(Priority.CODE, has_alternative=True))
    await settle()
    assert one.follow(OpenBreaker("421 busy", 0, 5, None)) is Change.OPENED
    assert not await waiting
    assert one.follow(None) is Change.RECOVERED
