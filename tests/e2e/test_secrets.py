"""A real process and its secrets: no core dumps, and sessions that end everywhere."""

import resource
from pathlib import Path

import httpx
import pytest

from tests.e2e.harness import Server, configuration

PASSWORD = "correct horse battery"
CONSOLE = f'type = "capture"\n[console]\npassword = "{PASSWORD}"'


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="needs Linux to see another process's limits")
async def test_there_are_no_core_dumps(tmp_path: Path) -> None:
    async with Server(tmp_path, None, arguments=["--dev"]) as server:
        assert resource.prlimit(server.pid, resource.RLIMIT_CORE) == (0, 0)


async def test_a_session_outlives_a_restart_and_so_does_its_end(tmp_path: Path) -> None:
    async with Server(tmp_path, configuration(CONSOLE)) as server:
        ended, other, thief = (httpx.AsyncClient(base_url=server.url, trust_env=False) for _ in range(3))
        async with ended, other, thief:
            for browser in (ended, other):
                signed_in = await browser.post("/console/login", data={"password": PASSWORD})
                assert signed_in.headers["location"] == "/console/captured"
            thief.cookies.set("mailroom_console", ended.cookies["mailroom_console"])
            assert (await thief.get("/console/captured")).status_code == 200
            await ended.post("/console/logout")
            await server.kill()
            await server.start()
            await server.ready()
            assert (await other.get("/console/captured")).status_code == 200
            assert (await thief.get("/console/captured")).status_code == 303
