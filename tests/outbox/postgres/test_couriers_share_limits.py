"""Two processes send from one database: together they keep to a provider's rate and quota."""

import asyncio
from dataclasses import dataclass, field

from mailroom.clock import Instant
from mailroom.message import Email, Priority, Receipt
from mailroom.providers import Rate
from tests.clock import FakeClock, settle
from tests.courier.channels.test_rates import most_in_a_period
from tests.courier.parts import message
from tests.outbox.postgres.test_couriers_share_breakers import Process, Start, Switched, pass_time, start, until
from tests.postgres_server import PostgresServer

__all__ = ["start"]
DAY = 86400.0


@dataclass
class Timed(Switched):
    """A provider that notes when it gets which mail."""

    clock: FakeClock = field(default_factory=FakeClock)
    times: list[tuple[Instant, Email]] = field(default_factory=list)

    async def send(self, email: Email) -> Receipt:
        """Take the mail."""
        self.times.append((self.clock.now(), email))
        return await super().send(email)


async def pass_slowly(clock: FakeClock, processes: list[Process], seconds: float) -> None:
    """Let time pass in small steps; in each of them everything is fetched and sent that can be.

    So a mail is sent up to a step after its token was taken.
    """
    limiters = [one.channels["main"].limiter for one in processes]
    for _ in range(round(seconds / 0.05)):
        await clock.advance(0.05)
        await settle()
        await until(lambda: all(limiter._fetching is None and not limiter._used for limiter in limiters))


async def test_two_processes_send_no_faster_than_the_rate(start: Start, clock: FakeClock) -> None:
    """And nearly as fast; a code goes first."""
    main = Timed(clock=clock)
    one, other = [await start(main, rate=Rate(5, 1.0)) for _ in range(2)]
    for process in (one, other):
        for _ in range(8):
            await process.courier.accept(message("Welcome", Priority.EVENT, now=clock.now(), lifetime=DAY))
    await pass_slowly(clock, [one, other], 0.2)
    assert len(main.times) == 5
    code = message(now=clock.now())
    await one.courier.accept(code)
    await pass_slowly(clock, [one, other], 4.5)
    assert len(main.times) == 17
    assert most_in_a_period([at for at, _ in main.times], 0.94) == 5
    assert code.id in [email.id for _, email in main.times[5:10]]
    assert one.backup.sent.empty()


async def test_two_processes_send_no_more_than_the_quota(start: Start, clock: FakeClock) -> None:
    """Nor does one that starts later."""
    one, other = [await start(quota=Rate(10, DAY)) for _ in range(2)]
    for _ in range(6):
        await one.send()
    await until(lambda: one.channels["main"].rates.quota_left == 4)
    await pass_time(clock, [one, other], 2)
    await until(lambda: other.channels["main"].rates.quota_left == 4)
    for _ in range(6):
        await other.send()
    await until(lambda: other.main.sent.qsize() + other.backup.sent.qsize() == 6)
    assert (other.main.sent.qsize(), other.backup.sent.qsize()) == (4, 2)
    await pass_time(clock, [one, other], 2)
    later = await start(quota=Rate(10, DAY))
    for process in (one, later):
        await process.sent_by_backup()
    assert (one.main.sent.qsize(), later.main.sent.qsize()) == (6, 0)


async def test_a_process_that_ends_tells_what_it_has_sent_last(start: Start) -> None:
    """The one that replaces it counts it."""
    before = await start(quota=Rate(10, DAY))
    for _ in range(3):
        await before.send()
    await until(lambda: before.main.sent.qsize() == 3)
    await before.courier.drain(20)
    after = await start(quota=Rate(10, DAY))
    assert after.channels["main"].rates.quota_left == 7


async def test_processes_that_start_together_count_what_was_sent_before(
    start: Start,
    clock: FakeClock,
    postgres: PostgresServer,
) -> None:
    """Once, by the history: as after a copy from SQLite, or an upgrade."""
    before = await start()
    for _ in range(3):
        await before.send()
    await until(lambda: before.main.sent.qsize() == 3)
    await before.courier.drain(20)
    assert postgres.psql("SELECT sum(count) FROM mailroom.counts").strip() == ""
    processes = await asyncio.gather(*(start(quota=Rate(10, DAY)) for _ in range(3)))
    await pass_time(clock, processes, 2)
    await until(lambda: [one.channels["main"].rates.quota_left for one in processes] == [7, 7, 7])
    await pass_time(clock, processes, 1)
    assert [one.channels["main"].rates.quota_left for one in processes] == [7, 7, 7]
