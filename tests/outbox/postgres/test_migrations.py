"""The schema: who creates and migrates it, and which programs work with which version."""

import asyncio
import os
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from mailroom.errors import CannotKeep, OutboxError, SealBroken
from mailroom.message import Attempt, State
from mailroom.outbox import Lease, Settlement
from mailroom.outbox.postgres import migrations
from mailroom.outbox.postgres.database_pool import Connection, Database
from mailroom.outbox.postgres.migrations import SCHEMA
from mailroom.outbox.postgres.postgres_operator import open_operator
from mailroom.outbox.rows import COLUMNS, recipient_key, row_of
from tests.clock import START
from tests.outbox.contract import claim, claim_one, email, message
from tests.outbox.postgres.conftest import SECRET, Open
from tests.outbox.postgres.reads import wait_for_locks
from tests.postgres_server import PostgresServer

_LATEST = len(list(SCHEMA.iterdir()))
"""The version of our schema."""


def _next_schema(tmp_path: Path, sql: str) -> Path:
    """Return a folder with our migrations and one more."""
    folder = tmp_path / "schema"
    folder.mkdir()
    for ours in SCHEMA.iterdir():
        (folder / ours.name).write_text(ours.read_text())
    (folder / f"postgres-{_LATEST + 1}.sql").write_text(sql)
    return folder


async def test_processes_that_start_together_create_one_schema_and_one_key(open_outbox: Open) -> None:
    outboxes = await asyncio.gather(*(open_outbox() for _ in range(6)))
    one = message()
    await outboxes[0].put(one)
    assert (await claim_one(outboxes[5], START)).message == one


async def test_a_process_does_not_wait_long_for_another_that_migrates(
    open_outbox: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its server listens meanwhile and answers 503; so it does if the database does not answer."""
    monkeypatch.setattr(migrations, "_LOCK_MILLISECONDS", 50)
    outbox = await open_outbox()
    locked, done = asyncio.Event(), asyncio.Event()

    async def migrate(connection: Connection) -> None:
        await connection.execute(f"SELECT pg_advisory_xact_lock({migrations._LOCK})")
        locked.set()
        await done.wait()

    migrating = asyncio.create_task(outbox._database.run(migrate, seconds=60))
    await locked.wait()
    with pytest.raises(CannotKeep, match="55P03"):
        await open_outbox()
    done.set()
    await migrating
    await open_outbox()


async def test_a_compatible_newer_schema_is_used_by_both_versions(
    open_outbox: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    """A rolling deploy: the next version migrates while today's runs; then today's even starts again."""
    today = await open_outbox()
    one, other = message(), message()
    await today.put(one)
    sql = f"-- oldest: {_LATEST}\nALTER TABLE mailroom.messages ADD COLUMN tenant text NOT NULL DEFAULT 'x';"
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "SCHEMA", _next_schema(tmp_path, sql))
        following = await open_outbox()
        assert [tuple(row) for row in await following._database.rows("SELECT tenant FROM mailroom.messages")] == [
            ("x",)
        ]
    leased = await claim_one(following, START)
    assert leased.message == one
    await today.put(other)
    assert (await following.settle(Settlement(one.id, State.SENT, leased.attempts))).is_recorded
    restarted = await open_outbox()
    assert await restarted.get(other.id)
    operator = await open_operator(url, secret_keys=[SECRET])
    assert len(await operator.find()) == 2
    await operator.close()


async def test_messages_of_an_older_schema_are_found_and_sent(
    open_outbox: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    """Version 2 kept the content of a message in its row."""
    folder = tmp_path / "schema"
    folder.mkdir()
    for number in (1, 2):
        name = f"postgres-{number}.sql"
        (folder / name).write_text((SCHEMA / name).read_text())
    first, second, held = (message(START + number) for number in range(3))
    database = await Database.create(url)
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "SCHEMA", folder)
        seal = await migrations.prepare(database, [SECRET], os.urandom)
    await database.close()
    places = ", ".join("$10::text::json" if number == 10 else f"${number}" for number in range(1, 17))
    storing = await asyncpg.connect(url)  # a process that was not ended
    await storing.execute("BEGIN")
    for one in (first, second, held):
        mailbox = recipient_key(seal, one.recipient)
        keys: dict[str, Any] = {"recipient_key": mailbox, "repeat_key": None, "supersede_key": mailbox}
        row = row_of(one, seal=seal, lease=None, owner="", **keys)
        await storing.execute(f"INSERT INTO mailroom.messages ({COLUMNS}) VALUES ({places})", *row)
    await storing.execute("UPDATE mailroom.messages SET state = 'held', reason = 'x' WHERE id = $1", held.id)
    opening = asyncio.ensure_future(open_outbox())
    await wait_for_locks(storing)
    await storing.execute("COMMIT")
    await storing.close()
    outbox = await opening
    assert {one.id for one in await outbox.find(recipient=first.recipient)} == {first.id, second.id, held.id}
    leased = (await claim_one(outbox, START + 3)).message
    assert (leased.id, leased.recipient, leased.payload) == (second.id, second.recipient, second.payload)
    third = message(START + 4)
    await outbox.put(third, supersede_key=b"other")
    result = await outbox.settle(Settlement(second.id, State.SENT, ()))
    assert [one.id for one in result.superseded] == [first.id]
    assert await outbox.release("x", now=START + 4) == 1
    assert {one.message.id for one in (await claim(outbox, START + 5)).leased} == {held.id, third.id}


async def test_an_incompatible_newer_schema_is_refused(
    open_outbox: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    """By servers and commands, with what to do."""
    with monkeypatch.context() as patch:
        sql = f"-- oldest: {_LATEST + 1}\nCREATE TABLE mailroom.more (x int);"
        patch.setattr(migrations, "SCHEMA", _next_schema(tmp_path, sql))
        await open_outbox()
    with pytest.raises(OutboxError, match="newer Mailroom"):
        await open_outbox()
    with pytest.raises(OutboxError, match="newer Mailroom"):
        await open_operator(url, secret_keys=[SECRET])


async def test_a_failing_migration_leaves_the_older_version(
    open_outbox: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, postgres: PostgresServer
) -> None:
    """Each start is one transaction."""
    await open_outbox()
    with monkeypatch.context() as patch:
        sql = "-- oldest: 1\nCREATE TABLE mailroom.half (x int); ALTER TABLE mailroom.nowhere ADD COLUMN x int;"
        patch.setattr(migrations, "SCHEMA", _next_schema(tmp_path, sql))
        with pytest.raises(OutboxError, match="nowhere"):
            await open_outbox()
    assert (await (await open_outbox()).put(message())).fresh
    stored = postgres.psql("SELECT to_regclass('mailroom.half') IS NULL, max(version) FROM mailroom.schema")
    assert stored == f"t|{_LATEST}\n"


async def test_a_command_does_not_create_the_schema(url: str, postgres: PostgresServer) -> None:
    with pytest.raises(OutboxError, match="serve it once"):
        await open_operator(url, secret_keys=[SECRET])
    assert postgres.psql("SELECT to_regnamespace('mailroom') IS NULL") == "t\n"


async def test_another_secret_key_does_not_open_the_outbox(open_outbox: Open, url: str) -> None:
    await open_outbox()
    with pytest.raises(SealBroken, match="secret_key does not match"):
        await open_outbox(secret_keys=["another"])
    with pytest.raises(SealBroken):
        await open_operator(url, secret_keys=["another"])


async def test_the_secret_key_can_be_replaced(open_outbox: Open) -> None:
    """First both are configured, the new one first; then the new one alone."""
    first = await open_outbox()
    one = message()
    await first.put(one)
    await open_outbox(secret_keys=["new", SECRET])
    assert (await claim_one(await open_outbox(secret_keys=["new"]), START)).message == one


async def test_no_secret_is_readable_in_the_database(open_outbox: Open, postgres: PostgresServer) -> None:
    """Neither while a message waits nor once it is settled; the payload is gone then."""
    outbox = await open_outbox()
    one = message(ip="203.0.113.9")
    await outbox.put(one, repeat_of=b'{"code":"739105"}', supersede_key=b"ada@example.com", lease=Lease("main", 300))
    await outbox.captured.keep(email(one.id))
    secrets = ("739105", "s3cr3t-t0ken", "n0te-of-theirs", "ada@example.com", "203.0.113.9", SECRET)

    def seen() -> list[str]:
        content = postgres.run("pg_dump", "--inserts", postgres.dsn())
        assert one.id in content
        hexed = [secret.encode().hex() for secret in secrets]
        return [secret for secret in (*secrets, *hexed) if secret in content.lower()]

    assert seen() == []
    await outbox.settle(Settlement(one.id, State.SENT, (Attempt("main", START),)))
    assert seen() == []
    assert postgres.psql("SELECT count(*) FROM mailroom.messages, mailroom.contents") == "0\n"


async def test_a_row_that_was_tampered_with_is_held(open_outbox: Open, postgres: PostgresServer) -> None:
    """Other messages are claimed."""
    outbox = await open_outbox()
    victim, other = message(), message(START + 1)
    for one in (victim, other):
        await outbox.put(one)
    sealed = f"(SELECT sealed FROM mailroom.contents WHERE id = '{other.id}')"
    postgres.psql(f"UPDATE mailroom.contents SET sealed = {sealed} WHERE id = '{victim.id}'")
    assert (await claim_one(outbox, START + 2)).message == other
    record = await outbox.get(victim.id)
    assert record
    assert (record.state, "another program" in record.reason) == (State.HELD, True)
