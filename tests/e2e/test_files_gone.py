"""The whole server while its files are deleted: no 200 for a message that would be lost at a restart."""

import asyncio
import json
import os
import sys
from pathlib import Path

from tests.e2e.harness import ROOT, Server
from tests.e2e.test_faults import code, mailroom
from tests.smtp_server import DROP

SENTENCE = "The mail server cannot take messages at the moment. Please try again."


def errors(server: Server) -> list[dict[str, str]]:
    """Return the ERROR lines of the log."""
    lines = [json.loads(line) for line in server.log().splitlines() if line.startswith("{")]
    return [line for line in lines if line["level"] == "error"]


def empty(folder: Path) -> None:
    """Delete all files of a folder: `rm -rf data/*`."""
    for file in folder.iterdir():
        file.unlink()


def move(folder: Path, target: Path) -> None:
    """Move the database, and SQLite's files beside it."""
    target.mkdir(exist_ok=True)
    for file in folder.glob("mailroom.db*"):
        file.rename(target / file.name)


async def test_deleted_files_are_a_503_and_what_was_acknowledged_is_sent(tmp_path: Path) -> None:
    """The log has the reason and what to do; after a restart the server begins with an empty outbox."""
    async with mailroom(tmp_path) as (server, smtp, client):
        smtp.fault("GREETING", DROP)
        for number in range(5):
            assert (await client.post("/email", json=code(number))).status_code == 200
        empty(tmp_path / "data")
        for number in range(10, 15):
            answer = await client.post("/email", json=code(number))
            assert (answer.status_code, answer.text) == (503, SENTENCE)
            assert answer.headers["retry-after"]
        logged = errors(server)
        assert {"outbox.moved", "email.not_stored"} <= {line["event"] for line in logged}
        assert all("put it back, or restart" in str(line) for line in logged)
        smtp.recover()
        mails = await smtp.received(5, within=20)
        assert {mail.recipient for mail in mails} == {f"ada+{number}@example.com" for number in range(5)}
        await server.stop()
        await server.start()
        await server.ready()
        assert (await client.post("/email", json=code(20))).status_code == 200
        assert (await smtp.received(6))[5].recipient == "ada+20@example.com"


async def test_moved_files_that_are_put_back_are_used_again(tmp_path: Path) -> None:
    """Without a restart, and with their messages after one."""
    async with mailroom(tmp_path) as (server, smtp, client):
        smtp.fault("GREETING", DROP)
        assert (await client.post("/email", json=code(0))).status_code == 200
        move(tmp_path / "data", tmp_path / "away")
        assert (await client.post("/email", json=code(1))).status_code == 503
        move(tmp_path / "away", tmp_path / "data")
        assert (await client.post("/email", json=code(2))).status_code == 200
        await server.kill()
        smtp.recover()
        await server.start()
        await server.ready()
        mails = await smtp.received(2, within=20)
        assert {mail.recipient for mail in mails} == {"ada+0@example.com", "ada+2@example.com"}


async def test_a_deleted_write_ahead_log_loses_no_message(tmp_path: Path) -> None:
    """20 are accepted, the process is killed, and the next one sends 20."""
    async with mailroom(tmp_path) as (server, smtp, client):
        smtp.fault("GREETING", DROP)
        for number in range(20):
            if number in {5, 10}:
                (tmp_path / "data" / "mailroom.db-wal").unlink()
            assert (await client.post("/email", json=code(number))).status_code == 200
        assert {line["event"] for line in errors(server)} == {"outbox.moved"}
        await server.kill()
        smtp.recover()
        await server.start()
        await server.ready()
        assert len({mail.recipient for mail in await smtp.received(20, within=30)}) == 20


async def test_a_second_server_ends_even_if_the_lock_file_was_deleted(tmp_path: Path) -> None:
    """The database itself is locked, too."""
    async with mailroom(tmp_path) as (server, smtp, client):
        (tmp_path / "data" / "mailroom.db.lock").unlink()
        second = await asyncio.create_subprocess_exec(
            *(sys.executable, str(ROOT / "server.py")),
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "PORT": "0"},
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(40):
                _, output = await second.communicate()
        finally:
            if second.returncode is None:
                second.kill()
                await second.wait()
        assert second.returncode == 1
        assert b"is served by another process" in output
        assert (await client.post("/email", json=code(1))).status_code == 200
        await smtp.received(1)
        assert server.log().count("outbox.moved") == 0
