"""The whole server while its SMTP server misbehaves, its disk is full, and its file is locked."""

import asyncio
import contextlib
import os
import resource
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import apsw
import httpx
import pytest

from tests.e2e.harness import AUTHORIZATION, POLL_SECONDS, Server, configuration, smtp_settings
from tests.smtp_server import DROP, HANG, Silence, smtp_server
from tests.smtp_server import Server as SmtpServer

HEADERS = {"authorization": AUTHORIZATION}


@contextlib.asynccontextmanager
async def mailroom(
    directory: Path, *, limit: float = 30, environment: Mapping[str, str] | None = None, others: str = ""
) -> AsyncIterator[tuple[Server, SmtpServer, httpx.AsyncClient]]:
    """Run the server, its SMTP server, and a client; `others` are tables of more providers."""
    async with smtp_server(tls="none") as provider:
        text = configuration(smtp_settings(provider.port, timeout=limit) + others)
        async with (
            Server(directory, text, environment=environment) as server,
            httpx.AsyncClient(base_url=server.url, headers=HEADERS, trust_env=False, timeout=20) as client,
        ):
            yield server, provider, client


def code(number: int) -> dict[str, object]:
    """Return a SignIn request."""
    return {"to": f"ada+{number}@example.com", "type": "SignIn", "payload": {"code": f"{314159 + number}"}}


async def metric(client: httpx.AsyncClient, line: str) -> float:
    """Return a metric's value, 0 if it has none yet."""
    for counted in (await client.get("/metrics")).text.splitlines():
        if counted.startswith(f"{line} "):
            return float(counted.rpartition(" ")[2])
    return 0.0


async def wait_for_metric(client: httpx.AsyncClient, line: str, value: float = 1) -> None:
    """Return when a metric has at least this value."""
    async with asyncio.timeout(20):
        while await metric(client, line) < value:  # noqa: ASYNC110 - another process
            await asyncio.sleep(POLL_SECONDS)


@pytest.mark.parametrize(
    ("at", "answer"),
    [
        ("RCPT", "450 4.2.1 greylisted"),
        ("DATA", "451 4.3.0 try again"),
        ("CONTENT", DROP),
        ("MAIL", DROP),
        ("GREETING", "421 4.3.2 too busy"),
    ],
)
async def test_a_code_survives_a_server_that_refuses_or_drops_for_a_while(
    tmp_path: Path, at: str, answer: str | Silence
) -> None:
    """It is refused twice, and sent a second or two later."""
    async with mailroom(tmp_path) as (_, smtp, client):
        reached = smtp.fault(at, answer, times=2)
        assert (await client.post("/email", json=code(1))).status_code == 200
        await smtp.received(1, within=20)
        assert reached.is_set()
        assert smtp.mails[0].recipient == "ada+1@example.com"


async def test_a_code_is_sent_again_if_the_server_hangs_after_the_content(tmp_path: Path) -> None:
    """It is unknown whether it was delivered: a code that arrives twice is better than none."""
    async with mailroom(tmp_path, limit=1) as (server, smtp, client):
        smtp.fault("CONTENT", HANG, times=1)
        assert (await client.post("/email", json=code(1))).status_code == 200
        first, second = await smtp.received(2, within=20)
        assert first.content == second.content  # the same Message-ID, Date and boundary: a duplicate can be recognized
        assert await metric(client, 'mailroom_attempts_total{outcome="uncertain",provider="main"}') == 1
        assert "314160" not in server.log()


async def test_a_refused_recipient_fails_the_code_with_one_error_line(tmp_path: Path) -> None:
    """`550` is permanent; the log has the reason, without the address and the code."""
    async with mailroom(tmp_path) as (server, smtp, client):
        smtp.fault("RCPT", "550 5.1.1 <ada+1@example.com>: no such user, 314160")
        answer = await client.post("/email", json=code(1))
        assert answer.status_code == 200
        await wait_for_metric(client, 'mailroom_settled_total{state="failed"}')
        await server.stop()
        errors = [line for line in server.log().splitlines() if '"error"' in line]
        assert len(errors) == 1
        assert "code.undelivered" in errors[0]
        assert answer.json()["id"] in errors[0]
        assert "550 5.1.1" in errors[0]
        assert "ada+1" not in server.log()
        assert "314160" not in server.log()


async def test_an_unreachable_server_loses_nothing(tmp_path: Path) -> None:
    """Codes that were accepted meanwhile are sent when it is reachable again."""
    async with mailroom(tmp_path) as (_, smtp, client):
        smtp.fault("GREETING", DROP)
        answers = await asyncio.gather(*(client.post("/email", json=code(number)) for number in range(20)))
        assert {answer.status_code for answer in answers} == {200}
        smtp.recover()
        mails = await smtp.received(20, within=30)
        assert {mail.recipient for mail in mails} == {f"ada+{number}@example.com" for number in range(20)}


async def test_a_full_disk_is_a_503_until_there_is_space_again(tmp_path: Path) -> None:
    """No 200 for a message that could be lost, and no restart afterwards."""
    async with mailroom(tmp_path) as (server, smtp, client):
        assert (await client.post("/email", json=code(0))).status_code == 200
        await smtp.received(1)
        log = server.log_file.stat().st_size
        largest = max(os.path.getsize(path) for path in (tmp_path / "data").iterdir())  # noqa: PTH202, ASYNC240 - a local file
        with limited(server.pid, max(largest, log + 65536)):
            answers = [await client.post("/email", json=code(number)) for number in range(1, 400)]
        refused = [answer for answer in answers if answer.status_code != 200]
        assert {answer.status_code for answer in refused} == {503}
        assert refused[0].headers["retry-after"]
        assert refused[0].text == "The mail server cannot take messages at the moment. Please try again."
        assert (await client.post("/email", json=code(1000))).status_code == 200
        stored = 1 + len(answers) - len(refused) + 1
        mails = await smtp.received(stored, within=30)
        assert "ada+1000@example.com" in {mail.recipient for mail in mails}


async def test_a_locked_file_is_a_503_until_it_is_free(tmp_path: Path) -> None:
    """A shell holds the write lock."""
    async with mailroom(tmp_path) as (_, smtp, client):
        assert (await client.post("/email", json=code(0))).status_code == 200
        await smtp.received(1)
        shell = apsw.Connection(str(tmp_path / "data" / "mailroom.db"))
        shell.set_busy_timeout(10_000)  # the server may be recording that the mail was sent
        shell.execute("BEGIN IMMEDIATE")
        assert (await client.post("/email", json=code(1))).status_code == 503
        shell.execute("ROLLBACK")
        shell.close()
        assert (await client.post("/email", json=code(2))).status_code == 200
        assert {mail.recipient for mail in await smtp.received(2)} == {"ada+0@example.com", "ada+2@example.com"}


@contextlib.contextmanager
def limited(pid: int, size: int) -> Iterator[None]:
    """Let no file of the process grow beyond so many octets: the effect of a full disk or a quota."""
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


async def test_a_code_that_expired_between_two_processes_is_not_sent(tmp_path: Path) -> None:
    """The next process logs it with an ERROR line; a code that is still valid is sent."""
    async with mailroom(tmp_path) as (server, smtp, client):
        smtp.fault("GREETING", DROP)
        ids = [(await client.post("/email", json=code(number))).json()["id"] for number in (1, 2)]
        await server.kill()
        file = apsw.Connection(str(tmp_path / "data" / "mailroom.db"))
        file.execute("UPDATE messages SET expires_at = expires_at - 600, due_at = due_at - 600 WHERE id = ?", (ids[0],))
        file.close()
        smtp.recover()
        await server.start()
        await server.ready()
        assert [mail.recipient for mail in await smtp.received(1)] == ["ada+2@example.com"]
        await wait_for_metric(client, 'mailroom_settled_total{state="expired"}')
        errors = [line for line in server.log().splitlines() if '"error"' in line]
        assert len(errors) == 1
        assert ids[0] in errors[0]
        assert '"expired"' in errors[0]
