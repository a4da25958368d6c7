"""While the outbox cannot be opened at the start, requests get a 503; the server recovers without a restart."""

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from mailroom.clock import SystemClock
from mailroom.outbox.sqlite.lock import Lock
from tests.e2e.harness import AUTHORIZATION, Server, configuration
from tests.smtp_server import Server as SmtpServer
from tests.smtp_server import smtp_server

MAIL = {"to": "ada@example.com", "type": "SignIn", "payload": {"code": "314159"}}
SORRY = "The mail server cannot take messages at the moment. Please try again."


@asynccontextmanager
async def in_trouble(directory: Path) -> AsyncIterator[tuple[Server, SmtpServer, httpx.AsyncClient]]:
    """Start a server that cannot open its outbox, its SMTP server, and a client."""
    async with smtp_server(tls="none") as smtp:
        provider = f'type = "smtp"\nhost = "127.0.0.1"\nport = {smtp.port}\ntls = "none"'
        server = Server(directory, f"shutdown_timeout = '2s'\n{configuration(provider)}")
        try:
            await server.start()
            async with httpx.AsyncClient(base_url=server.url, trust_env=False, timeout=30) as client:
                yield server, smtp, client
        finally:
            await server.cleanup()


async def expect_answers(client: httpx.AsyncClient) -> None:
    """Check that everything is answered, and only what needs the outbox with 503."""
    email = await client.post("/email", json=MAIL, headers={"authorization": AUTHORIZATION})
    assert (email.status_code, email.text) == (503, SORRY)
    assert int(email.headers["retry-after"]) > 0
    assert (await client.post("/email", json=MAIL, headers={"authorization": "wrong"})).status_code == 401
    assert (await client.post("/webhook", json={})).status_code == 401
    livez, readyz, metrics = [await client.get(path) for path in ("/livez", "/readyz", "/metrics")]
    assert (livez.status_code, readyz.status_code, readyz.text) == (200, 503, "starting\n")
    assert metrics.status_code == 200
    assert 'mailroom_refused_total{endpoint="email",status="503"} 1.0' in metrics.text


async def expect_recovery(server: Server, smtp: SmtpServer, client: httpx.AsyncClient) -> None:
    """Wait for the same process to open the outbox, to accept a mail, and to send it."""
    pid = server.pid
    await server.ready()
    assert (await client.post("/email", json=MAIL, headers={"authorization": AUTHORIZATION})).status_code == 200
    assert [mail.recipient for mail in await smtp.received(1)] == ["ada@example.com"]
    assert server.pid == pid
    await server.stop()


def problems(server: Server) -> list[str]:
    """Return the problems of the outbox that were logged."""
    lines: list[dict[str, Any]] = [json.loads(line) for line in server.log().splitlines() if line.startswith("{")]
    return [line["problem"] for line in lines if line["event"] == "outbox.open_failed"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 1 MiB as the server's `data`."""
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", data], check=False).returncode:
        pytest.skip("only root may mount a small file system")
    yield data
    subprocess.run(["umount", "--lazy", data], check=True)


def fill(disk: Path) -> Path:
    """Fill the disk; return the file that does."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    return filler


def remount(disk: Path, how: str) -> None:
    """Mount it again: `ro`, `rw`."""
    subprocess.run(["mount", "-o", f"remount,{how}", disk], check=True)


async def test_a_full_disk_at_the_first_start(tmp_path: Path, small_disk: Path) -> None:
    filler = fill(small_disk)
    async with in_trouble(tmp_path) as (server, smtp, client):
        await expect_answers(client)
        [problem] = problems(server)
        assert "make room on this disk" in problem
        filler.unlink()
        await expect_recovery(server, smtp, client)


async def test_a_full_disk_beside_an_existing_outbox(tmp_path: Path, small_disk: Path) -> None:
    async with in_trouble(tmp_path) as (server, _, _):
        await server.ready()
        await server.stop()
    filler = fill(small_disk)
    async with in_trouble(tmp_path) as (server, smtp, client):
        await expect_answers(client)
        assert "see that its disk has room" in problems(server)[0]
        filler.unlink()
        await expect_recovery(server, smtp, client)


async def test_a_read_only_file_system(tmp_path: Path, small_disk: Path) -> None:
    remount(small_disk, "ro")
    async with in_trouble(tmp_path) as (server, smtp, client):
        await expect_answers(client)
        [problem] = problems(server)
        assert "Read-only file system): mount this file system for writing" in problem
        remount(small_disk, "rw")
        await expect_recovery(server, smtp, client)


async def test_a_directory_that_cannot_be_created(tmp_path: Path) -> None:
    """A file has its name, so that root cannot create it either."""
    (tmp_path / "data").write_text("not a directory")
    async with in_trouble(tmp_path) as (server, smtp, client):
        await expect_answers(client)
        assert "data/mailroom.db cannot be written" in problems(server)[0]
        (tmp_path / "data").unlink()
        await expect_recovery(server, smtp, client)


def overwrite_the_header(file: Path) -> None:
    """Destroy the header of the database."""
    file.write_bytes(b"\xff" * 100 + file.read_bytes()[100:])


def overwrite_the_rest(file: Path) -> None:
    """Destroy all pages but the first."""
    file.write_bytes(file.read_bytes()[:4096] + b"\xff" * (file.stat().st_size - 4096))


@pytest.mark.parametrize("damage", [overwrite_the_header, overwrite_the_rest])
async def test_a_damaged_file_is_left_as_it_is(tmp_path: Path, damage: Any) -> None:
    file = tmp_path / "data" / "mailroom.db"
    async with in_trouble(tmp_path) as (server, _, _):
        await server.ready()
        await server.stop()
    damage(file)
    damaged = file.read_bytes()
    async with in_trouble(tmp_path) as (server, smtp, client):
        await expect_answers(client)
        [problem] = problems(server)
        assert "the file is damaged, and was left as it is. Keep a copy" in problem
        assert file.read_bytes() == damaged
        shutil.move(file, tmp_path / "kept")
        for rest in file.parent.glob("mailroom.db-*"):
            rest.unlink()
        await expect_recovery(server, smtp, client)
    assert (tmp_path / "kept").read_bytes() == damaged


async def test_a_secret_key_that_does_not_match_the_outbox_ends_the_start(tmp_path: Path) -> None:
    async with in_trouble(tmp_path) as (server, _, _):
        await server.ready()
        await server.stop()
    text = (tmp_path / "mailroom.toml").read_text().replace("0c6fbb", "1c6fbb")
    (tmp_path / "mailroom.toml").write_text(text)
    exit_code, output = await run_to_the_end(tmp_path)
    assert exit_code == 2
    assert "Mailroom cannot start: secret_key does not match this outbox" in output


async def test_a_reload_with_a_secret_key_that_does_not_match_changes_nothing(tmp_path: Path) -> None:
    async with in_trouble(tmp_path) as (server, smtp, client):
        await server.ready()
        settings = tmp_path / "mailroom.toml"
        text = settings.read_text()
        settings.write_text(text.replace("0c6fbb", "1c6fbb"))
        await server.reload(fails=True)
        assert "secret_key does not match this outbox" in server.log()
        await expect_recovery(server, smtp, client)


async def test_a_second_process_waits_for_the_lock_and_then_ends(tmp_path: Path) -> None:
    """After 12 s, the time of an overlapping deploy; its connections wait meanwhile, and the log has the reason."""
    (tmp_path / "data").mkdir()
    lock = await Lock.take(tmp_path / "data" / "mailroom.db", clock=SystemClock(), wait_seconds=0)
    clock = SystemClock()
    try:
        async with in_trouble(tmp_path) as (server, _, client):
            waiting = asyncio.create_task(client.get("/livez"))
            while "outbox.waiting" not in server.log():  # noqa: ASYNC110 - a file has no event
                await asyncio.sleep(0.01)
            logged_at = clock.monotonic()
            assert (
                '"problem":"data/mailroom.db is served by another process; this one serves when that one has ended",'
                f'"holder":"process {os.getpid()}","at_most_seconds":12.0'
            ) in server.log()
            assert await server.exit_code() == 1
            assert 11 < clock.monotonic() - logged_at < 14
            assert (
                f"Mailroom cannot start: data/mailroom.db is served by process {os.getpid()}, still after 12 s. One "
                "process may serve from a SQLite outbox: stop the other one, or use PostgreSQL "
                '(database_url = "postgresql://…") for several\n'
            ) in server.log()
            assert not waiting.done() or waiting.exception()
            waiting.cancel()
    finally:
        lock.release()


async def test_a_server_in_another_folder_says_which_settings_it_looked_for(tmp_path: Path) -> None:
    exit_code, output = await run_to_the_end(tmp_path)
    assert exit_code == 2
    assert "Mailroom cannot start with these settings:\n  from: missing; set the sender of your mails" in output
    assert output.endswith(f"\nThere is no {tmp_path}/mailroom.toml.\n")


async def run_to_the_end(directory: Path) -> tuple[int | None, str]:
    """Run a server that cannot start; return its exit code and what it wrote."""
    server = Server(directory, None)
    try:
        await server.start()
        return await server.exit_code(), server.log()
    finally:
        await server.cleanup()
