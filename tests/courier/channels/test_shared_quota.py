"""A quota that several processes keep to together: each knows within a second what the others have sent."""

import asyncio
from collections.abc import Sequence
from typing import cast

import structlog.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from mailroom.clock import Instant
from mailroom.courier import Channel, RatedLimiter, Rates
from mailroom.courier.channels.shared_quota import QuotaSharing
from mailroom.errors import OutboxError
from mailroom.outbox import Outbox
from mailroom.providers import Rate
from tests.clock import START, FakeClock
from tests.courier.channels.counts import CountsInMemory
from tests.courier.parts import SENDER, ScriptedProvider

DAY = 86400.0
QUOTA = Rate(100, DAY)
SLICE = DAY / 96


class History:
    """What the outbox knows to be accepted, for quotas that nobody has counted yet."""

    def __init__(self, *accepted: tuple[Instant, int]) -> None:
        self._accepted = accepted
        self.is_broken = False
        self.reads = 0

    async def accepted(self, provider: str, *, since: Instant, slice_seconds: float) -> Sequence[tuple[Instant, int]]:
        """Return time and number for each slice."""
        assert (provider, slice_seconds > 0) == ("main", True)
        self.reads += 1
        await asyncio.sleep(0)  # others may read it, too
        if self.is_broken:
            raise OutboxError("the outbox cannot be read")
        return [(at, count) for at, count in self._accepted if at >= since]


class Process:
    """The quota of one process."""

    def __init__(
        self, clock: FakeClock, counts: CountsInMemory, history: History | None = None, quota: Rate = QUOTA
    ) -> None:
        self.rates = Rates(clock, quota=quota)
        channels = {
            "main": Channel(ScriptedProvider(), RatedLimiter(5, self.rates), SENDER),
            "backup": Channel(ScriptedProvider(), RatedLimiter(5, Rates(clock)), SENDER),
        }
        self.sharing = QuotaSharing(channels, cast("Outbox", history or History()), counts, clock)

    @property
    def used(self) -> int:
        """How much of the quota this process takes for used."""
        return 100 - (self.rates.quota_left or 0)

    def accept(self, count: int) -> None:
        """Count accepted mails."""
        for _ in range(count):
            self.rates.count_accepted()

    async def exchange(self) -> None:
        """Exchange with the others."""
        await self.sharing.exchange()


async def test_each_process_counts_what_the_others_have_sent(clock: FakeClock, counts: CountsInMemory) -> None:
    one, other = Process(clock, counts), Process(clock, counts)
    one.accept(3)
    other.accept(4)
    assert (one.used, other.used) == (3, 4)
    for process in (one, other, one):
        await process.exchange()
    assert (one.used, other.used) == (7, 7)
    for _ in range(3):
        await one.exchange()
    assert one.used == 7, "told once"


async def test_a_quota_that_others_have_used_up_suspends(clock: FakeClock, counts: CountsInMemory) -> None:
    """Until their mails are a period old."""
    one, other = Process(clock, counts), Process(clock, counts)
    one.accept(100)
    await one.exchange()
    await other.exchange()
    assert other.rates.is_exhausted
    other.rates.check()
    until = other.rates.suspended_until
    assert until
    assert START + DAY <= until <= START + DAY + SLICE
    clock.set(until + 1)
    assert other.used == 0


async def test_the_next_process_counts_what_those_before_have_sent(clock: FakeClock, counts: CountsInMemory) -> None:
    """All of the period, without a look at the history."""
    before = Process(clock, counts)
    for _ in range(10):
        before.accept(2)
        await before.exchange()
        await clock.advance(3600)
    after = Process(clock, counts, history := History((START, 50)))
    await after.exchange()
    assert (after.used, history.reads) == (20, 0)


async def test_processes_that_start_together_count_the_history_once(clock: FakeClock, counts: CountsInMemory) -> None:
    """As after a copy from SQLite. Mails that are older than the period do not count."""
    processes = [Process(clock, counts, History((START - 2 * DAY, 9), (START - 7200, 5), (START, 2))) for _ in range(3)]
    await asyncio.gather(*(one.exchange() for one in processes))
    for one in processes:
        await one.exchange()
    assert [one.used for one in processes] == [7, 7, 7]
    clock.set(START + DAY - 7200 + 2 * SLICE)
    assert [one.used for one in processes] == [2, 2, 2]


async def test_a_history_that_cannot_be_read_is_counted_later(clock: FakeClock, counts: CountsInMemory) -> None:
    """Better too many mails than none."""
    history = History((START, 5))
    history.is_broken = True
    one = Process(clock, counts, history)
    with structlog.testing.capture_logs() as lines:
        await one.exchange()
    assert [(line["event"], line["provider"]) for line in lines] == [("quota.not_exchanged", "main")]
    history.is_broken = False
    await one.exchange()
    assert one.used == 5


async def test_nothing_is_lost_while_the_outbox_refuses(clock: FakeClock, counts: CountsInMemory) -> None:
    """Each counts by itself, tells it later, and learns what the others have told long ago."""
    one, other = Process(clock, counts), Process(clock, counts)
    for process in (one, other):
        process.accept(1)
        await process.exchange()
    counts.is_broken = True
    one.accept(5)
    await one.exchange()
    assert one.used == 6
    counts.is_broken = False
    other.accept(2)
    await other.exchange()
    await clock.advance(3 * SLICE)
    await one.exchange()
    assert one.used == 9
    await clock.advance(60)
    await other.exchange()
    assert other.used == 9


async def test_after_an_outage_the_whole_period_is_read_at_once(clock: FakeClock, counts: CountsInMemory) -> None:
    """The others may have gone on meanwhile, if only this process was cut off."""
    one, other = (Process(clock, counts, quota=Rate(100, 60.0)) for _ in range(2))
    other.accept(1)
    for process in (other, one):
        await process.exchange()
    counts.is_broken = True
    await one.exchange()
    counts.is_broken = False
    other.accept(2)
    await other.exchange()
    await clock.advance(10)
    await one.exchange()
    assert one.used == 3


async def test_only_the_last_slices_are_read_each_second(clock: FakeClock, counts: CountsInMemory) -> None:
    """The whole period at the start, and once a minute."""
    one = Process(clock, counts)
    one.accept(1)
    for _ in range(120):
        await one.exchange()
        await clock.advance(1)
    sizes = [len(asked) for asked in counts.asked]
    assert [number for number, size in enumerate(sizes) if size == 97] == [0, 60]
    assert set(sizes) <= {97, 2}


steps = st.lists(
    st.one_of(
        st.tuples(st.just("accept"), st.integers(0, 2), st.integers(1, 5)),
        st.tuples(st.just("exchange"), st.integers(0, 2), st.just(0)),
        st.tuples(st.just("restart"), st.integers(0, 2), st.just(0)),
        st.tuples(st.just("fail"), st.integers(0, 2), st.just(0)),
        st.tuples(st.just("wait"), st.just(0), st.integers(1, 400)),
    ),
    max_size=60,
)


@settings(deadline=None, max_examples=150)
@given(steps, st.sampled_from([60.0, 3600.0]))
async def test_in_the_end_all_count_the_same(steps: list[tuple[str, int, int]], seconds: float) -> None:
    """And what they count is what was sent in the last period, by processes that have ended, too."""
    clock = FakeClock()
    counts = CountsInMemory(clock)
    quota = Rate(100_000, seconds)
    processes = [Process(clock, counts, quota=quota) for _ in range(3)]
    sent: list[Instant] = []
    for step, who, number in steps:
        match step:
            case "accept":
                processes[who].accept(number)
                sent += [clock.now()] * number
            case "exchange":
                await processes[who].exchange()
            case "fail":
                counts.is_broken = True
                await processes[who].exchange()
                counts.is_broken = False
            case "restart":
                await processes[who].exchange()
                processes[who] = Process(clock, counts, quota=quota)
            case _:
                await clock.advance(number / 10)
    for one in processes:
        await one.exchange()
    await clock.advance(60)
    for one in processes:
        await one.exchange()
    slice_seconds = seconds / 96
    current = int(clock.now() // slice_seconds)
    expected = sum(int(at // slice_seconds) >= current - 96 for at in sent)
    assert [quota.count - (one.rates.quota_left or 0) for one in processes] == [expected] * 3
