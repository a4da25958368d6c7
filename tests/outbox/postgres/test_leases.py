"""Prolongs leases apart from ending others, and ends only those that nobody uses."""

import pytest

from mailroom.message import State
from mailroom.outbox import ClaimLimit, Lease, Settlement
from mailroom.outbox.postgres.leases import ALIVE_SECONDS
from tests.clock import START, FakeClock
from tests.outbox.contract import claim, message
from tests.outbox.postgres.conftest import Open


async def test_a_process_stays_alive_although_nothing_can_be_ended(
    open_outbox: Open, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prolonging does not depend on the statements for other processes."""
    outbox = await open_outbox()

    async def fail(_: object) -> int:
        raise ConnectionError

    monkeypatch.setattr(outbox._leases, "_end_dead", fail)
    clock.set(START + 4)
    with pytest.raises(Exception, match="cannot be used"):
        await outbox._leases.beat()
    [(until,)] = await outbox._database.rows("SELECT alive_until FROM mailroom.owners")
    assert until == START + 4 + ALIVE_SECONDS


async def test_a_lease_that_is_committed_late_ends(open_outbox: Open, clock: FakeClock) -> None:
    """A put that was given up, and is committed after the beat that looked for it."""
    outbox = await open_outbox()
    one = message()
    outbox._leases.lose_put(one.id, START + 300)
    await outbox._leases.beat()
    await outbox.put(one, lease=Lease("main", 300))
    clock.set(START + 3.5)
    await outbox._leases.beat()
    leased = (await claim(outbox, clock.now())).leased
    assert [one.message.id for one in leased] == [one.id]
    await outbox._leases.beat()  # the note is still there, and this process sends the message now
    assert (await outbox.settle(Settlement(one.id, State.SENT, leased[0].attempts))).is_recorded
    clock.set(START + 5)
    await outbox._leases.beat()
    assert not outbox._leases._lost_puts


async def test_claims_of_one_moment_are_told_apart(open_outbox: Open) -> None:
    """One whose result was lost, and one whose messages are sent."""
    outbox = await open_outbox()
    for _ in range(2):
        await outbox.put(message())
    [lost] = (await outbox.claim([ClaimLimit((), 1, 1, exclude=True)], lease_seconds=300)).leased
    [kept] = (await outbox.claim([ClaimLimit((), 1, 1, exclude=True)], lease_seconds=300)).leased
    outbox._leases.lose_claim(START + 300)
    await outbox._leases.beat()
    assert not (await outbox.settle(Settlement(lost.message.id, State.SENT, lost.attempts))).is_recorded
    assert (await outbox.settle(Settlement(kept.message.id, State.SENT, kept.attempts))).is_recorded
