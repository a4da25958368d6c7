"""Model-based test of a message's life: whatever providers, users and operators do, the promises of the courier hold.

Each step is one of: a code is requested, perhaps by a user who clicked before; other mail comes; time passes; an
operator pauses or resumes a provider. Providers answer as drawn. In the end all work, and enough time passes.
"""

import asyncio
import tempfile
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from mailroom.courier import Channel, Courier, RatedLimiter, Rates, Routes
from mailroom.courier.supersede import supersede_key
from mailroom.errors import Declined, Misconfigured, Rejected, SendingError, Unavailable, Uncertain
from mailroom.message import Email, Message, Outcome, Priority, Receipt, State
from mailroom.metrics import Metrics
from mailroom.outbox.sqlite.engine import SqliteOutbox
from mailroom.providers import Rate
from tests.clock import FakeClock
from tests.courier.parts import SENDER, PlainRenderer, message

ANSWERS: Final[dict[str, SendingError | None]] = {
    "accepts": None,
    "busy": Unavailable("451 busy"),
    "busy still": Unavailable("450 busy"),
    "throttles": Unavailable("421 4.7.0 slow down", retry_after=5, is_throttled=True),
    "has too many connections": Unavailable("432 4.3.2", is_throttled=True, exceeds_concurrency=True),
    "silent": Uncertain("silence"),
    "refuses us": Misconfigured("535 bad credentials"),
    "declines": Declined("554 policy"),
    "rejects": Rejected("550 5.1.1 no such user"),
}
STEPS: Final = st.one_of(
    st.tuples(st.just("code"), st.sampled_from(["ada", "ada", "bob"])),
    st.tuples(st.just("welcome"), st.just("")),
    st.tuples(st.just("wait"), st.sampled_from(["0.3", "2", "20", "60"])),
    st.tuples(st.sampled_from(["pause", "resume"]), st.sampled_from(["main", "backup"])),
)
ENDED: Final = {State.SENT, State.FAILED, State.EXPIRED, State.SUPERSEDED}


class Drawn:
    """A provider that answers as drawn, then accepts; it notes when each attempt started."""

    def __init__(self, name: str, life: "Life", answers: list[str]) -> None:
        self.name, self.life, self.answers = name, life, answers

    async def send(self, email: Email) -> Receipt:
        """Take the mail, or not."""
        self.life.attempt(email.id, self.life.clock.now())
        await asyncio.sleep(0)
        answer = ANSWERS[self.answers.pop(0)] if self.answers else None
        if answer is not None:
            raise answer
        self.life.accepted[email.id] += 1
        return Receipt("yes")

    async def aclose(self) -> None:
        """Nothing is open."""


class Life:
    """An outbox, a courier and two providers, and what was promised of each message."""

    def __init__(self, outbox: SqliteOutbox, clock: FakeClock, answers: tuple[list[str], list[str]]) -> None:
        self.outbox, self.clock = outbox, clock
        self.messages: dict[str, Message] = {}
        self.accepted: Counter[str] = Counter()
        self.broken: list[str] = []
        """Promises that were broken when an attempt started; the courier would take an exception for a failure."""
        self.sent: list[str] = []
        """Ids in the order in which they were recorded as sent."""
        names = ("main", "backup")
        limits = (Rates(clock, rate=Rate(5, 1.0)), Rates(clock, quota=Rate(30, 60.0)))
        self.providers = [Drawn(name, self, given) for name, given in zip(names, answers, strict=True)]
        self.channels = {
            one.name: Channel(one, RatedLimiter(2, rates), SENDER)
            for one, rates in zip(self.providers, limits, strict=True)
        }
        settle = outbox.settle

        async def noted(settlement: Any) -> Any:
            result = await settle(settlement)
            if settlement.state is State.SENT and result.is_recorded:
                self.sent.append(settlement.id)
            return result

        outbox.settle = noted  # type: ignore[method-assign]  # to note what was recorded
        self.courier = Courier(
            outbox=outbox,
            renderer=PlainRenderer(),
            channels=self.channels,
            routes=Routes({"Welcome": ("backup", "main")}, names),
            reply_to=None,
            retention=timedelta(days=30),
            clock=clock,
            metrics=Metrics(),
            jitter=lambda: 0.0,
        )

    def attempt(self, id_: str, now: float) -> None:
        """Check what must be true when an attempt starts."""
        one = self.messages[id_]
        if now >= one.expires_at:
            self.broken.append("an attempt started after the lifetime")
        key = supersede_key(one)
        ids = list(self.messages)
        newer = [other for other in ids[ids.index(id_) + 1 :] if key and supersede_key(self.messages[other]) == key]
        if set(newer) & set(self.sent):
            self.broken.append("an attempt on an older code started after the newer one was recorded as sent")

    async def step(self, kind: str, value: str) -> None:
        """Do what was drawn."""
        if kind == "wait":
            for _ in range(10):
                await self.clock.advance(float(value) / 10)
                await self.quiet()
        elif kind in {"pause", "resume"}:
            self.channels[value].pause(is_paused=kind == "pause")
        else:
            now = self.clock.now()
            one = (
                replace(message(now=now, lifetime=120, recipient=f"{value}@example.com"), ip="203.0.113.9")
                if kind == "code"
                else message("Welcome", Priority.EVENT, now=now, lifetime=300)
            )
            self.messages[one.id] = one
            accepting = asyncio.create_task(self.courier.accept(one))
            slots = self.courier._admission.slots(one)
            while not accepting.done():
                await (self.clock.advance(0.05) if slots.limiter._waiting else asyncio.sleep(0))
            await accepting
        await self.quiet()

    async def quiet(self) -> None:
        """Return when no delivery goes on, but those that wait for the clock."""
        while self.courier._deliveries and not any(channel.limiter._waiting for channel in self.channels.values()):  # noqa: ASYNC110 - nothing sets an event
            await asyncio.sleep(0)

    async def check(self) -> None:
        """Compare what became of all messages with what was promised."""
        assert self.broken == []
        for id_, one in self.messages.items():
            record = await self.outbox.get(id_)
            assert record is not None
            assert record.state in ENDED or (record.state is State.HELD and not one.is_code), record
            uncertain = sum(attempt.outcome is Outcome.UNCERTAIN for attempt in record.attempts)
            assert self.accepted[id_] <= 1, "a mail whose acceptance was recorded was sent again"
            assert self.accepted[id_] + uncertain <= 3
            assert (record.state is State.SENT) == (self.accepted[id_] == 1 or record.reason == "uncertain"), record


async def _live(steps: list[tuple[str, str]], answers: tuple[list[str], list[str]]) -> None:
    clock = FakeClock()
    with tempfile.TemporaryDirectory() as folder:
        outbox = await SqliteOutbox.open(Path(folder) / "mailroom.db", secret_keys=["x" * 40], clock=clock)
        life = Life(outbox, clock, answers)
        await life.courier.start()
        try:
            async with asyncio.timeout(60):
                for kind, value in steps:
                    await life.step(kind, value)
                for provider in life.providers:
                    provider.answers.clear()
                    await life.step("resume", provider.name)
                for _ in range(16):  # longer than any message lives
                    await life.step("wait", "20")
                await life.check()
        finally:
            await life.courier.drain(20)
            await outbox.close()


@given(
    steps=st.lists(STEPS, min_size=1, max_size=25),
    main=st.lists(st.sampled_from(sorted(ANSWERS)), max_size=8),
    backup=st.lists(st.sampled_from(sorted(ANSWERS)), max_size=8),
)
@example(steps=[("code", "ada"), ("code", "ada"), ("wait", "2")], main=["busy"], backup=["busy"])
@example(steps=[("code", "ada"), ("wait", "60")], main=["silent"] * 3, backup=["silent"] * 3)
@settings(max_examples=25, deadline=None, derandomize=True)
def test_every_message_ends_as_promised(steps: list[tuple[str, str]], main: list[str], backup: list[str]) -> None:
    """None is lost, sent after its lifetime, sent again after a recorded acceptance, or sent after its successor."""
    asyncio.run(_live(steps, (main, backup)))
