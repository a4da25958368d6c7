"""What processes tell each other of providers that fail, and which of them may probe."""

import asyncio
from collections.abc import Mapping

import pytest

from mailroom.clock import Instant
from mailroom.outbox.postgres.postgres_engine import PostgresOutbox
from mailroom.outbox.postgres.shared.postgres_breakers import KEPT_SECONDS, RIGHT_SECONDS
from mailroom.outbox.shared import Observation, OpenBreaker
from tests.clock import START, FakeClock
from tests.outbox.postgres.conftest import Open

Breakers = Mapping[str, OpenBreaker]


def fails(at: Instant = START, seconds: float = 5, reason: str = "451 busy") -> Mapping[str, Observation]:
    """Return that `main` fails."""
    return {"main": Observation(at, reason, seconds)}


def works(at: Instant = START) -> Mapping[str, Observation]:
    """Return that `main` works again."""
    return {"main": Observation(at, "", 5)}


async def exchange(
    outbox: PostgresOutbox,
    observed: Mapping[str, Observation] | None = None,
    *,
    providers: tuple[str, ...] = ("main",),
    probing: tuple[str, ...] = (),
) -> Breakers:
    """Exchange as a process does."""
    assert outbox.shared
    return await outbox.shared.breakers.exchange(observed or {}, providers=providers, probing=probing)


async def probers(outboxes: list[PostgresOutbox], *, probing: int | None = None) -> list[int]:
    """Let each process exchange, its leases alive; return the numbers of those that may probe."""
    for one in outboxes:
        await one._leases.beat()
    found = []
    for number, one in enumerate(outboxes):
        breakers = await exchange(one, probing=("main",) if number == probing else ())
        until = breakers["main"].probe_until
        if until and until > one._clock.now():
            found.append(number)
    return found


async def test_what_one_process_opens_is_open_for_all(open_outbox: Open) -> None:
    one, other = await open_outbox(), await open_outbox()
    assert await exchange(other) == {}
    expected = {"main": OpenBreaker("451 busy", START, 5, None)}
    assert await exchange(one, fails()) == expected
    assert await exchange(other) == expected
    assert await exchange(await open_outbox()) == expected, "a process that starts later"


async def test_what_one_process_closes_is_closed_for_all(open_outbox: Open) -> None:
    one, other = await open_outbox(), await open_outbox()
    await exchange(one, fails())
    assert await exchange(other, works(START + 1)) == {}
    assert await exchange(one) == {}


async def test_two_processes_that_open_it_at_the_same_time_open_it_once(open_outbox: Open) -> None:
    """It is probed after the time that the first one, or a failed probe, has set."""
    outboxes = [await open_outbox() for _ in range(4)]
    await exchange(outboxes[0], fails(START, 20))
    found = await asyncio.gather(*(exchange(one, fails(START + 1, 5, "421 busy, too")) for one in outboxes))
    assert [one["main"] for one in found] == [OpenBreaker("421 busy, too", START, 20, None)] * 4


@pytest.mark.parametrize("stored_first", ["older", "newer"])
async def test_of_two_observations_the_newer_one_counts(open_outbox: Open, stored_first: str) -> None:
    """One process recovers while another one fails; a slow database may store them in either order."""
    one, other = await open_outbox(), await open_outbox()
    await exchange(one, fails())
    news = [works(START + 2), fails(START + 3, reason="421 again")]
    for observed in news if stored_first == "older" else reversed(news):
        await exchange(other, observed)
    assert (await exchange(one))["main"].reason == "421 again"
    news = [fails(START + 4), works(START + 5)]
    for observed in news if stored_first == "older" else reversed(news):
        await exchange(other, observed)
    assert await exchange(one) == {}


async def test_times_are_those_of_the_database(open_outbox: Open, clock: FakeClock) -> None:
    """One machine's clock is an hour behind, and its newer observation counts all the same."""
    behind = FakeClock(START - 3600)

    async def read_time(_: object) -> float:
        return clock.now()

    one, other = await open_outbox(), await open_outbox(clock=behind, read_time=read_time)
    await exchange(one, fails())
    assert (await exchange(other))["main"].since == START - 3600
    assert await exchange(other, works(START - 3600 + 1)) == {}


async def test_one_process_in_all_may_probe_when_it_is_time(open_outbox: Open, clock: FakeClock) -> None:
    outboxes = [await open_outbox() for _ in range(3)]
    await exchange(outboxes[0], fails())
    clock.set(START + 4.9)
    assert await probers(outboxes) == []
    clock.set(START + 5)
    assert await probers(outboxes) == [0]
    found = await asyncio.gather(*(exchange(one) for one in outboxes for _ in range(3)))
    assert sum(one["main"].probe_until is not None for one in found) == 3, "the three exchanges of one process"


async def test_processes_that_ask_at_the_same_time_get_one_right(open_outbox: Open, clock: FakeClock) -> None:
    outboxes = [await open_outbox() for _ in range(4)]
    await exchange(outboxes[0], fails())
    clock.set(START + 5)
    for one in outboxes:
        await one._leases.beat()
    found = await asyncio.gather(*(exchange(one) for one in outboxes))
    assert sum(one["main"].probe_until is not None for one in found) == 1


async def test_a_failed_probe_doubles_the_time_for_all(open_outbox: Open, clock: FakeClock) -> None:
    outboxes = [await open_outbox() for _ in range(2)]
    await exchange(outboxes[1], fails())
    clock.set(START + 6)
    assert await probers(outboxes) == [0]
    breakers = await exchange(outboxes[0], fails(START + 6, 10, "421 still busy"))
    assert breakers == await exchange(outboxes[1]) == {"main": OpenBreaker("421 still busy", START, 10, None)}
    clock.set(START + 15.9)
    assert await probers(outboxes) == []
    clock.set(START + 16)
    assert await probers(outboxes) == [0]


async def test_a_failure_that_another_process_saw_leaves_the_right(open_outbox: Open, clock: FakeClock) -> None:
    """It began before the breaker opened."""
    outboxes = [await open_outbox() for _ in range(2)]
    await exchange(outboxes[0], fails())
    clock.set(START + 5)
    assert await probers(outboxes) == [0]
    await exchange(outboxes[1], fails(START + 5, reason="421 late"))
    assert await probers(outboxes) == [0]


async def test_the_right_to_probe_goes_round(open_outbox: Open, clock: FakeClock) -> None:
    """To the next process while there is no message for it; a probe that lasts keeps it, as does the last process."""
    outboxes = [await open_outbox() for _ in range(3)]
    await exchange(outboxes[0], fails())
    turns: list[int] = []
    for second in range(5, 5 + 6 * int(RIGHT_SECONDS)):
        for number, one in enumerate(outboxes):
            clock.set(START + second + number / 3)
            if await probers([one]) and turns[-1:] != [number]:
                turns.append(number)
    assert turns[:5] == [0, 1, 2, 0, 1]
    clock.set(clock.now() + RIGHT_SECONDS)
    [prober] = await probers(outboxes)
    for second in range(76, 100):
        clock.set(START + second)
        assert await probers(outboxes, probing=prober) == [prober]
    for one in outboxes[1:]:
        await one.close()
    for second in range(120, 150):
        clock.set(START + second)
        assert await probers(outboxes[:1]) == [0]


async def test_no_probe_begins_when_the_right_is_about_to_end(open_outbox: Open, clock: FakeClock) -> None:
    """Another process may have it before the probe is known."""
    outbox = await open_outbox()
    await exchange(outbox, fails())
    clock.set(START + 5)
    until = (await exchange(outbox))["main"].probe_until
    assert until == START + 5 + RIGHT_SECONDS - 2


async def test_the_right_of_a_process_that_ended_is_free(open_outbox: Open, clock: FakeClock) -> None:
    one, other = await open_outbox(), await open_outbox()
    await exchange(one, fails())
    clock.set(START + 5)
    assert await probers([one, other]) == [0]
    await one.close()
    assert await probers([other]) == [0]


async def test_a_process_is_not_chosen_for_a_provider_that_it_does_not_use(open_outbox: Open, clock: FakeClock) -> None:
    """Its settings are older or newer than those of the others."""
    one = await open_outbox()
    await exchange(one, fails())
    clock.set(START + 5)
    assert (await exchange(one, providers=("renamed",)))["main"].probe_until is None
    assert (await exchange(one))["main"].probe_until


async def test_what_no_process_uses_is_forgotten(open_outbox: Open, clock: FakeClock) -> None:
    """A provider that was renamed or removed; one that is used may fail for days without mail."""
    outbox = await open_outbox()
    await exchange(outbox, fails())
    for minute in range(24):
        clock.set(START + 60 * minute)
        assert (await exchange(outbox))["main"].since == START
    clock.set(START + 60 * 23 + KEPT_SECONDS + 1)
    assert await exchange(outbox, providers=("renamed",)) == {}
    await exchange(outbox, fails(clock.now()))
    await exchange(outbox, works(clock.now()))
    clock.set(clock.now() + KEPT_SECONDS + 1)
    await exchange(outbox)
    assert await outbox._database.rows("SELECT FROM mailroom.breakers") == []


async def test_a_clock_that_was_set_back_hides_nothing(open_outbox: Open, clock: FakeClock) -> None:
    """Observations of a later time would count for as long."""
    outbox = await open_outbox()
    await exchange(outbox, fails())
    clock.set(START - 3600)
    assert await exchange(outbox) == {}
    assert (await exchange(outbox, fails(START - 3600)))["main"].since == START - 3600
