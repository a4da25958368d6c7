"""Tests of the outbox on SQLite: the contract, and what is specific to SQLite."""

import asyncio
import os
import re
import stat
from pathlib import Path
from typing import Any

import apsw
import pytest
import structlog

from mailroom.errors import CannotKeep, OutboxError, SealBroken
from mailroom.message import Attempt, State, new_id
from mailroom.outbox import (
    HELD_EXHAUSTED,
    HELD_MISCONFIGURED,
    HELD_RENDERING,
    Lease,
    PutResult,
    Settlement,
)
from mailroom.outbox.limits import RateLimit
from mailroom.outbox.rows import COLUMNS, recipient_key, row_of
from mailroom.outbox.sqlite import database, queries
from mailroom.outbox.sqlite.database import SCHEMA, connect, create, create_or_unlock_seal
from mailroom.outbox.sqlite.engine import SqliteOutbox
from mailroom.outbox.sqlite.inserts import RecentBodies
from mailroom.outbox.sqlite.operator import open_for_operator
from tests.clock import START, FakeClock
from tests.outbox.contract import OutboxContract, claim, claim_one, email, message
from tests.outbox.limits_contract import LimitsContract, event
from tests.outbox.sqlite.conftest import SECRET, Open


class TestContract(OutboxContract):
    """The contract, on SQLite."""


class TestLimitsContract(LimitsContract):
    """The contract of the limits, on SQLite."""


# The file


async def test_only_the_owner_can_read_the_files(outbox: SqliteOutbox, path: Path) -> None:
    """Nor the directory that was created for them."""
    await outbox.put(message())
    names = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert names == dict.fromkeys(("mailroom.db", "mailroom.db-wal", "mailroom.db-shm", "mailroom.db.lock"), 0o600)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_the_connection_uses_a_write_ahead_log_and_full_sync(outbox: SqliteOutbox) -> None:
    """Every commit is synced."""

    def look(connection: apsw.Connection, asked: Any) -> list[list[Any]]:
        return [[connection.pragma(name) for name in names] for names in asked]

    assert await outbox._writer.run(look, ("journal_mode", "synchronous", "secure_delete")) == ["wal", 2, 2]


async def test_messages_survive_closing_and_opening(open_outbox: Open) -> None:
    """In one file."""
    first = await open_outbox()
    kept = message(ip="2001:db8::1", languages=("fr",))
    await first.put(kept)
    await first.close()
    assert (await claim_one(await open_outbox(), START)).message == kept


async def test_closing_finishes_waiting_puts(open_outbox: Open) -> None:
    """Later puts are refused."""
    outbox = await open_outbox()
    puts = [asyncio.create_task(outbox.put(message())) for _ in range(20)]
    await asyncio.sleep(0)
    await outbox.close()
    assert all(kept.fresh for kept in await asyncio.gather(*puts))
    with pytest.raises(CannotKeep, match="closed"):
        await outbox.put(message())


async def test_lifetimes_start_again_when_the_clock_was_set_back(open_outbox: Open, clock: FakeClock) -> None:
    """By an hour, between two processes: no message waits for that hour, and none lives longer."""
    first = await open_outbox()
    queued, leased, held, earlier = message(), message(), message(lifetime=7200), message(START - 7200, lifetime=86400)
    await first.put(queued)
    await first.put(leased, lease=Lease("main", 300))
    await first.put(held, lease=Lease("main", 300))
    await first.settle(Settlement(held.id, State.HELD, (), reason=HELD_EXHAUSTED))
    await first.put(earlier, lease=Lease("main", 300))
    await first.close()
    clock.set(START - 3600)
    await (await open_outbox()).close()  # once is enough
    outbox = await open_outbox()
    claimed = await claim(outbox, START - 3600)
    assert {one.message.id for one in claimed.leased} == {queued.id, leased.id, earlier.id}
    ends = {id_: (await outbox.get(id_)).expires_at for id_ in (queued.id, leased.id, held.id, earlier.id)}  # type: ignore[union-attr]  # they are there
    assert ends == {
        queued.id: START - 3600 + 570,
        leased.id: START - 3600 + 570,
        held.id: START - 3600 + 7200,
        earlier.id: START - 7200 + 86400,
    }
    assert held.id in {one.id for one in await outbox.expire(now=START + 3601, limit=9)}


async def test_a_row_that_cannot_be_decoded_is_held_and_does_not_block_others(outbox: SqliteOutbox) -> None:
    """The reason is recorded."""
    broken, sound = message(), message()
    await outbox.put(broken)
    await outbox.put(sound)
    sealed = outbox._seal.seal_json(broken.id, "sealed", ["of another shape"])

    def change(connection: apsw.Connection, ids: Any) -> list[None]:
        connection.execute("UPDATE messages SET sealed = ? WHERE id = ?", (sealed, *ids))
        return [None]

    await outbox._writer.run(change, broken.id)
    assert (await claim_one(outbox, START)).message == sound
    assert await outbox.held() == {"it cannot be read: TypeError": 1}


async def test_the_log_is_emptied_unless_another_process_reads(outbox: SqliteOutbox, path: Path) -> None:
    """It does not wait for the reader."""
    log = path.with_name("mailroom.db-wal")
    await outbox.put(message())
    reader = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM messages").get == 1
    await outbox.put(message())
    assert not await outbox.truncate_log()
    assert _size(log)
    reader.close(True)
    assert await outbox.truncate_log()
    assert not _size(log)
    await outbox.put(message())
    assert len((await claim(outbox, START)).leased) == 3


def _size(file: Path) -> int:
    return file.stat().st_size


async def test_the_error_for_a_directory_that_cannot_be_created_names_it(tmp_path: Path, clock: FakeClock) -> None:
    """And says what to do."""
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutboxError, match=r"file/mailroom\.db cannot be written"):
        await SqliteOutbox.open(tmp_path / "file" / "mailroom.db", secret_keys=[SECRET], clock=clock)


@pytest.mark.parametrize("content", [b"no database, a letter " * 500, None])
async def test_a_file_that_is_not_an_outbox_is_not_changed(
    open_outbox: Open, path: Path, content: bytes | None
) -> None:
    """Neither a text nor another application's database is overwritten."""
    _write(path, content)
    with pytest.raises(OutboxError, match=r"not a database|not Mailroom's"):
        await open_outbox()
    assert content is None or _content(path.parent).startswith(content)


def _write(path: Path, content: bytes | None) -> None:
    path.parent.mkdir()
    if content is not None:
        path.write_bytes(content)
        return
    other = apsw.Connection(str(path))
    other.execute("CREATE TABLE theirs (x)")
    other.close()


def _content(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in sorted(folder.iterdir()))


# Group commit


async def test_concurrent_puts_share_transactions(outbox: SqliteOutbox, path: Path) -> None:
    """1,024 puts of 64 callers take at most 64 commits."""
    watching = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    commits = 0

    def counting(connection: apsw.Connection) -> bool:
        nonlocal commits
        commits += 1
        return False

    writing = outbox._writer._files.connection
    assert writing is not None
    writing.set_commit_hook(lambda: counting(watching))
    waiting = iter([message(recipient=f"user{i}@example.com") for i in range(1024)])

    async def caller() -> None:
        for one in waiting:
            assert (await outbox.put(one)).fresh

    await asyncio.gather(*(caller() for _ in range(64)))
    assert watching.execute("SELECT count(*) FROM messages").get == 1024
    watching.close()
    assert commits <= 1024 / 16


async def test_a_message_needs_one_insert_and_one_update(outbox: SqliteOutbox) -> None:
    """If it is put with a lease and sent by the first attempt."""
    writing = outbox._writer._files.connection
    assert writing is not None
    statements: list[str] = []

    def traced(cursor: Any, sql: str, bindings: Any) -> bool:
        statements.append(sql.split(maxsplit=1)[0])
        return True

    writing.exec_trace = traced
    born = message()
    await outbox.put(born, repeat_of=b"body", lease=Lease("main", 300))
    await outbox.settle(Settlement(born.id, State.SENT, (Attempt("main", START),)))
    assert statements == ["BEGIN", "INSERT", "COMMIT", "BEGIN", "WITH", "WITH", "COMMIT"]


@pytest.mark.parametrize(
    ("sql", "index"),
    [
        ("_DUE", "messages_due (priority=? AND due_at>? AND due_at<?)"),
        ("_NEXT", "messages_due (priority=?"),
        ("_RELEASE", "messages_held (reason=?)"),
        ("_EXPIRE", "messages_due (priority=? AND due_at>? AND due_at<?)"),
        ("_PURGE", "sqlite_autoindex_messages_1 (id<?)"),
        ("_RECLAIM", "USING INDEX messages_due"),
        ("_SETTLE", "sqlite_autoindex_messages_1 (id=?)"),
        ("_LEASE", "sqlite_autoindex_messages_1 (id=?)"),
        ("_DUE", "SEARCH newer USING INDEX messages_contested (supersede_key=? AND number>?)"),
        ("_MARK_SUPERSEDED", "SEARCH messages USING INDEX messages_contested (supersede_key=? AND number<?)"),
        ("_END_SUPERSEDED", "INDEX messages_superseded"),
    ],
)
async def test_no_statement_reads_the_whole_table(outbox: SqliteOutbox, sql: str, index: str) -> None:
    """Not even with a long backlog or history."""
    from mailroom.outbox.sqlite import operations  # noqa: PLC0415 - by name

    row = {"_SETTLE": "(1,2,3,4,5,6,7,8,9)", "_LEASE": "(1,2,3)"}.get(sql, "")
    text = getattr(operations, sql).replace("{values}", row)
    parameters = max(map(int, re.findall(r"\?(\d)", text)), default=0) or text.count("?")

    def plan(connection: apsw.Connection, arguments: Any) -> list[str]:
        rows = connection.execute(f"EXPLAIN QUERY PLAN {text}", (None,) * parameters).fetchall()
        return ["\n".join(str(row[3]) for row in rows)]

    found = await outbox._writer.run(plan, None)
    assert index in found
    assert "SCAN messages\n" not in found + "\n"


async def test_searching_a_recipient_does_not_read_the_whole_table(outbox: SqliteOutbox) -> None:
    """Only messages that are not indexed yet are read."""
    for text in (queries._LANGUAGES, f"SELECT id FROM messages WHERE {queries._OF_RECIPIENT} AND +id < ? LIMIT 9"):
        plan = await outbox._reader.rows(f"EXPLAIN QUERY PLAN {text}", (b"key", "id")[: 1 + ("?" in text[-20:])])
        found = "\n".join(str(row[3]) for row in plan)
        assert found.count("SEARCH messages USING INTEGER PRIMARY KEY (rowid") == 2
        assert "SEARCH recipients USING PRIMARY KEY (recipient_key=?)" in found
        assert "SCAN messages" not in found


async def test_a_reused_row_number_does_not_belong_to_the_old_recipient(outbox: SqliteOutbox, path: Path) -> None:
    """After a purge of all rows SQLite begins at 1 again."""
    for recipient in ("ada@example.com", "bob@example.com"):
        for i in range(3):
            one = message(START + i, recipient=recipient, languages=("en",))
            await outbox.put(one, lease=Lease("main", 300))
            await outbox.settle(Settlement(one.id, State.SENT, ()))
        assert [record.recipient for record in await outbox.find()] == [recipient] * 3
        assert await outbox.index(limit=10) == 3
        assert len(await outbox.find(recipient=recipient)) == 3
        assert await outbox.find(recipient="ada@example.com" if recipient.startswith("bob") else "eve@x.org") == []
        assert await outbox.purge(before=START + 100, now=START + 100, limit=10) == 3
    assert await outbox._reader.rows("SELECT count(*) FROM recipients") == [(0,)]


# Repeats


async def test_repeats_are_recognized_after_a_restart(open_outbox: Open, clock: FakeClock) -> None:
    """Logto repeats a request when the server was killed before its response."""
    before = await open_outbox()
    first = message()
    await before.put(first, repeat_of=b"body")
    await before.close()
    await clock.advance(59)
    after = await open_outbox()
    kept = await after.put(message(START + 59), repeat_of=b"body")
    assert (kept.id, kept.fresh) == (first.id, False)
    assert (await after.put(message(START + 61), repeat_of=b"body")).fresh


async def test_a_body_whose_put_was_refused_is_not_a_repeat(outbox: SqliteOutbox) -> None:
    """It was refused, and never became durable."""
    writing = outbox._writer._files.connection
    assert writing is not None
    writing.pragma("query_only", 1)
    with pytest.raises(CannotKeep):
        await outbox.put(message(), repeat_of=b"body")
    writing.pragma("query_only", 0)
    again = message()
    assert (await outbox.put(again, repeat_of=b"body")) == PutResult(again.id, fresh=True)
    assert (await outbox.put(message(), repeat_of=b"body")) == PutResult(again.id, fresh=False)


async def test_repeats_are_recognized_when_a_concurrent_put_failed(outbox: SqliteOutbox) -> None:
    """A duplicate id makes the statement fail that they share."""
    known, first, second = message(), message(), message()
    await outbox.put(known)
    results = await asyncio.gather(
        outbox.put(known, repeat_of=b"another body"),
        outbox.put(first, repeat_of=b"body"),
        outbox.put(second, repeat_of=b"body"),
        return_exceptions=True,
    )
    assert isinstance(results[0], OutboxError)
    assert list(results[1:]) == [PutResult(first.id, fresh=True), PutResult(first.id, fresh=False)]
    assert (await outbox.put(message(), repeat_of=b"another body")).fresh


def test_bodies_are_remembered_for_one_minute() -> None:
    """Memory is limited under a flood of requests."""
    repeats = RecentBodies()
    for second in range(600):
        for moment in (START + second, START + second - 0.01):  # requests overtake each other
            repeats.add(b"%f" % moment, new_id(moment, bytes(10)), moment)
    for second in range(540, 600):
        assert repeats.find(b"%f" % (START + second)) == new_id(START + second, bytes(10))
    assert repeats.find(b"%f" % (START + 500)) is None
    assert sum(map(len, repeats._bodies)) <= 2 * 90 + 2


def test_bodies_are_remembered_when_the_clock_was_set_back() -> None:
    """By an hour."""
    repeats = RecentBodies()
    for moment in (START, START - 3600, START - 3599, START - 3580):
        repeats.add(b"%f" % moment, new_id(moment, bytes(10)), moment)
    assert all(repeats.find(b"%f" % (START - seconds)) for seconds in (0, 3600, 3599, 3580))


async def test_a_file_of_schema_1_is_migrated(open_outbox: Open, path: Path) -> None:
    """Its messages are found by recipient, and repeats are recognized."""
    ada = [message(START + i, recipient="ada@example.com", languages=("fr",)) for i in range(3)]
    create(path)
    connection = connect(path)
    connection.execute((SCHEMA / "sqlite-1.sql").read_text())
    connection.pragma("user_version", 1)
    seal = create_or_unlock_seal(connection, [SECRET], os.urandom)
    columns = COLUMNS.replace(" supersede_key,", "").removesuffix(", route")
    for i, one in enumerate(ada):
        key = seal.key_of("repeat", b"body %d" % i)
        mailbox = recipient_key(seal, one.recipient)
        row = row_of(one, seal=seal, recipient_key=mailbox, repeat_key=key, supersede_key=None, lease=None, owner="")
        values = [value for name, value in zip(COLUMNS.split(", "), row, strict=True) if name in columns.split(", ")]
        connection.execute(f"INSERT INTO messages ({columns}) VALUES ({','.join('?' * len(values))})", values)
    connection.close()
    after = await open_outbox()
    assert await after.index(limit=10) == 0
    assert await after.languages("Ada@example.com") == ("fr",)
    assert [record.id for record in await after.find(recipient="ada@example.com")] == [one.id for one in ada[::-1]]
    assert (await after.put(message(START + 5), repeat_of=b"body 2")).id == ada[2].id


# Taking over


async def test_leases_of_the_previous_process_end_at_the_start(open_outbox: Open) -> None:
    """Its lock is free, so it has ended; its attempts still count."""
    before = await open_outbox()
    wanted = message()
    await before.put(wanted, lease=Lease("main", 300))
    await before.close()
    leased = await claim_one(await open_outbox(), START)
    assert leased.message == wanted
    assert leased.attempts == (Attempt("main", START), Attempt("main", START))


async def test_a_restart_releases_messages_held_until_a_restart(open_outbox: Open) -> None:
    """A configuration or template may be repaired; messages without attempts left stay held."""
    before = await open_outbox()
    for reason in (HELD_MISCONFIGURED, HELD_RENDERING, HELD_EXHAUSTED):
        one = message()
        await before.put(one, lease=Lease("main", 300))
        await before.settle(Settlement(one.id, State.HELD, (), reason=reason))
    await before.close()
    after = await open_outbox()
    assert await after.held() == {HELD_EXHAUSTED: 1}
    assert len((await claim(after, START)).leased) == 2


async def test_each_process_has_its_own_owner_name(open_outbox: Open) -> None:
    """A lease belongs to one process."""
    before = await open_outbox()
    one = message()
    await before.put(one, lease=Lease("main", 300))
    await before.close()
    after = await open_outbox()
    await claim_one(after, START)
    (row,) = await after._reader.rows("SELECT owner FROM messages")
    assert row == (after._owner,)
    assert after._owner != before._owner


# Trouble


async def test_a_full_database_refuses_and_recovers(outbox: SqliteOutbox) -> None:
    """SQLite's own limit of pages is reached; with a higher one it works again."""
    await outbox.put(message())
    writing = outbox._writer._files.connection
    assert writing is not None
    writing.pragma("max_page_count", writing.pragma("page_count"))
    with pytest.raises(CannotKeep, match="full"):
        await asyncio.gather(*(outbox.put(message()) for _ in range(50)))
    writing.pragma("max_page_count", 1_000_000)
    assert (await outbox.put(message())).fresh
    assert len(await outbox.find()) == 2


async def test_a_locked_database_refuses_and_recovers(outbox: SqliteOutbox, path: Path) -> None:
    """Another tool locks the file: puts are refused after about a second, and work as soon as it is unlocked."""
    other = apsw.Connection(str(path))
    other.set_busy_timeout(10_000)
    other.execute("BEGIN IMMEDIATE")
    answers = await asyncio.gather(*(outbox.put(message()) for _ in range(10)), return_exceptions=True)
    assert all(isinstance(answer, CannotKeep) for answer in answers)
    assert await outbox.find() == []
    other.execute("ROLLBACK")
    other.close()
    assert (await outbox.put(message())).fresh


async def test_a_read_only_database_refuses_and_recovers(outbox: SqliteOutbox) -> None:
    """SQLITE_READONLY, as after the file system was remounted."""
    writing = outbox._writer._files.connection
    assert writing is not None
    writing.pragma("query_only", 1)
    with pytest.raises(CannotKeep, match="readonly"):
        await outbox.put(message())
    writing.pragma("query_only", 0)
    assert (await outbox.put(message())).fresh


# Secrets


async def test_no_secret_is_in_the_files_in_clear(outbox: SqliteOutbox, path: Path) -> None:
    """No code, link, address or body is in the file, its log and its shared memory, before and after settling."""
    secrets = [
        b"739105",
        b"s3cr3t-t0ken",
        b"n0te-of-theirs",
        b"ada@example",
        b"Ada@example",
        b"203.0.113.9",
        SECRET.encode(),
    ]
    one = message(ip="203.0.113.9")
    await outbox.put(one, repeat_of=b'{"code":"739105"}', lease=Lease("main", 300))
    await outbox.captured.keep(email(one.id))

    def seen() -> list[bytes]:
        content = _content(path.parent)
        assert one.id.encode() in content
        return [secret for secret in secrets if secret in content]

    assert seen() == []
    await outbox.settle(Settlement(one.id, State.SENT, (Attempt("main", START),)))
    assert seen() == []
    assert await outbox._reader.rows("SELECT sealed FROM messages") == [(None,)]


async def test_another_secret_key_does_not_open_the_outbox(open_outbox: Open) -> None:
    """The error says what to do; the file is not changed."""
    await (await open_outbox()).close()
    with pytest.raises(SealBroken, match="secret_key does not match"):
        await open_outbox(secret_keys=["another"])
    await open_outbox()


async def test_check_raises_for_another_secret_key(open_outbox: Open, path: Path) -> None:
    """While the file is open elsewhere, too."""
    await open_outbox()
    database.check(path, [SECRET])
    with pytest.raises(SealBroken):
        database.check(path, ["another"])


def test_check_ignores_a_file_that_is_being_created(path: Path) -> None:
    """Without a schema, and with a schema but no data key."""
    database.check(path, [SECRET])
    database.create(path)
    database.check(path, [SECRET])
    connection = database.connect(path)
    database.migrate(connection)
    database.check(path, [SECRET])
    connection.close()


async def test_the_secret_key_can_be_replaced(open_outbox: Open) -> None:
    """First both are configured, the new one first; then the new one alone. The rows are not rewritten."""
    first = await open_outbox()
    one = message()
    await first.put(one)
    await first.close()
    await (await open_outbox(secret_keys=["new", SECRET])).close()
    outbox = await open_outbox(secret_keys=["new"])
    assert (await claim_one(outbox, START)).message == one


@pytest.mark.parametrize("column", ["sealed", "record", "attempts"])
async def test_a_row_that_was_tampered_with_is_held(outbox: SqliteOutbox, path: Path, column: str) -> None:
    """A value from another row cannot be decrypted; other messages are claimed."""
    victim, other = message(), message(START + 1)
    await outbox.put(victim)
    await outbox.put(other)
    hand = apsw.Connection(str(path))
    hand.set_busy_timeout(10_000)
    if column == "attempts":
        hand.execute("UPDATE messages SET attempts = 'nothing' WHERE id = ?", (victim.id,))
    else:
        hand.execute(
            f"UPDATE messages SET {column} = (SELECT {column} FROM messages WHERE id = ?) WHERE id = ?",
            (other.id, victim.id),
        )
    hand.close()
    claimed = await claim(outbox, START + 2)
    assert [leased.message.id for leased in claimed.leased] == [other.id]
    record = await outbox.get(victim.id)
    assert record is not None
    assert record.state is State.HELD
    assert "another program" in record.reason
    assert record.recipient == ("" if column == "record" else "Ada@example.com")


# Looking beside the server


async def test_a_command_reads_while_a_server_runs(outbox: SqliteOutbox, path: Path) -> None:
    """Without the lock, and without waiting."""
    one = message()
    await outbox.put(one)
    beside = await open_for_operator(path, secret_keys=[SECRET])
    record = await beside.get(one.id)
    assert record is not None
    assert record.recipient == "Ada@example.com"
    await outbox.put(message(START + 1))
    assert len(await beside.find()) == 2
    await beside.close()


async def test_a_command_reads_while_no_server_runs(open_outbox: Open, path: Path) -> None:
    """There is no log then."""
    outbox = await open_outbox()
    await outbox.put(message())
    await outbox.close()
    beside = await open_for_operator(path, secret_keys=[SECRET])
    assert len(await beside.find()) == 1
    await beside.close()


async def test_reading_a_missing_file_raises_and_creates_nothing(path: Path) -> None:
    """And makes nothing there."""
    with pytest.raises(OutboxError, match="cannot be read"):
        await open_for_operator(path, secret_keys=[SECRET])
    with pytest.raises(FileNotFoundError):
        _content(path.parent)


# Schema versions


NEWEST = len([*SCHEMA.iterdir()])
"""Of the schemas."""


async def test_an_older_schema_is_migrated(open_outbox: Open, tmp_path: Path) -> None:
    """A version is one more file; stored messages stay."""
    before = await open_outbox()
    one = message()
    await before.put(one)
    await before.close()
    schema = _schema(tmp_path, "ALTER TABLE messages ADD COLUMN tenant TEXT NOT NULL DEFAULT 'x';")
    after = await open_outbox(schema=schema)
    assert await after._reader.rows("SELECT tenant FROM messages") == [("x",)]
    assert await after._reader.rows("PRAGMA user_version") == [(NEWEST + 1,)]
    assert (await claim_one(after, START)).message == one


async def test_the_file_is_copied_before_it_is_migrated(open_outbox: Open, tmp_path: Path, path: Path) -> None:
    """Beside it, whole, told in the log; a new file is not."""
    before = await open_outbox()
    one = message()
    await before.put(one)
    await before.close()
    assert not list(path.parent.glob("*.schema-*"))
    with structlog.testing.capture_logs() as log:
        await (await open_outbox(schema=_schema(tmp_path, "DELETE FROM messages;"))).close()
    copy = path.with_name(f"{path.name}.schema-{NEWEST}")
    assert [line["file"] for line in log if line["event"] == "outbox.backed_up"] == [str(copy)]
    copy.replace(path)
    path.with_name(f"{path.name}-wal").unlink(missing_ok=True)
    restored = await open_outbox()
    assert (await claim_one(restored, START)).message == one


async def test_an_older_program_goes_on_with_a_newer_schema_that_says_so(
    open_outbox: Open, tmp_path: Path, path: Path
) -> None:
    """It serves, and so do its commands; and nothing is migrated back."""
    newer = _schema(tmp_path, "ALTER TABLE messages ADD COLUMN tenant TEXT NOT NULL DEFAULT 'x';", oldest=NEWEST)
    await (await open_outbox(schema=newer)).close()
    outbox = await open_outbox()
    one = message()
    await outbox.put(one)
    assert (await claim_one(outbox, START)).message == one
    operator = await open_for_operator(path, secret_keys=[SECRET])
    assert await operator.get(one.id)
    await operator.close()
    assert await outbox._reader.rows("PRAGMA user_version") == [(NEWEST + 1,)]


async def test_a_failing_migration_leaves_the_older_version(open_outbox: Open, tmp_path: Path) -> None:
    """Each migration is one transaction."""
    await (await open_outbox()).close()
    broken = _schema(tmp_path, "CREATE TABLE half (x); ALTER TABLE nowhere ADD COLUMN x;")
    with pytest.raises(OutboxError, match="nowhere"):
        await open_outbox(schema=broken)
    outbox = await open_outbox()
    assert await outbox._reader.rows("SELECT name FROM sqlite_schema WHERE name = 'half'") == []


async def test_a_newer_file_is_refused(open_outbox: Open, tmp_path: Path, path: Path) -> None:
    """By the server and by a command that reads."""
    newer = _schema(tmp_path, "CREATE TABLE more (x);")
    await (await open_outbox(schema=newer)).close()
    with pytest.raises(OutboxError, match=rf"newer Mailroom \(schema {NEWEST + 1}, which this one, {NEWEST}"):
        await open_outbox()
    with pytest.raises(OutboxError, match="newer Mailroom"):
        await open_for_operator(path, secret_keys=[SECRET])


def _schema(tmp_path: Path, following: str, *, oldest: int = NEWEST + 1) -> Path:
    folder = tmp_path / "schema"
    folder.mkdir()
    for ours in SCHEMA.iterdir():
        (folder / ours.name).write_text(ours.read_text())
    (folder / f"sqlite-{NEWEST + 1}.sql").write_text(f"-- oldest: {oldest}\n{following}")
    return folder


async def test_events_that_were_not_stored_do_not_count_towards_the_limit(open_outbox: Open) -> None:
    """While the disk is full, Logto sends them again and again."""

    def fill_disk(_: apsw.Connection) -> None:
        raise apsw.FullError("of the tests")

    outbox = await open_outbox(event_limit=RateLimit(2, 3600))
    for _ in range(3):
        results = await asyncio.gather(outbox.put(event()), outbox._writer.call(fill_disk), return_exceptions=True)
        assert all(isinstance(result, CannotKeep) for result in results)
    assert [(await outbox.put(event())).is_held for _ in range(3)] == [False, False, True]
