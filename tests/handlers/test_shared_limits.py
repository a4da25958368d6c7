"""Limits on codes that several processes share: what they accept together."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
import structlog.testing

from handlers.code_limits import CodeLimits, SharedWindowCounts
from mailroom.clock import Instant
from mailroom.config.model import Limits
from mailroom.courier.maintenance import cancel
from mailroom.errors import CannotKeep, LimitExceeded
from mailroom.metrics import Metrics
from mailroom.outbox.shared import Slice
from tests.clock import START, FakeClock
from tests.outbox.contract import message

WINDOW = START - START % 600
"""When a window of ten minutes begins."""


class MemoryCounts:
    """What processes share, in memory; each call is recorded."""

    def __init__(self) -> None:
        self.sums: Counter[Slice] = Counter()
        self.until: dict[Slice, Instant] = {}
        self.calls: list[Mapping[Slice, int]] = []
        self.fails = False
        self.meanwhile: CodeLimits | None = None
        """Accepts a code while an exchange waits."""

    async def add(self, counts: Mapping[Slice, int], *, until: Instant) -> Mapping[Slice, int]:
        """Add, unless the database is away."""
        if self.fails:
            raise CannotKeep("the database is away")
        self.calls.append(counts)
        self.sums.update(counts)
        self.until = {one: until for one, count in counts.items() if count} | self.until
        if self.meanwhile:
            _accepted(self.meanwhile, 1)
        return {one: self.sums[one] for one in counts}


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(WINDOW)


@pytest.fixture
def counts() -> MemoryCounts:
    return MemoryCounts()


def _process(clock: FakeClock, counts: MemoryCounts, **limits: str) -> CodeLimits:
    shared: Any = SimpleNamespace(counts=counts)
    return CodeLimits(Limits.model_validate(limits), clock, Metrics(), shared)


def _accepted(process: CodeLimits, codes: int, ip: str = "203.0.113.7") -> int:
    """Return how many of so many codes a process accepts."""
    accepted = 0
    for _ in range(codes):
        try:
            process.check(message(ip=ip))
        except LimitExceeded:
            continue
        accepted += 1
    return accepted


@pytest.mark.parametrize("setting", ["ip", "recipient_domain", "total"])
async def test_two_processes_accept_no_more_than_the_limit(
    setting: str, clock: FakeClock, counts: MemoryCounts
) -> None:
    """What the other one has accepted counts from the next exchange on."""
    one, other = [_process(clock, counts, **{setting: "10/10m"}) for _ in range(2)]
    assert _accepted(one, 6) == 6
    await one.exchange()
    assert _accepted(other, 1) == 1
    await other.exchange()
    assert _accepted(other, 10) == 3
    await other.exchange()
    assert _accepted(one, 1) == 1  # it cannot know yet
    await one.exchange()
    assert _accepted(one, 5) == 0
    assert sum(counts.sums.values()) == 11


async def test_what_is_counted_while_an_exchange_waits_is_neither_lost_nor_sent_twice(
    clock: FakeClock, counts: MemoryCounts
) -> None:
    one = _process(clock, counts, total="5/10m")
    assert _accepted(one, 3) == 3
    counts.meanwhile = one
    await one.exchange()
    assert sum(counts.sums.values()) == 3
    counts.meanwhile = None
    assert _accepted(one, 9) == 1
    await one.exchange()
    assert sum(counts.sums.values()) == 5
    assert _accepted(one, 9) == 0


async def test_a_value_that_is_not_the_others_is_not_limited(clock: FakeClock, counts: MemoryCounts) -> None:
    one, other = [_process(clock, counts, ip="3/10m") for _ in range(2)]
    assert _accepted(one, 5) == 3
    assert _accepted(other, 5, ip="203.0.113.8") == 3
    await one.exchange()
    await other.exchange()
    assert _accepted(one, 5, ip="203.0.113.9") == 3
    assert {one.what for one in counts.sums} == {"limits.ip:203.0.113.7", "limits.ip:203.0.113.8"}


async def test_the_last_window_is_shared_too(clock: FakeClock, counts: MemoryCounts) -> None:
    """What was counted in it after its last exchange, too; two windows later nothing is left."""
    one, other = [_process(clock, counts, total="100/10m") for _ in range(2)]
    assert _accepted(one, 60) == 60
    await one.exchange()
    clock.set(WINDOW + 599)
    assert _accepted(one, 20) == 20
    clock.set(WINDOW + 600 + 300)  # half of 80 still counts
    assert _accepted(one, 1) == 1
    await one.exchange()
    assert _accepted(other, 1) == 1
    await other.exchange()
    assert _accepted(other, 100) == 100 - 40 - 2
    assert min(counts.until.values()) >= WINDOW + 1200
    clock.set(WINDOW + 1800)
    assert _accepted(other, 200) == 100


async def test_who_was_away_keeps_what_it_has_counted(clock: FakeClock, counts: MemoryCounts) -> None:
    """It goes on by itself, and sends it when the database is back."""
    one, other = [_process(clock, counts, total="10/10m") for _ in range(2)]
    counts.fails = True
    assert _accepted(one, 4) == 4
    for _ in range(2):
        with pytest.raises(CannotKeep):
            await one.exchange()
    assert _accepted(one, 3) == 3
    counts.fails = False
    await one.exchange()
    assert sum(counts.sums.values()) == 7
    assert _accepted(other, 1) == 1
    await other.exchange()
    assert _accepted(other, 10) == 2


async def test_a_process_that_starts_takes_over_the_sums(clock: FakeClock, counts: MemoryCounts) -> None:
    """So a restart gives nobody a limit anew."""
    before = _process(clock, counts, ip="5/10m")
    assert _accepted(before, 9) == 5
    await before.exchange()
    after = _process(clock, counts, ip="5/10m")
    assert _accepted(after, 1) == 1
    await after.exchange()
    assert _accepted(after, 9) == 0
    clock.set(WINDOW + 600)
    again = _process(clock, counts, ip="5/10m")
    assert _accepted(again, 1) == 1
    await again.exchange()
    assert _accepted(again, 1) == 0  # in the last window


async def test_only_limits_that_are_set_are_exchanged_and_only_what_was_counted(
    clock: FakeClock, counts: MemoryCounts
) -> None:
    observing = _process(clock, counts)
    await observing.share()  # returns
    _accepted(observing, 5)
    await observing.exchange()
    one = _process(clock, counts, recipient_domain="9/10m")
    await one.exchange()
    assert counts.calls == []
    _accepted(one, 5)
    await one.exchange()
    await one.exchange()
    assert [{slice_.what for slice_ in call} for call in counts.calls] == [{"limits.recipient_domain:example.com"}]


async def test_a_process_that_has_no_others_exchanges_nothing(clock: FakeClock) -> None:
    """On SQLite: nothing is remembered for it, and no job runs."""
    alone = CodeLimits(Limits.model_validate({"ip": "9/10m", "total": "9/10m"}), clock, Metrics())
    assert _accepted(alone, 20) == 9
    assert not any(isinstance(one.counts, SharedWindowCounts) for one in (alone._ip, alone._domain, alone._total))
    await alone.share()  # returns


async def test_the_exchange_goes_on_once_a_second_after_a_failure(clock: FakeClock, counts: MemoryCounts) -> None:
    one = _process(clock, counts, total="9/10m")
    task = asyncio.create_task(one.share())
    await clock.until_asleep()
    counts.fails = True
    _accepted(one, 2)
    with structlog.testing.capture_logs() as lines:
        await clock.advance(1)
    assert [line["event"] for line in lines] == ["outbox.write_failed"]
    counts.fails = False
    await clock.advance(1)
    assert sum(counts.sums.values()) == 2
    _accepted(one, 2)
    await clock.advance(0.9)
    assert sum(counts.sums.values()) == 2
    await clock.advance(0.1)
    assert sum(counts.sums.values()) == 4
    await cancel([task])


async def test_a_flood_of_values_is_sent_in_bounded_steps_and_memory(clock: FakeClock, counts: MemoryCounts) -> None:
    """Rare values may be forgotten, a busy one is not."""
    one = _process(clock, counts, ip="100000/10m")
    for number in range(30_000):
        _accepted(one, 1, ip=f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
        if number % 100 == 0:
            _accepted(one, 1)
    shared = one._shared_counts[0]
    assert len(shared._unsent) <= 10_000
    while shared._unsent:
        await one.exchange()
        assert len(counts.calls[-1]) <= 2 * 1000
        assert len(shared._current) <= 10_000
    assert len(counts.calls) <= 10
    assert counts.sums[Slice("limits.ip:203.0.113.7", int(WINDOW // 600))] == 300


async def test_sums_of_forgotten_values_take_bounded_memory_too(clock: FakeClock, counts: MemoryCounts) -> None:
    one = _process(clock, counts, ip="100000/10m")
    shared = one._shared_counts[0]
    for value in range(6_000):
        _accepted(one, 2, ip=f"busy{value}")
    while shared._unsent:
        await one.exchange()
    for value in range(9_000):
        _accepted(one, 1, ip=f"rare{value}")
    while shared._unsent:
        await one.exchange()
        assert len(shared._current) <= 10_000
