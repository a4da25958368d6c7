"""Two processes send from one database: what one of them finds out about a provider, the other one knows."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
import structlog

from mailroom.courier import Channel, Courier, RatedLimiter, Rates, Routes
from mailroom.courier.channels.sharing import BreakerSharing
from mailroom.errors import Misconfigured, SendingError, Unavailable
from mailroom.message import Email, Receipt
from mailroom.metrics import Metrics
from mailroom.outbox.shared import Observation, OpenBreaker, SharedBreakers
from mailroom.providers import Rate
from tests.clock import FakeClock, settle
from tests.courier.parts import SENDER, PlainRenderer, ScriptedProvider, message
from tests.outbox.postgres.conftest import Open
from tests.postgres_server import PostgresServer

REFUSED = Misconfigured("535 5.7.8 bad credentials", code="535")


class Switched(ScriptedProvider):
    """A provider that fails as long as it has a failure."""

    failure: SendingError | None = None

    async def send(self, email: Email) -> Receipt:
        """Take the mail, or not."""
        receipt = await super().send(email)
        if self.failure:
            raise self.failure
        return receipt


class Watched:
    """The shared breakers, and how often they were exchanged."""

    def __init__(self, breakers: SharedBreakers) -> None:
        self._breakers = breakers
        self.begun = self.ended = 0

    async def exchange(self, *observed: Any, **more: Any) -> Mapping[str, OpenBreaker]:
        """Exchange."""
        self.begun += 1
        try:
            return await self._breakers.exchange(*observed, **more)
        finally:
            self.ended += 1


class Process:
    """A courier with two providers, on an outbox of its own; the first one may have a rate and a quota."""

    def __init__(self, outbox: Any, clock: FakeClock, main: Switched, **limits: Rate) -> None:
        self.clock, self.outbox = clock, outbox
        self.exchanges = Watched(outbox.shared.breakers)
        outbox.shared = SimpleNamespace(breakers=self.exchanges, counts=outbox.shared.counts)
        self.main, self.backup = main, ScriptedProvider()
        providers = {"main": self.main, "backup": self.backup}
        rates = {"main": Rates(clock, **limits), "backup": Rates(clock)}
        self.channels = {name: Channel(one, RatedLimiter(10, rates[name]), SENDER) for name, one in providers.items()}
        self.courier = Courier(
            outbox=outbox,
            renderer=PlainRenderer(),
            channels=self.channels,
            routes=Routes({}, tuple(providers)),
            reply_to=None,
            retention=timedelta(days=30),
            clock=clock,
            metrics=Metrics(),
            jitter=lambda: 0.0,
        )

    @property
    def breaker(self) -> tuple[str, float]:
        """The reason for which `main` is skipped, and how long until it is probed."""
        breaker = self.channels["main"].breaker
        return breaker.reason, breaker.open_seconds

    async def send(self) -> None:
        """Accept a code."""
        await self.courier.accept(message(now=self.clock.now()))

    async def sent_by_backup(self) -> None:
        """Accept a code; return once `backup` has it."""
        await self.send()
        async with asyncio.timeout(20):
            await self.backup.sent.get()


async def until(holds: Callable[[], bool]) -> None:
    """Return once something is true that PostgreSQL's answers bring about."""
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110 - there is nobody who could set an event
            await asyncio.sleep(0.005)


async def pass_time(clock: FakeClock, processes: list[Process], seconds: int) -> None:
    """Let time pass; each second every process exchanges, and prolongs its leases."""
    for _ in range(seconds):
        await exchanged(processes)
        before = [one.exchanges.begun for one in processes]
        await clock.advance(1)
        for one in processes:
            await one.outbox._leases.beat()
        await until(lambda: all(one.exchanges.begun > n for one, n in zip(processes, before, strict=True)))  # noqa: B023 - called here
        await exchanged(processes)


async def exchanged(processes: list[Process]) -> None:
    """Return once every process knows what the last exchange has told it, and waits for the next one."""

    def rest() -> bool:
        return all(one.exchanges.begun == one.exchanges.ended > 0 for one in processes)

    await settle()
    await until(rest)
    await settle()
    while not rest():  # a breaker that has just changed is told at once
        await until(rest)
        await settle()


@pytest.fixture
async def start(open_outbox: Open, clock: FakeClock) -> AsyncIterator[Callable[..., Awaitable[Process]]]:
    """Start a process; ended after the test."""
    async with AsyncExitStack() as stack:

        async def started(main: Switched | None = None, **limits: Rate) -> Process:
            process = Process(await open_outbox(), clock, main or Switched(), **limits)
            await process.courier.start()
            stack.push_async_callback(process.courier.drain, 1)
            return process

        yield started


Start = Callable[..., Awaitable[Process]]


async def test_a_provider_that_fails_in_one_process_is_skipped_by_the_others(start: Start, clock: FakeClock) -> None:
    """Within one exchange, and at once by one that starts later; each logs it once, with the reason."""
    one, other = await start(Switched([REFUSED])), await start()
    with structlog.testing.capture_logs() as lines:
        await one.sent_by_backup()
        await until(lambda: bool(one.breaker[0]))
        await exchanged([one, other])
        await pass_time(clock, [one, other], 1)
        assert {one.breaker, other.breaker} == {(REFUSED.diagnostic, 5)}
        await other.sent_by_backup()
        assert other.main.sent.empty()
        later = await start()
        await exchanged([later])
        await later.sent_by_backup()
    opened = [line for line in lines if line["event"] == "provider.opened"]
    assert [line["reason"] for line in opened] == [REFUSED.diagnostic] * 3


async def test_one_message_of_all_processes_probes_and_its_success_reaches_all(start: Start, clock: FakeClock) -> None:
    processes = [await start(Switched([REFUSED])), await start(), await start()]
    for one in processes:
        one.main.answering.clear()
    processes[0].main.answering.set()
    await processes[0].sent_by_backup()
    processes[0].main.answering.clear()
    await pass_time(clock, processes, 7)
    for _ in range(3):
        for one in processes:
            await one.send()
    await until(lambda: sum(one.backup.sent.qsize() for one in processes) == 8)
    [prober] = [one for one in processes if one.main.on_the_wire]
    assert prober.main.on_the_wire == 1
    await pass_time(clock, processes, 12)  # it lasts longer than the right of a process without a probe
    for one in processes:
        await one.send()
    await until(lambda: sum(one.backup.sent.qsize() for one in processes) == 11)
    for one in processes:
        one.main.answering.set()
    await until(lambda: prober.breaker[0] == "")
    await pass_time(clock, processes, 1)
    assert [one.breaker for one in processes] == [("", 5)] * 3
    for one in processes:
        await one.send()
    await until(lambda: all(one.main.sent.qsize() for one in processes))


async def test_a_failed_probe_doubles_the_time_for_all(start: Start, clock: FakeClock) -> None:
    one, other = await start(Switched([REFUSED])), await start()
    for process in (one, other):
        process.main.failure = Unavailable("421 still busy")
    await one.sent_by_backup()
    await pass_time(clock, [one, other], 6)
    for process in (one, other):
        await process.sent_by_backup()
    await until(lambda: 10 in {one.breaker[1], other.breaker[1]})
    await pass_time(clock, [one, other], 1)
    assert {one.breaker, other.breaker} == {("421 still busy", 10)}
    asked = one.main.sent.qsize() + other.main.sent.qsize()
    await pass_time(clock, [one, other], 8)
    for process in (one, other):
        await process.sent_by_backup()
    assert one.main.sent.qsize() + other.main.sent.qsize() == asked == 2


async def test_each_process_goes_on_alone_while_the_others_cannot_be_asked(
    start: Start, clock: FakeClock, postgres: PostgresServer
) -> None:
    """It probes by itself, and tells what it has found out when it can."""
    one, other = await start(Switched([REFUSED])), await start()
    await one.sent_by_backup()
    await pass_time(clock, [one, other], 2)
    postgres.psql("ALTER TABLE mailroom.breakers RENAME TO away")
    await pass_time(clock, [one, other], 1)
    assert [process.breaker[0] for process in (one, other)] == [REFUSED.diagnostic] * 2
    await clock.advance(5)
    await other.send()
    await until(lambda: not other.main.sent.empty() and not other.breaker[0])
    assert one.breaker[0] == REFUSED.diagnostic
    postgres.psql("ALTER TABLE mailroom.away RENAME TO breakers")
    await pass_time(clock, [one, other], 2)
    assert [process.breaker[0] for process in (one, other)] == ["", ""]


async def test_a_message_is_never_left_without_a_provider(start: Start, clock: FakeClock) -> None:
    """With all breakers open the first provider is asked, and its success is everybody's."""
    one, other = await start(Switched([REFUSED])), await start()
    one.backup.script = [REFUSED]
    await one.sent_by_backup()
    await pass_time(clock, [one, other], 2)
    assert all(channel.breaker.is_open for channel in other.channels.values())
    await other.send()
    await until(lambda: not other.main.sent.empty() and not other.breaker[0])
    await pass_time(clock, [other, one], 1)
    assert one.breaker == ("", 5)


class Slow:
    """An exchange that is under way until it is let go."""

    def __init__(self) -> None:
        self.observed: list[dict[str, Observation]] = []
        self.go = asyncio.Event()

    async def exchange(self, observed: Any, *, providers: Any, probing: Any) -> dict[str, OpenBreaker]:
        """Return that nothing is open."""
        self.observed.append(dict(observed))
        await self.go.wait()
        return {}


async def test_what_changes_during_an_exchange_is_told_by_the_next_one(clock: FakeClock) -> None:
    """The answer is older."""
    channel = Channel(ScriptedProvider(), RatedLimiter(1, Rates(clock)), SENDER)
    reported: list[Any] = []
    sharing = BreakerSharing({"main": channel}, slow := Slow(), clock, report=lambda *change: reported.append(change))
    exchanging = asyncio.create_task(sharing.exchange())
    await settle()
    channel.record(REFUSED, "535", clock.now())
    sharing.observe("main")
    slow.go.set()
    await exchanging
    assert (channel.breaker.reason, reported) == ("535", [])
    async with asyncio.timeout(20):
        await sharing.exchange_next()  # at once
    assert channel.breaker.reason == ""
    assert slow.observed == [{}, {"main": Observation(clock.now(), "535", 5)}]
    waiting = asyncio.create_task(sharing.exchange_next())
    await clock.advance(0.9)
    assert len(slow.observed) == 2
    await clock.advance(0.1)
    await waiting
    assert slow.observed[2:] == [{}], "told once; the next exchange a second later"
