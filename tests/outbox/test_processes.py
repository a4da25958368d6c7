"""Tests with several processes, with SIGKILL, and with file systems that are full or read-only."""

import asyncio
import os
import subprocess
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import pytest

from mailroom.clock import SystemClock
from mailroom.errors import CannotKeep, OutboxInUse
from mailroom.message import State
from mailroom.outbox import Lease, Settlement
from mailroom.outbox.sqlite.engine import SqliteOutbox
from tests.clock import START, FakeClock
from tests.outbox.contract import message, up_to
from tests.outbox.serving import SECRET

_ROOT: Final = Path(__file__).parents[2]
Serve = Callable[[str], Awaitable[Process]]


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Serve]:
    """Start a process that serves; killed at the end."""
    async with AsyncExitStack() as stack:

        async def started(what: str) -> Process:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.outbox.serving", str(tmp_path / "mailroom.db"), what),
                stdout=PIPE,
                cwd=_ROOT,
            )
            stack.push_async_callback(_kill, process)
            return process

        yield started


async def _kill(process: Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.communicate()


async def _line(process: Process) -> str:
    assert process.stdout is not None
    return (await process.stdout.readline()).decode().strip()


async def _open(path: Path, wait_seconds: float = 0.0) -> SqliteOutbox:
    return await SqliteOutbox.open(path, secret_keys=[SECRET], clock=SystemClock(), wait_seconds=wait_seconds)


async def test_the_error_of_a_second_process_suggests_postgresql(tmp_path: Path, serve: Serve) -> None:
    """It names the other process, too."""
    first = await serve("wait")
    assert await _line(first) == "open"
    with pytest.raises(OutboxInUse, match=rf"served by process {first.pid}.*PostgreSQL"):
        await _open(tmp_path / "mailroom.db")


async def test_opening_waits_twelve_seconds_for_the_lock(tmp_path: Path, serve: Serve) -> None:
    """As long as two processes overlap in a deploy."""
    assert await _line(await serve("wait")) == "open"
    clock = FakeClock()
    opening = asyncio.create_task(SqliteOutbox.open(tmp_path / "mailroom.db", secret_keys=[SECRET], clock=clock))
    await clock.until_asleep()
    await clock.advance(11.5)
    assert not opening.done()
    await clock.advance(1)
    with pytest.raises(OutboxInUse):
        await opening


async def test_a_second_process_takes_over_when_the_first_is_killed(tmp_path: Path, serve: Serve) -> None:
    """The kernel frees the lock, and the waiting process opens the outbox."""
    first = await serve("wait")
    assert await _line(first) == "open"
    second = await serve("wait")
    first.kill()
    assert await _line(second) == "open"
    with pytest.raises(OutboxInUse, match=f"process {second.pid}"):
        await _open(tmp_path / "mailroom.db")


async def test_accepted_messages_survive_sigkill(tmp_path: Path, serve: Serve) -> None:
    """Killed three times while writing; leased messages are due at once afterwards."""
    kept: set[str] = set()
    sent: set[str] = set()
    for kill_after in (40, 300, 1000):
        process = await serve("write")
        assert process.stdout is not None
        lines = [await process.stdout.readline() for _ in range(kill_after)]
        process.kill()
        rest, _ = await process.communicate()
        for line in [*lines, *rest.splitlines()]:
            word, _, id_ = line.decode().strip().partition(" ")
            if word in {"kept", "sent"} and len(id_) == 36:
                (kept if word == "kept" else sent).add(id_)
    outbox = await _open(tmp_path / "mailroom.db")
    try:
        records = {record.id: record for record in await outbox.find(limit=100_000)}
        assert kept <= records.keys()
        assert all(records[id_].state is State.SENT for id_ in sent)
        claimed = await outbox.claim([up_to(100_000)], lease_seconds=300)
        due = {leased.message.id for leased in claimed.leased}
        assert due == {id_ for id_, record in records.items() if record.state is State.QUEUED}
        assert kept - sent <= due | {id_ for id_, record in records.items() if record.state is State.SENT}
    finally:
        await outbox.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
async def test_the_error_for_a_read_only_file_names_it(tmp_path: Path, serve: Serve) -> None:
    """And says what to do."""
    await (await _open(tmp_path / "mailroom.db")).close()
    os.chmod(tmp_path / "mailroom.db", 0o444)  # noqa: PTH101 - a test may block
    for folder in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        os.chmod(folder, 0o755)  # noqa: PTH101 - likewise
    process = await serve("ask")
    line = await _line(process)
    assert line.startswith(f"OutboxError: {tmp_path / 'mailroom.db'} cannot be written (Permission denied): let the")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 1 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


async def test_a_full_file_system_refuses_and_recovers(small_disk: Path) -> None:
    """A real ENOSPC: accepted messages stay, others raise CannotKeep, and freed space is used at once."""
    ballast = small_disk / "ballast"
    _fill(ballast, 400_000)
    outbox = await _open(small_disk / "mailroom.db")
    try:
        kept, refused = [], 0
        while refused < 3:
            one = message(START, payload={"code": "x" * 3000})
            try:
                await outbox.put(one, lease=Lease("main", 300))
                kept.append(one.id)
            except CannotKeep:
                refused += 1
        assert kept
        room = await outbox.free_bytes()
        assert room is not None
        assert room < 100_000
        _fill(ballast, 0)
        assert (await outbox.put(message())).fresh
        for id_ in kept:
            assert (await outbox.settle(Settlement(id_, State.SENT, ()))).is_recorded
    finally:
        await outbox.close()


def _fill(path: Path, size: int) -> None:
    path.write_bytes(bytes(size))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux locks an octet for a descriptor")
async def test_deleting_the_lock_file_does_not_unlock_the_database(tmp_path: Path, serve: Serve) -> None:
    """The database is locked as well; SQLite's own locks do not release that."""
    first = await serve("write")
    assert await _line(first) == "open"
    for _ in range(200):
        await _line(first)
    for _ in range(2):  # the one that is refused makes a new file
        (tmp_path / "mailroom.db.lock").unlink()
        with pytest.raises(OutboxInUse, match="another process"):
            await _open(tmp_path / "mailroom.db")
    first.kill()
    await first.communicate()
    await (await _open(tmp_path / "mailroom.db")).close()
