"""The whole server while its clock is set: lifetimes and retries use elapsed time; after a restart, the clock."""

import asyncio
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import apsw
import httpx
import pytest

from tests.e2e.harness import POLL_SECONDS, smtp_settings
from tests.e2e.test_faults import code, mailroom, metric, wait_for_metric
from tests.smtp_server import DROP, smtp_server
from tests.smtp_server import Server as SmtpServer

HOUR = 3600.0
REFUSED = 'mailroom_attempts_total{outcome="unavailable",provider="main"}'

SetClock = Callable[[float], None]


@pytest.fixture
def clock_file(tmp_path: Path) -> Path:
    """Return the file with the seconds that the server's clock is ahead."""
    file = tmp_path / "clock"
    file.write_text("0")
    return file


@pytest.fixture
def environment(clock_file: Path) -> Mapping[str, str]:
    """Return the variables that give the server a clock that can be set."""
    return {"PYTHONPATH": str(Path(__file__).parent / "settable_clock"), "SETTABLE_CLOCK": str(clock_file)}


@pytest.fixture
def set_clock(clock_file: Path) -> SetClock:
    """Return a function that sets the server's clock so many seconds ahead, or back, of ours."""

    def set_(seconds: float) -> None:
        new = clock_file.with_suffix(".new")
        new.write_text(str(seconds))
        new.replace(clock_file)

    return set_


async def refused(client: httpx.AsyncClient, smtp: SmtpServer, count: int) -> list[str]:
    """Post codes that the provider refuses, until each was tried; return the recipients."""
    smtp.fault("GREETING", DROP)
    for number in range(count):
        assert (await client.post("/email", json=code(number))).status_code == 200
    await wait_for_metric(client, REFUSED, count)
    return [f"ada+{number}@example.com" for number in range(count)]


@pytest.mark.parametrize("seconds", [-HOUR, HOUR, 24 * HOUR])
async def test_queued_codes_are_sent_within_seconds(
    tmp_path: Path, environment: Mapping[str, str], set_clock: SetClock, seconds: float
) -> None:
    """Set back, they do not wait for an hour; set forward, they do not expire, and are not tried more often."""
    async with mailroom(tmp_path, environment=environment) as (_, smtp, client):
        recipients = await refused(client, smtp, 5)
        set_clock(seconds)
        before = await metric(client, REFUSED)
        began = time.monotonic()
        while time.monotonic() < began + 3:
            assert (await client.post("/email", json=code(0))).status_code == 200
            await asyncio.sleep(POLL_SECONDS)
        assert await metric(client, REFUSED) - before <= 3 * 5  # retries come after 1, 2 and 4 s
        smtp.recover()
        mails = await smtp.received(5, within=12)
        assert {mail.recipient for mail in mails} == set(recipients)
        assert (await client.post("/email", json=code(6))).status_code == 200
        await smtp.received(6, within=5)
        assert not await metric(client, 'mailroom_settled_total{state="expired"}')


@pytest.mark.parametrize("seconds", [-HOUR, 24 * HOUR])
async def test_a_second_provider_goes_on_at_once(
    tmp_path: Path, environment: Mapping[str, str], set_clock: SetClock, seconds: float
) -> None:
    """No code is late, the first provider is probed by elapsed time and not in a storm, and gets mail once it works."""
    async with smtp_server() as second:
        backup = f"\n[providers.backup]\n{smtp_settings(second.port)}"
        async with mailroom(tmp_path, environment=environment, others=backup) as (server, first, client):
            first.fault("GREETING", DROP)
            for number in range(10):
                assert (await client.post("/email", json=code(number))).status_code == 200
            await second.received(10, within=5)
            assert '"provider.opened"' in server.log()
            before = first.connections
            set_clock(seconds)
            began, number = time.monotonic(), 10
            while time.monotonic() < began + 3:
                assert (await client.post("/email", json=code(number))).status_code == 200
                number += 1
                await second.received(number, within=1)
                await asyncio.sleep(POLL_SECONDS)
            assert first.connections - before <= 2  # asked whether it answers, and a probe
            first.recover()
            async with asyncio.timeout(15):
                while not first.mails:
                    number += 1
                    assert (await client.post("/email", json=code(number))).status_code == 200
                    await asyncio.sleep(POLL_SECONDS)
            assert not await metric(client, 'mailroom_settled_total{state="expired"}')


async def test_a_code_is_not_sent_after_its_lifetime_by_elapsed_time(
    tmp_path: Path, environment: Mapping[str, str], set_clock: SetClock
) -> None:
    """Setting the clock back by an hour does not extend it."""
    async with mailroom(tmp_path, environment=environment) as (server, smtp, client):
        await refused(client, smtp, 1)
        file = apsw.Connection(str(tmp_path / "data" / "mailroom.db"))
        file.set_busy_timeout(10_000)
        file.execute("UPDATE messages SET expires_at = expires_at - 562")  # of 570 s
        file.close()
        set_clock(-HOUR)
        await wait_for_metric(client, 'mailroom_settled_total{state="expired"}')
        smtp.recover()
        assert (await client.post("/email", json=code(7))).status_code == 200
        assert [mail.recipient for mail in await smtp.received(1, within=5)] == ["ada+7@example.com"]
        assert "code.undelivered" in server.log()


async def test_after_a_restart_queued_codes_are_sent_by_the_new_clock(
    tmp_path: Path, environment: Mapping[str, str], set_clock: SetClock
) -> None:
    """Codes that were accepted by a clock an hour ahead do not wait for an hour."""
    async with mailroom(tmp_path, environment=environment) as (server, smtp, client):
        await refused(client, smtp, 3)
        await server.kill()
        set_clock(-HOUR)
        smtp.recover()
        await server.start()
        await server.ready()
        assert len(await smtp.received(3, within=10)) == 3
