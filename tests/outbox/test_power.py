"""Tests that no accepted message is lost when the power fails or the disk returns errors.

SIGKILL does not show a missing fsync: the kernel still has what was written. The simulated disk drops it.
"""

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import apsw
import pytest

from mailroom.errors import CannotKeep
from mailroom.message import State
from mailroom.outbox import Lease, PutResult, Settlement
from mailroom.outbox.sqlite import engine
from mailroom.outbox.sqlite.database import connect
from mailroom.outbox.sqlite.engine import SqliteOutbox
from tests.clock import FakeClock
from tests.outbox.contract import message
from tests.outbox.disk import REAL_DISK, Disk

SECRET: Final = "a-secret-key-of-the-tests"


@pytest.fixture
def disk() -> Iterator[Disk]:
    """Return a disk without faults."""
    disk = Disk()
    yield disk
    apsw.set_default_vfs(REAL_DISK)
    disk.unregister()


async def _open(path: Path, disk: Disk | None = None) -> SqliteOutbox:
    """Open the outbox on a disk that fails, or on the real one."""
    apsw.set_default_vfs(disk.name if disk else REAL_DISK)
    return await SqliteOutbox.open(path, secret_keys=[SECRET], clock=FakeClock(), wait_seconds=0)


async def _kept_of(outbox: SqliteOutbox, ids: list[str]) -> list[str]:
    return [id_ for id_ in ids if await outbox.get(id_) is not None]


async def _load(outbox: SqliteOutbox, rounds: int) -> tuple[list[str], list[str]]:
    """Put and settle; return the ids whose put was acknowledged, and those whose settlement was."""
    kept, settled = [], []
    for _ in range(rounds):
        wanted = [message() for _ in range(10)]
        lease = Lease("main", 300)
        answers = await asyncio.gather(*(outbox.put(one, lease=lease) for one in wanted), return_exceptions=True)
        for one, answer in zip(wanted, answers, strict=True):
            assert isinstance(answer, PutResult | CannotKeep), answer
            if isinstance(answer, CannotKeep):
                continue
            kept.append(one.id)
            try:
                if (await outbox.settle(Settlement(one.id, State.SENT, ()))).is_recorded:
                    settled.append(one.id)
            except CannotKeep:
                continue
    return kept, settled


@pytest.mark.parametrize("seed", range(6))
async def test_accepted_messages_survive_a_power_loss(tmp_path: Path, disk: Disk, seed: int) -> None:
    """And settlements do; whichever of the other writes reached the disk, and in whatever order."""
    path = tmp_path / "mailroom.db"
    outbox = await _open(path, disk)
    kept, settled = await _load(outbox, rounds=5)
    assert len(kept) == len(settled) == 50
    disk.lose_power(random.Random(seed) if seed else None)
    await outbox.close()
    after = await _open(path)
    try:
        assert await _kept_of(after, kept) == kept
        for id_ in settled:
            record = await after.get(id_)
            assert record is not None
            assert record.state is State.SENT
    finally:
        await after.close()


@pytest.mark.parametrize("seed", range(8))
async def test_accepted_messages_survive_a_power_loss_during_a_write(tmp_path: Path, disk: Disk, seed: int) -> None:
    """At any write or sync, of the log or of a checkpoint; refused messages may be stored or not."""
    path = tmp_path / "mailroom.db"
    outbox = await _open(path, disk)
    writing = outbox._writer._files.connection
    assert writing is not None
    writing.wal_autocheckpoint(20)
    chance = random.Random(seed)
    left = chance.randrange(100, 1500)

    def power_goes(operation: str, name: str) -> type[apsw.Error] | None:
        nonlocal left
        left -= 1
        if left:
            return None
        disk.lose_power(chance)
        return apsw.IOError

    disk.fault = power_goes
    kept, settled = await _load(outbox, rounds=30)
    assert disk.dead
    assert 0 < len(kept) < 300
    await outbox.close()
    after = await _open(path)
    try:
        assert await _kept_of(after, kept) == kept
        for id_ in settled:
            record = await after.get(id_)
            assert record is not None
            assert record.state is State.SENT
    finally:
        await after.close()


async def test_the_simulated_disk_loses_writes_that_are_not_synced(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test above can fail: with `synchronous=OFF` the same load loses acknowledged messages."""

    def careless(path: Path) -> apsw.Connection:
        connection = connect(path)
        connection.pragma("synchronous", "OFF")
        return connection

    path = tmp_path / "mailroom.db"
    await (await _open(path, disk)).close()
    monkeypatch.setattr(engine, "connect", careless)
    outbox = await _open(path, disk)
    kept, _ = await _load(outbox, rounds=5)
    assert len(kept) == 50
    disk.lose_power()
    await outbox.close()
    monkeypatch.undo()
    after = await _open(path)
    try:
        assert len(await _kept_of(after, kept)) < len(kept)
    finally:
        await after.close()


@pytest.mark.parametrize("error", [apsw.FullError, apsw.IOError])
@pytest.mark.parametrize("seed", range(4))
async def test_a_failing_disk_loses_no_accepted_message(
    tmp_path: Path, disk: Disk, error: type[apsw.Error], seed: int
) -> None:
    """Writes and syncs fail at random: each put is kept or raises CannotKeep, and the outbox recovers by itself."""
    path = tmp_path / "mailroom.db"
    outbox = await _open(path, disk)
    chance = random.Random(seed)
    disk.fault = lambda operation, name: error if chance.random() < 0.02 else None
    kept, settled = await _load(outbox, rounds=25)
    assert 0 < len(kept) < 250
    disk.fault = None
    more, _ = await _load(outbox, rounds=1)
    assert len(more) == 10
    assert await _kept_of(outbox, kept) == kept
    disk.lose_power(chance)
    await outbox.close()
    after = await _open(path)
    try:
        assert await _kept_of(after, [*kept, *more]) == [*kept, *more]
        for id_ in settled:
            record = await after.get(id_)
            assert record is not None
            assert record.state is State.SENT
    finally:
        await after.close()


async def test_a_disk_that_fails_for_long_refuses_at_once_and_recovers(tmp_path: Path, disk: Disk) -> None:
    """No restart is needed."""
    outbox = await _open(tmp_path / "mailroom.db", disk)
    try:
        for error in (apsw.FullError, apsw.IOError):
            disk.fault = lambda operation, name, error=error: error
            for _ in range(3):
                with pytest.raises(CannotKeep):
                    await outbox.put(message())
            disk.fault = None
            assert (await outbox.put(message())).fresh
    finally:
        await outbox.close()
