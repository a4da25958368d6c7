"""What a failover costs, on a clock that stands still unless a test moves it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from mailroom.courier import Channel, Courier, RatedLimiter, Routes
from mailroom.courier.channels.rates import Rates
from mailroom.errors import Declined, Misconfigured, SendingError, Unavailable, Uncertain
from mailroom.message import Email, Receipt
from mailroom.metrics import Metrics
from mailroom.outbox.sqlite.engine import SqliteOutbox
from tests.clock import FakeClock
from tests.courier.parts import SENDER, PlainRenderer, ScriptedProvider, message

MOST_SECONDS = 0.05
"""What a failover may add to the time until a code is handed over."""


class SlowProvider(ScriptedProvider):
    """Takes its time for each mail, and for `verify`."""

    def __init__(self, clock: FakeClock, seconds: float, failure: SendingError) -> None:
        super().__init__()
        self.clock = clock
        self.seconds = seconds
        self.failure: SendingError | None = failure
        self.asked = asyncio.Event()
        """Set when it has something to do."""

    async def send(self, email: Email) -> Receipt:
        """Take the mail, or say after so many seconds that it cannot be taken."""
        self.asked.set()
        if self.failure:
            await self.clock.sleep(self.seconds)
            raise self.failure
        return await super().send(email)

    async def verify(self) -> str:
        """Say whether it works, after as many seconds."""
        self.asked.set()
        if self.failure:
            await self.clock.sleep(self.seconds)
            raise self.failure
        return "it works"


class Sending:
    """A courier whose providers are asked in this order."""

    def __init__(self, outbox: SqliteOutbox, clock: FakeClock, providers: list[ScriptedProvider]) -> None:
        self.clock = clock
        channels = {f"p{n}": Channel(one, RatedLimiter(10, Rates(clock)), SENDER) for n, one in enumerate(providers)}
        self.courier = Courier(
            outbox=outbox,
            renderer=PlainRenderer(),
            channels=channels,
            routes=Routes({}, tuple(channels)),
            reply_to=None,
            retention=timedelta(days=30),
            clock=clock,
            metrics=Metrics(),
            jitter=lambda: 0.0,
        )

    async def accept(self) -> None:
        """Accept a code."""
        await self.courier.accept(message(now=self.clock.now()))

    async def seconds_until_sent(self, by: ScriptedProvider) -> float:
        """Accept a code; return how much time passes on the clock until this provider has it."""
        accepted = self.clock.now()
        await self.accept()
        async with asyncio.timeout(20):
            await by.sent.get()
        return self.clock.now() - accepted


@asynccontextmanager
async def sending(path: Path, *providers: ScriptedProvider, clock: FakeClock | None = None) -> AsyncIterator[Sending]:
    """Run the courier on a real outbox."""
    clock = clock or FakeClock()
    outbox = await SqliteOutbox.open(path / "mailroom.db", secret_keys=["s" * 32], clock=clock)
    opened = Sending(outbox, clock, list(providers))
    await opened.courier.start()
    try:
        yield opened
    finally:
        await opened.courier.drain(20)
        await outbox.close()


@pytest.mark.parametrize(
    ("failure", "count"),
    [(Unavailable("451"), 5), (Misconfigured("535"), 5), (Declined("554"), 5), (Uncertain("?"), 2)],
)
async def test_the_next_provider_is_asked_at_once(tmp_path: Path, failure: SendingError, count: int) -> None:
    """Also when several fail before it, and when their breakers have opened."""
    failing = [ScriptedProvider([failure] * 8) for _ in range(count)]
    async with sending(tmp_path, *failing, works := ScriptedProvider()) as it:
        for _ in range(8):
            assert await it.seconds_until_sent(works) <= MOST_SECONDS


async def test_a_failover_from_a_silent_provider_adds_nothing_to_its_silence(tmp_path: Path) -> None:
    """The provider says after five seconds that it got no answer."""
    clock = FakeClock()
    silent = SlowProvider(clock, 5, Unavailable("no greeting within 5 s"))
    async with sending(tmp_path, silent, works := ScriptedProvider(), clock=clock) as it:
        await it.accept()
        await silent.asked.wait()
        await clock.advance(5 + MOST_SECONDS)
        async with asyncio.timeout(20):
            await works.sent.get()


async def test_no_code_waits_while_a_silent_provider_is_asked_whether_it_answers(tmp_path: Path) -> None:
    """Once it does, a code probes it."""
    clock = FakeClock()
    silent = SlowProvider(clock, 5, Unavailable("no greeting within 5 s"))
    async with sending(tmp_path, silent, works := ScriptedProvider(), clock=clock) as it:
        it.courier._channels["p0"].record(Misconfigured("535"), "535", clock.now())
        await clock.until_asleep(7)
        await clock.advance(6)
        assert silent.asked.is_set()
        assert await it.seconds_until_sent(works) <= MOST_SECONDS
        silent.failure = None
        await clock.advance(16)  # the first check fails after 5 s; 10 s later comes the next
        assert await it.seconds_until_sent(silent) <= MOST_SECONDS
