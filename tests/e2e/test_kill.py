"""SIGKILL at any moment loses nothing that was promised, and repeats only what was in flight."""

import os
import secrets
import time
from pathlib import Path

import httpx

from tests.e2e.chaos import IN_FLIGHT, RESUMES_WITHIN, Life, judge, sink, torment
from tests.e2e.harness import AUTHORIZATION, Server, configuration

KILLS = 5


async def test_kills_under_load_break_no_promise(tmp_path: Path) -> None:
    """The short run; `make chaos` is the long one. `CHAOS_SEED` runs the same moments again."""
    seed = int(os.environ.get("CHAOS_SEED") or secrets.randbelow(1_000_000))

    verdict = await torment(tmp_path, kills=KILLS, seed=seed, rate=100)

    assert not verdict.faults, f"CHAOS_SEED={seed}: {verdict}\n{(tmp_path / 'server.log').read_text()[-10_000:]}"
    assert verdict.kills == KILLS
    assert verdict.acknowledged > 0
    assert verdict.received >= verdict.acknowledged


async def test_a_killed_process_leaves_its_work_to_the_next_one(tmp_path: Path) -> None:
    """Mails that could not be sent at the kill (nothing listens) are sent within 10 s of the restart, once."""
    recipients = _recipients(20)
    async with sink() as place, Server(tmp_path, configuration(_smtp(CLOSED))) as server:
        await _post(server, recipients)
        await server.kill()
        (tmp_path / "mailroom.toml").write_text(configuration(_smtp(place.port)))
        restarted = await server.start()
        assert await place.has(recipients, within=RESUMES_WITHIN)
        assert time.time() - restarted <= RESUMES_WITHIN
        assert {who: len(moments) for who, moments in place.received.items()} == dict.fromkeys(recipients, 1)


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


class TestTheJudge:
    """The judge itself can say no."""

    def test_is_content_when_every_mail_came_once(self) -> None:
        """One in the same breath, one after the kill that came first."""
        assert not judge({"ada": 10.0, "bob": 99.9}, {"ada": [10.1], "bob": [101.5]}, LIVES).faults

    def test_finds_a_lost_mail(self) -> None:
        """A promise without a mail."""
        assert judge({"ada": 10.0}, {}, LIVES).faults == {"lost": ("ada",)}

    def test_does_not_ask_for_what_was_not_promised(self) -> None:
        """Kept, and killed before the 200: it comes, or not."""
        assert not judge({}, {"ada": [10.0]}, LIVES).faults

    def test_allows_a_repeat_of_what_was_in_flight_at_a_kill(self) -> None:
        """Received just before the kill, and again by the next process."""
        assert not judge({"ada": 99.8}, {"ada": [99.9, 101.5]}, LIVES).faults

    def test_finds_a_repeat_of_what_was_long_settled(self) -> None:
        """Received well before the kill: the next process ought to know."""
        early = 100 - IN_FLIGHT - 0.1
        assert judge({"ada": 90.0}, {"ada": [early, 101.5]}, LIVES).faults == {"unexplained": ("ada",)}

    def test_finds_a_repeat_without_a_kill(self) -> None:
        """One process sent twice."""
        assert judge({"ada": 10.0}, {"ada": [10.1, 10.2]}, LIVES).faults == {"unexplained": ("ada",)}

    def test_finds_a_second_repeat_without_a_second_kill(self) -> None:
        """A kill explains one repeat, not two."""
        assert judge({"ada": 99.8}, {"ada": [99.9, 101.5, 110.0]}, LIVES).faults == {"unexplained": ("ada",)}

    def test_finds_a_code_that_came_after_its_lifetime(self) -> None:
        """However dead the servers were."""
        lives = [Life(0, 11), Life(200, 300)]
        assert judge({"ada": 10.0}, {"ada": [200.5]}, lives).faults == {"stale": ("ada",)}

    def test_finds_a_mail_that_waited_beside_a_living_server(self) -> None:
        """The time of several lives adds up: a restart must not begin the wait anew."""
        lives = [Life(0, 10), Life(11, 17), Life(18, 40)]
        assert judge({"ada": 9.9}, {"ada": [23.0]}, lives).faults == {"slow": ("ada",)}
        assert not judge({"ada": 9.9}, {"ada": [21.0]}, lives).faults

    def test_finds_a_mail_without_its_code(self) -> None:
        """What came must be what was promised."""
        assert judge({"ada": 10.0}, {"ada": [10.1]}, LIVES, broken=["ada"]).faults == {"broken": ("ada",)}
