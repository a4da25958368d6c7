"""A SIGKILL at any moment loses no acknowledged mail, and only mails in flight are sent twice."""

import os
import secrets
import time
from pathlib import Path

import httpx

from tests.e2e.chaos import IN_FLIGHT, RESUMES_WITHIN, Life, judge, kill_repeatedly, sink
from tests.e2e.harness import AUTHORIZATION, Server, configuration

KILLS = 5


async def test_kills_under_load_lose_and_repeat_nothing(tmp_path: Path) -> None:
    """The short run; `make chaos` is the long one. `CHAOS_SEED` runs the same moments again."""
    seed = int(os.environ.get("CHAOS_SEED") or secrets.randbelow(1_000_000))

    verdict = await kill_repeatedly(tmp_path, kills=KILLS, seed=seed, rate=100)

    assert not verdict.faults, f"CHAOS_SEED={seed}: {verdict}\n{(tmp_path / 'server.log').read_text()[-10_000:]}"
    assert verdict.kills == KILLS
    assert verdict.acknowledged > 0
    assert verdict.received >= verdict.acknowledged


async def test_mails_of_a_killed_process_are_sent_by_the_next(tmp_path: Path) -> None:
    """Mails that could not be sent at the kill (nothing listens) are sent within 10 s of the restart, once."""
    recipients = _recipients(20)
    async with sink() as smtp, Server(tmp_path, configuration(_smtp(CLOSED))) as server:
        await _post(server, recipients)
        await server.kill()
        (tmp_path / "mailroom.toml").write_text(configuration(_smtp(smtp.port)))
        restarted = await server.start()
        assert await smtp.wait_for(recipients, within=RESUMES_WITHIN)
        assert time.time() - restarted <= RESUMES_WITHIN
        assert {who: len(moments) for who, moments in smtp.received.items()} == dict.fromkeys(recipients, 1)


CLOSED = 9
"""The port of discard: nothing listens there."""


def _recipients(count: int) -> set[str]:
    return {f"u{number}-{number:06d}@chaos.example" for number in range(count)}


async def _post(server: Server, recipients: set[str]) -> None:
    headers = {"authorization": AUTHORIZATION}
    async with httpx.AsyncClient(base_url=server.url, headers=headers, trust_env=False) as logto:
        for who in recipients:
            code = who.partition("@")[0].rpartition("-")[2]
            body = {"to": who, "type": "SignIn", "payload": {"code": code}}
            assert (await logto.post("/email", json=body)).status_code == httpx.codes.OK


def _smtp(port: int) -> str:
    return f'type = "smtp"\nhost = "127.0.0.1"\nport = {port}\ntls = "none"'


LIVES = [Life(0, 100), Life(101, 200), Life(201, 300)]


class TestJudge:
    """`judge` reports each kind of violation."""

    def test_accepts_mails_that_arrived_once(self) -> None:
        """One before a kill, one after it."""
        assert not judge({"ada": 10.0, "bob": 99.9}, {"ada": [10.1], "bob": [101.5]}, LIVES).faults

    def test_reports_a_lost_mail(self) -> None:
        """Acknowledged and never received."""
        assert judge({"ada": 10.0}, {}, LIVES).faults == {"lost": ("ada",)}

    def test_ignores_a_mail_that_was_not_acknowledged(self) -> None:
        """Stored, and killed before the 200: it is sent or not."""
        assert not judge({}, {"ada": [10.0]}, LIVES).faults

    def test_allows_a_repeat_of_a_mail_in_flight_at_a_kill(self) -> None:
        """Received just before the kill, and again by the next process."""
        assert not judge({"ada": 99.8}, {"ada": [99.9, 101.5]}, LIVES).faults

    def test_reports_a_repeat_of_a_settled_mail(self) -> None:
        """Received so long before the kill that its state was stored."""
        early = 100 - IN_FLIGHT - 0.1
        assert judge({"ada": 90.0}, {"ada": [early, 101.5]}, LIVES).faults == {"unexplained": ("ada",)}

    def test_reports_a_repeat_without_a_kill(self) -> None:
        """One process sent twice."""
        assert judge({"ada": 10.0}, {"ada": [10.1, 10.2]}, LIVES).faults == {"unexplained": ("ada",)}

    def test_reports_a_second_repeat_without_a_second_kill(self) -> None:
        """A kill explains one repeat, not two."""
        assert judge({"ada": 99.8}, {"ada": [99.9, 101.5, 110.0]}, LIVES).faults == {"unexplained": ("ada",)}

    def test_reports_a_code_that_arrived_after_its_lifetime(self) -> None:
        """Even if no server ran meanwhile."""
        lives = [Life(0, 11), Life(200, 300)]
        assert judge({"ada": 10.0}, {"ada": [200.5]}, lives).faults == {"stale": ("ada",)}

    def test_reports_a_mail_that_waited_while_a_server_ran(self) -> None:
        """The times of several processes add up: a restart does not reset the wait."""
        lives = [Life(0, 10), Life(11, 17), Life(18, 40)]
        assert judge({"ada": 9.9}, {"ada": [23.0]}, lives).faults == {"slow": ("ada",)}
        assert not judge({"ada": 9.9}, {"ada": [21.0]}, lives).faults

    def test_reports_a_mail_without_its_code(self) -> None:
        """The text part lacks it."""
        assert judge({"ada": 10.0}, {"ada": [10.1]}, LIVES, broken=["ada"]).faults == {"broken": ("ada",)}
