"""Tests with files that are deleted, moved or replaced while they are open: no message is accepted and then lost."""

import asyncio
import filecmp
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import apsw
import pytest
import structlog.testing

from mailroom.errors import CannotKeep
from mailroom.message import State
from mailroom.outbox import DedupKey, Lease, Settlement
from mailroom.outbox.sqlite.engine import SqliteOutbox
from tests.clock import START, FakeClock
from tests.outbox.contract import claim_one, message

SECRET = "a-secret-key-of-the-tests"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where the outbox is."""
    return tmp_path / "data" / "mailroom.db"


async def opened(path: Path) -> SqliteOutbox:
    """Open it as a server does."""
    return await SqliteOutbox.open(path, secret_keys=[SECRET], clock=FakeClock(), wait_seconds=0)


@pytest.fixture
async def outbox(path: Path) -> AsyncIterator[SqliteOutbox]:
    """Return an open outbox."""
    outbox = await opened(path)
    yield outbox
    await outbox.close()


def files(path: Path) -> list[Path]:
    """Return the database and what SQLite has beside it."""
    return sorted(path.parent.glob(f"{path.name}*"))


def at_a_crash(path: Path, folder: Path) -> Path:
    """Return a copy of the files as a process finds them after this one was killed."""
    folder.mkdir()
    for file in files(path):
        if not file.name.endswith("-shm"):
            copy(file, folder)
    return folder / path.name


def copy(source: Path, target: Path) -> None:
    """Copy a file in another process: closing it in this one would drop SQLite's locks."""
    subprocess.run(["cp", str(source), str(target)], check=True)


def delete(*paths: Path) -> None:
    """Delete files."""
    for path in paths:
        path.unlink()


def log_of(path: Path) -> Path:
    """Return the database's log."""
    return path.with_name(f"{path.name}-wal")


async def states(path: Path) -> dict[str, State]:
    """Return the messages that a start finds."""
    outbox = await opened(path)
    try:
        return {record.id: record.state for record in await outbox.find(limit=1000)}
    finally:
        await outbox.close()


async def test_a_deleted_database_refuses_the_next_message(outbox: SqliteOutbox, path: Path) -> None:
    """The log says what to do, once; no new file is created."""
    await outbox.put(message())
    delete(*files(path))
    with structlog.testing.capture_logs() as lines:
        for _ in range(3):
            with pytest.raises(CannotKeep, match=r"mailroom\.db was deleted or moved.*put it back, or restart"):
                await outbox.put(message())
    assert [(line["event"], line["log_level"]) for line in lines] == [("outbox.moved", "error")]
    assert files(path) == []


async def test_accepted_messages_are_sent_although_the_database_is_deleted(outbox: SqliteOutbox, path: Path) -> None:
    """From the open file. A refused message is not sent."""
    waiting, leased = message(), message()
    await outbox.put(waiting)
    await outbox.put(leased, lease=Lease("main", 300))
    delete(path)
    for _ in range(2):
        with pytest.raises(CannotKeep):
            await outbox.put(message())
    assert (await outbox.settle(Settlement(leased.id, State.SENT, ()))).is_recorded
    assert (await claim_one(outbox, START)).message == waiting


@pytest.mark.parametrize("alone", [True, False])
async def test_a_database_that_is_put_back_is_used_again(outbox: SqliteOutbox, path: Path, alone: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """Without a restart, with all its messages, whether its log was moved with it or not."""
    before, after = message(), message()
    await outbox.put(before)
    away = path.parent.with_name("away")
    away.mkdir()
    moved = [path] if alone else [path, Path(f"{path}-wal"), Path(f"{path}-shm")]
    for file in moved:
        file.rename(away / file.name)
    with pytest.raises(CannotKeep):
        await outbox.put(message())
    for file in moved:
        (away / file.name).rename(file)
    with structlog.testing.capture_logs() as lines:
        await outbox.put(after)
    assert [line["event"] for line in lines] == ["outbox.recovered"]
    found = await states(at_a_crash(path, path.parent.with_name("crash")))
    assert {before.id, after.id} <= found.keys()


@pytest.mark.parametrize("replaced", [True, False])
async def test_a_deleted_log_loses_nothing(outbox: SqliteOutbox, path: Path, replaced: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """Its content, including the commit that detected it, is in the database when the put returns."""
    kept = [message() for _ in range(20)]
    for one in kept[:10]:
        await outbox.put(one)
    delete(log_of(path))
    if replaced:
        copy(Path(os.devnull), log_of(path))
    with structlog.testing.capture_logs() as lines:
        await outbox.put(kept[10])
        found = await states(at_a_crash(path, path.parent.with_name("at once")))
        for one in kept[11:]:
            await outbox.put(one)
    assert found.keys() == {one.id for one in kept[:11]}
    assert [(line["event"], line["log_level"]) for line in lines] == [("outbox.moved", "error")]
    assert "what it held was saved" in lines[0]["problem"]
    assert (await states(at_a_crash(path, path.parent.with_name("later")))).keys() == {one.id for one in kept}
    assert {record.id for record in await outbox.find(limit=100)} == {one.id for one in kept}


async def test_a_log_deleted_during_a_read_refuses_until_it_can_be_saved(outbox: SqliteOutbox, path: Path) -> None:
    """A snapshot in another process holds the log; what was acknowledged is there in the end."""
    before, after = message(), message()
    await outbox.put(before)
    reader = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM messages").get == 1
    await outbox.put(message())
    delete(log_of(path))
    with pytest.raises(CannotKeep, match="another process reads the outbox"):
        await outbox.put(message())
    reader.close(True)
    await outbox.put(after)
    assert {before.id, after.id} <= (await states(at_a_crash(path, path.parent.with_name("crash")))).keys()


async def test_a_restored_copy_is_used_with_the_messages_accepted_since(outbox: SqliteOutbox, path: Path) -> None:
    """A restored backup: unsent messages are not lost, and sent ones are not sent again."""
    old, sent, since, leased = message(), message(), message(), message()
    await outbox.put(old)
    await outbox.put(sent, lease=Lease("main", 300))
    await outbox.truncate_log()
    copy(path, path.with_name("backup"))
    assert (await outbox.settle(Settlement(sent.id, State.SENT, ()))).is_recorded
    await outbox.put(since, once=[DedupKey(b"welcome")])
    await outbox.put(leased, lease=Lease("main", 300))
    await outbox.secrets.put("main token", "the next consent")
    delete(*files(path))
    with pytest.raises(CannotKeep):
        await outbox.put(message())
    path.with_name("backup").rename(path)
    after = message()
    await outbox.put(after)
    assert (await outbox.settle(Settlement(leased.id, State.SENT, ()))).is_recorded
    assert (await outbox.put(message(), once=[DedupKey(b"welcome")])).id == since.id
    assert await outbox.secrets.get("main token") == "the next consent"
    found = await states(at_a_crash(path, path.parent.with_name("crash")))
    wanted = {old.id: State.QUEUED, sent.id: State.SENT, since.id: State.QUEUED, leased.id: State.SENT}
    assert found | wanted | {after.id: State.QUEUED} == found
    assert {record.id for record in await outbox.find(recipient="ada@example.com", limit=1000)} == found.keys()


async def test_another_outbox_at_the_path_is_not_changed(outbox: SqliteOutbox, path: Path, tmp_path: Path) -> None:
    """It has another key, and may be served by another process."""
    await outbox.put(message())
    other = tmp_path / "other" / "mailroom.db"
    await (await opened(other)).close()
    delete(*files(path))
    copy(other, path)
    for _ in range(2):
        with pytest.raises(CannotKeep, match=r"was replaced.*it is not the outbox.*restart to use this one"):
            await outbox.put(message())
    assert filecmp.cmp(path, other, shallow=False)
    assert files(path) == [path]


async def test_a_copy_that_another_process_serves_is_not_used(outbox: SqliteOutbox, path: Path) -> None:
    """After `rm -rf data/*` and a restored backup the second process may serve from it; the first stores nothing."""
    await outbox.put(message())
    await outbox.truncate_log()
    copy(path, path.with_name("backup"))
    delete(*files(path))
    path.with_name("backup").rename(path)
    second = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.outbox.serving", str(path), "wait"),
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[3],
    )
    try:
        assert second.stdout is not None
        assert await second.stdout.readline() == b"open\n"
        with pytest.raises(CannotKeep, match=rf"served by process {second.pid}.*restart"):
            await outbox.put(message())
    finally:
        second.kill()
        await second.communicate()
    await outbox.put(message())


async def test_reading_follows_a_replaced_file(outbox: SqliteOutbox, path: Path) -> None:
    """Messages of the deleted file are not shown."""
    kept = message()
    await outbox.put(kept)
    assert await outbox.get(kept.id) is not None
    await outbox.truncate_log()
    copy(path, path.with_name("copied"))
    delete(path)
    copy(path.with_name("copied"), path)
    await outbox.put(message())
    assert len(await outbox.find(limit=10)) == 2
