"""Rates, quotas and throttling vendors, on a real outbox: mails arrive slowly or another way, and none fails."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import inf
from pathlib import Path
from typing import Any

import pytest
import structlog.testing
from msgspec.structs import replace

from mailroom.clock import Instant
from mailroom.courier import Channel, Courier, RatedLimiter, Rates, Routes
from mailroom.errors import OutboxError, Unavailable
from mailroom.message import Email, Message, Priority, Receipt, State
from mailroom.metrics import Metrics
from mailroom.outbox import Record
from mailroom.outbox.sqlite.engine import SqliteOutbox
from mailroom.providers import Rate
from tests.clock import START, FakeClock
from tests.courier.parts import SENDER, PlainRenderer, message

SECRET = "a secret key of at least thirty-two characters"
DAY = 86400.0


@dataclass
class Vendor:
    """Accepts so many mails a second, and throttles all others."""

    clock: FakeClock
    per_second: float = inf
    retry_after: float | None = None
    accepted: list[tuple[Instant, Email]] = field(default_factory=list)
    throttled: int = 0
    _recent: deque[Instant] = field(default_factory=deque)

    async def send(self, email: Email) -> Receipt:
        """Take the mail, or not."""
        now = self.clock.now()
        while self._recent and self._recent[0] <= now - 1:
            self._recent.popleft()
        if len(self._recent) >= self.per_second:
            self.throttled += 1
            raise Unavailable("454 Throttling failure", retry_after=self.retry_after, is_throttled=True)
        self._recent.append(now)
        self.accepted.append((now, email))
        return Receipt("yes")

    async def aclose(self) -> None:
        """Nothing is open."""


@dataclass
class Sending:
    """An outbox, a courier and its providers."""

    outbox: SqliteOutbox
    clock: FakeClock
    courier: Courier
    metrics: Metrics
    ids: list[str] = field(default_factory=list)

    async def accept(
        self, template: str = "SignIn", priority: Priority = Priority.CODE, ip: str | None = None, **facts: Any
    ) -> Message:
        """Accept a new message; a code by default. The clock goes on while it waits for a slot."""
        new = replace(message(template, priority, now=self.clock.now(), **facts), ip=ip)
        accepting = asyncio.create_task(self.courier.accept(new))
        slots = self.courier._admission.slots(new)
        while not accepting.done():
            await (self.clock.advance(0.25) if slots.limiter._waiting else asyncio.sleep(0))
        await accepting
        self.ids.append(new.id)
        return new

    async def records(self) -> list[Record]:
        """Return the records of all messages that were accepted here."""
        found = [await self.outbox.get(id_) for id_ in self.ids]
        return [record for record in found if record]

    async def advance(self, seconds: float, step: float = 0.25) -> None:
        """Let time pass; after each step what was written by then is durable."""
        for _ in range(round(seconds / step)):
            await self.clock.advance(step)
            await self.written()

    async def written(self) -> None:
        """Return when deliveries have gone as far as they can without the clock.

        A slot that is free is used at once, so a step may have two claims, attempts and outcomes, one after the other.
        """
        for _ in range(12):
            await self.outbox.happened(b"")
            await self.outbox.index(limit=1)

    def gauge(self, name: str, provider: str = "main") -> float | None:
        """Return what /metrics says of a provider."""
        return self.metrics.registry.get_sample_value(f"mailroom_provider_{name}", {"provider": provider})


@asynccontextmanager
async def sending(
    path: Path, clock: FakeClock, vendors: Mapping[str, tuple[Vendor, Rates]], concurrency: int = 10
) -> AsyncIterator[Sending]:
    """Open an outbox and start a courier; the providers are asked in their order."""
    outbox = await SqliteOutbox.open(path / "mailroom.db", secret_keys=[SECRET], clock=clock)
    metrics = Metrics()
    courier = Courier(
        outbox=outbox,
        renderer=PlainRenderer(),
        channels={
            name: Channel(vendor, RatedLimiter(concurrency, rates), SENDER) for name, (vendor, rates) in vendors.items()
        },
        routes=Routes({}, tuple(vendors)),
        reply_to=None,
        retention=timedelta(days=30),
        clock=clock,
        metrics=metrics,
        jitter=lambda: 0.0,
    )
    await courier.start()
    one = Sending(outbox, clock, courier, metrics)
    await one.written()
    try:
        yield one
    finally:
        await courier.drain(0)
        await outbox.close()


async def test_mails_to_a_vendor_that_throttles_arrive_slowly_and_none_fails(tmp_path: Path) -> None:
    """Without a rate in the settings. All codes get through, most at the first try."""
    clock = FakeClock()
    vendor = Vendor(clock, per_second=5)
    with structlog.testing.capture_logs() as lines:
        async with sending(tmp_path, clock, {"main": (vendor, Rates(clock))}) as it:
            for _ in range(100):
                await it.accept()
            await it.advance(0.25)
            assert (it.gauge("rate_per_second") or inf) < 10
            await it.advance(90)
            assert {record.state for record in await it.records()} == {State.SENT}
            assert len({email.id for _, email in vendor.accepted}) == len(vendor.accepted) == 100
            assert vendor.throttled < 60
            await it.advance(300, step=5)
            assert it.gauge("rate_per_second") == inf
    events = [line["event"] for line in lines]
    assert "provider.opened" not in events
    assert events.count("provider.slowed") == events.count("provider.at_full_rate") >= 1


async def test_a_pause_that_the_vendor_asks_for_is_kept(tmp_path: Path) -> None:
    """By all mails, not only by the one that was refused."""
    clock = FakeClock()
    vendor = Vendor(clock, per_second=0, retry_after=20)
    async with sending(tmp_path, clock, {"main": (vendor, Rates(clock))}) as it:
        await it.accept()
        await it.written()
        assert vendor.throttled == 1
        vendor.per_second = inf
        for _ in range(5):
            await it.accept()
        await it.advance(19)
        assert (vendor.throttled, vendor.accepted) == (1, [])
        await it.advance(15)
        assert {record.state for record in await it.records()} == {State.SENT}


async def test_the_rate_of_the_settings_is_kept(tmp_path: Path) -> None:
    """The vendor, which allows no more, has nothing to throttle."""
    clock = FakeClock()
    vendor = Vendor(clock, per_second=14)
    async with sending(tmp_path, clock, {"main": (vendor, Rates(clock, rate=Rate(14, 1.0)))}, concurrency=20) as it:
        for _ in range(100):
            await it.accept()
        await it.advance(9)
        assert {record.state for record in await it.records()} == {State.SENT}
        assert vendor.throttled == 0
        assert it.gauge("rate_per_second") == 14


async def test_a_code_that_the_rate_keeps_waiting_goes_to_the_next_provider(tmp_path: Path) -> None:
    """After a second; other mail waits."""
    clock = FakeClock()
    main, backup = Vendor(clock), Vendor(clock)
    vendors = {"main": (main, Rates(clock, rate=Rate(1, 60.0))), "backup": (backup, Rates(clock))}
    async with sending(tmp_path, clock, vendors) as it:
        await it.accept()
        await it.written()
        code = await it.accept()
        welcome = await it.accept("Welcome", Priority.EVENT, lifetime=DAY)
        await it.advance(0.75)
        assert (len(main.accepted), backup.accepted) == (1, [])
        await it.advance(0.5)
        assert [email.id for _, email in backup.accepted] == [code.id]
        await it.advance(61)
        assert [email.id for _, email in main.accepted[1:]] == [welcome.id]


async def test_mail_that_waits_for_minutes_outlasts_its_lease(tmp_path: Path) -> None:
    """In memory and in the outbox; each is sent once, at its first try, as fast as the rate allows."""
    clock = FakeClock()
    vendor = Vendor(clock)
    vendors = {"main": (vendor, Rates(clock, rate=Rate(1, 60.0)))}
    async with sending(tmp_path, clock, vendors, concurrency=1) as it:
        for _ in range(20):
            await it.accept("Welcome", Priority.EVENT, lifetime=DAY)
            await it.advance(0.25)
        await it.advance(1220, step=2)
        assert sorted(email.id for _, email in vendor.accepted) == it.ids
        records = await it.records()
        assert {(record.state, len(record.attempts)) for record in records} == {(State.SENT, 1)}


async def test_a_used_up_quota_moves_on_to_the_next_provider_and_back(tmp_path: Path) -> None:
    """Without delay; told once, with the time of renewal."""
    clock = FakeClock()
    main, backup = Vendor(clock), Vendor(clock)
    vendors = {"main": (main, Rates(clock, quota=Rate(3, 60.0))), "backup": (backup, Rates(clock))}
    with structlog.testing.capture_logs() as lines:
        async with sending(tmp_path, clock, vendors) as it:
            for _ in range(5):
                await it.accept()
                await it.written()
            assert (len(main.accepted), len(backup.accepted)) == (3, 2)
            await it.advance(0.25)
            assert it.gauge("quota_left") == 0
            assert it.gauge("quota_left", "backup") is None
            await it.advance(61, step=1)
            assert it.gauge("quota_left") == 3
            await it.accept()
            await it.written()
            assert len(main.accepted) == 4
            assert {record.state for record in await it.records()} == {State.SENT}
    (exhausted,) = [line for line in lines if line["event"] == "provider.quota_exhausted"]
    assert (exhausted["log_level"], exhausted["provider"]) == ("warning", "main")
    assert START + 59 < datetime.fromisoformat(exhausted["until"]).timestamp() < START + 61
    assert [line["quota_left"] for line in lines if line["event"] == "provider.suspension_ended"] == [3]


async def test_without_another_provider_mail_waits_in_the_outbox_until_the_quota_renews(tmp_path: Path) -> None:
    """What was in memory, what came later, and what a process of before has left; in no more than the quota."""
    clock = FakeClock()
    vendor = Vendor(clock)
    async with sending(tmp_path, clock, {"main": (vendor, Rates(clock, quota=Rate(4, 60.0)))}) as it:
        for _ in range(6):
            await it.accept("Welcome", Priority.EVENT, lifetime=DAY)
        await it.written()
        for _ in range(2):
            await it.accept("Welcome", Priority.EVENT, lifetime=DAY)
        await it.advance(30)
        assert len(vendor.accepted) == 4
        assert it.courier._deliveries == {}
        states = [record.state for record in await it.records()]
        assert (states.count(State.SENT), states.count(State.QUEUED)) == (4, 4)
        await it.advance(40, step=1)
        records = await it.records()
        assert {(record.state, len(record.attempts)) for record in records} <= {(State.SENT, 1)}
        times = [at for at, _ in vendor.accepted]
        assert times[4] - times[0] >= 60


async def test_a_quota_survives_a_restart(tmp_path: Path) -> None:
    """The next process counts what the last one sent."""
    clock = FakeClock()
    main, backup = Vendor(clock), Vendor(clock)

    def vendors() -> dict[str, tuple[Vendor, Rates]]:
        return {"main": (main, Rates(clock, quota=Rate(3, DAY))), "backup": (backup, Rates(clock))}

    async with sending(tmp_path, clock, vendors()) as it:
        for _ in range(2):
            await it.accept()
            await it.written()
    clock.set(START + 3600)
    with structlog.testing.capture_logs() as lines:
        async with sending(tmp_path, clock, vendors()) as it:
            assert it.gauge("quota_left") == 1
            for _ in range(2):
                await it.accept()
                await it.written()
            assert (len(main.accepted), len(backup.accepted)) == (3, 1)
        async with sending(tmp_path, clock, vendors()) as it:
            assert it.gauge("quota_left") == 0
            await it.accept()
            await it.written()
            assert (len(main.accepted), len(backup.accepted)) == (3, 2)
    assert [line["event"] for line in lines].count("provider.quota_exhausted") == 2, "once in each process"


async def test_what_waits_for_the_rate_does_not_delay_the_end(tmp_path: Path) -> None:
    """It waits for the next process."""
    clock = FakeClock()
    vendor = Vendor(clock)
    async with sending(tmp_path, clock, {"main": (vendor, Rates(clock, rate=Rate(1, 3600.0)))}) as it:
        for _ in range(20):
            await it.accept()
        await it.written()
        async with asyncio.timeout(20):
            await it.courier.finish()
        assert len(vendor.accepted) == 1
        records = await it.records()
        assert sorted((record.state, len(record.attempts)) for record in records) == sorted(
            [(State.SENT, 1), *[(State.QUEUED, 0)] * 19]
        )


async def test_a_code_that_was_replaced_takes_nothing_of_the_rate(tmp_path: Path) -> None:
    """The newer one goes as soon as the rate allows a mail."""
    clock = FakeClock()
    vendor = Vendor(clock)
    async with sending(tmp_path, clock, {"main": (vendor, Rates(clock, rate=Rate(1, 60.0)))}) as it:
        await it.accept()
        await it.written()
        older, newer = [await it.accept(ip="203.0.113.9") for _ in range(2)]
        await it.advance(62, step=1)
        assert [email.id for _, email in vendor.accepted[1:]] == [newer.id]
        states = {record.id: record.state for record in await it.records()}
        assert (states[older.id], states[newer.id]) == (State.SUPERSEDED, State.SENT)


async def test_a_quota_that_cannot_be_counted_keeps_no_mail_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It begins anew, and the log says so."""
    clock = FakeClock()
    vendor = Vendor(clock)

    async def broken(*_: Any, **__: Any) -> Any:
        raise OutboxError("the outbox cannot be read")

    monkeypatch.setattr(SqliteOutbox, "accepted", broken)
    with structlog.testing.capture_logs() as lines:
        async with sending(tmp_path, clock, {"main": (vendor, Rates(clock, quota=Rate(3, DAY)))}) as it:
            await it.accept()
            await it.written()
            assert it.gauge("quota_left") == 3
    assert len(vendor.accepted) == 1
    assert [line["event"] for line in lines if line["log_level"] == "error"] == ["quota.not_restored"]
