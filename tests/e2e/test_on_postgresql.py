"""The real server on a real PostgreSQL: killed, split into roles, and without its database."""

import asyncio
import json
import os
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import pytest

from tests.e2e.chaos import RESUMES_WITHIN, kill_repeatedly, sink, writer
from tests.e2e.harness import AUTHORIZATION, Server, configuration, smtp_settings
from tests.outbox.postgres.conftest import new_url
from tests.postgres_server import PostgresServer
from tests.smtp_server import smtp_server

_ANSWERS_WITHIN = 4.0
"""Seconds: 2 by the outbox, the rest for a busy machine."""
_TOLD_WITHIN = 5.0
"""Seconds: processes tell each other once a second."""


@pytest.fixture
def environment(postgres: PostgresServer) -> dict[str, str]:
    """Return the variables of a server with an empty database."""
    return {"DATABASE_URL": new_url(postgres)}


def _code(number: int) -> dict[str, object]:
    code = f"{number:06d}"
    return {"to": f"u{number}-{code}@chaos.example", "type": "SignIn", "payload": {"code": code}}


def _client(server: Server) -> httpx.AsyncClient:
    headers = {"authorization": AUTHORIZATION}
    return httpx.AsyncClient(base_url=server.url, headers=headers, timeout=30, trust_env=False)


async def test_kills_under_load_lose_nothing(tmp_path: Path, environment: dict[str, str]) -> None:
    """And repeat only what was in flight. `CHAOS_SEED` runs the same moments again."""
    seed = int(os.environ.get("CHAOS_SEED") or secrets.randbelow(1_000_000))
    verdict = await kill_repeatedly(tmp_path, kills=3, seed=seed, rate=100, environment=environment)
    assert not verdict.faults, f"CHAOS_SEED={seed}: {verdict}\n{(tmp_path / 'server.log').read_text()[-10_000:]}"
    assert verdict.received >= verdict.acknowledged > 0


@asynccontextmanager
async def _roles(folder: Path, environment: dict[str, str], port: int) -> AsyncIterator[tuple[Server, Server]]:
    """Serve by a web and a worker process."""
    servers = []
    for role in ("web", "worker"):
        (folder / role).mkdir()
        settings = f'role = "{role}"\n{configuration(smtp_settings(port))}'
        servers.append(Server(folder / role, settings, environment=environment))
    web, worker = servers
    async with web, worker:
        yield web, worker


async def test_a_worker_sends_what_a_web_process_stores(tmp_path: Path, environment: dict[str, str]) -> None:
    """It is woken, and listens for health only."""
    async with sink() as smtp, _roles(tmp_path, environment, smtp.port) as (web, worker), _client(web) as logto:
        wanted = {str(_code(number)["to"]) for number in range(20)}
        for number in range(20):
            assert (await logto.post("/email", json=_code(number))).status_code == httpx.codes.OK
        assert await smtp.wait_for(wanted, within=RESUMES_WITHIN), worker.log()
        assert {who: len(moments) for who, moments in smtp.received.items()} == dict.fromkeys(wanted, 1)
        async with _client(worker) as platform:
            paths = ("/readyz", "/livez", "/metrics", "/email", "/webhook")
            answers = [(await platform.get(path)).status_code for path in paths]
        assert answers == [200, 200, 200, 404, 404]


async def test_a_worker_is_woken_before_it_polls(tmp_path: Path, environment: dict[str, str]) -> None:
    """By LISTEN: of 20 codes, one after the other, most wait less than half of a poll's second."""
    async with sink() as smtp, _roles(tmp_path, environment, smtp.port) as (web, _), _client(web) as logto:
        waited = []
        for number in range(20):
            code = _code(number)
            assert (await logto.post("/email", json=code)).status_code == httpx.codes.OK
            answered = time.time()
            assert await smtp.wait_for({str(code["to"])}, within=RESUMES_WITHIN)
            waited.append(smtp.received[str(code["to"])][0] - answered)
        assert sorted(waited)[10] < 0.5, waited


async def _start_two(stack: AsyncExitStack, folder: Path, settings: str, environment: dict[str, str]) -> list[Server]:
    """Start two servers on one database, each in a folder of its own."""
    servers = []
    for name in ("one", "other"):
        (folder / name).mkdir()
        servers.append(await stack.enter_async_context(Server(folder / name, settings, environment=environment)))
    return servers


async def test_what_one_server_finds_out_about_a_provider_the_other_one_knows(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    """That it fails, and that it works again."""
    async with smtp_server(tls="none") as main, smtp_server(tls="none") as backup, AsyncExitStack() as stack:
        settings = f"{configuration(smtp_settings(main.port))}\n[providers.backup]\n{smtp_settings(backup.port)}"
        servers = await _start_two(stack, tmp_path, settings, environment)
        one, other = [await stack.enter_async_context(_client(server)) for server in servers]

        main.fault("MAIL", "530 5.7.0 authentication required")
        assert (await one.post("/email", json=_code(1))).status_code == httpx.codes.OK
        for server in servers:
            await _logged(server, "provider.opened")
        assert "530 5.7.0" in servers[1].log()
        assert (await other.post("/email", json=_code(2))).status_code == httpx.codes.OK
        await backup.received(2)
        assert main.commands["MAIL"] == 1

        main.recover()
        backup.fault("MAIL", "530 5.7.0 authentication required")  # nobody else works: this one is asked at once
        assert (await other.post("/email", json=_code(3))).status_code == httpx.codes.OK
        await main.received(1)
        for server in servers:
            await _logged(server, "provider.recovered")


async def test_what_one_server_accepts_counts_for_the_limits_of_the_other_one(
    tmp_path: Path, postgres: PostgresServer, environment: dict[str, str]
) -> None:
    """Within a second, and for its successor; the database does not show whose address it is."""
    async with sink() as smtp, AsyncExitStack() as stack:
        settings = f'{configuration(smtp_settings(smtp.port))}\n[limits]\nip = "100/1h"'
        servers = await _start_two(stack, tmp_path, settings, environment)

        async def answer(server: Server, number: int, ip: str = "203.0.113.7") -> int:
            async with _client(server) as logto:
                return (await logto.post("/email", json={**_code(number), "ip": ip})).status_code

        async def accepted(server: Server, first: int) -> int:
            """Return how many codes it accepts, ten a second, until it refuses one."""
            async with asyncio.timeout(_TOLD_WITHIN):
                for number in range(100):
                    if await answer(server, first + number) == httpx.codes.TOO_MANY_REQUESTS:
                        return number
                    await asyncio.sleep(0.1)
            return 100

        one, other = servers
        assert [await answer(one, number) for number in range(100)] == [httpx.codes.OK] * 100
        assert await accepted(other, 100) < 50
        assert await answer(other, 200, ip="203.0.113.8") == httpx.codes.OK
        await other.reload()
        assert await accepted(other, 300) < 50
        stored = await asyncio.to_thread(postgres.psql, "SELECT * FROM mailroom.counts")
        assert stored
        assert "203.0" not in stored
        assert "Traceback" not in one.log() + other.log()


async def test_without_its_database_the_server_answers_503_and_recovers(
    tmp_path: Path, postgres: PostgresServer, environment: dict[str, str]
) -> None:
    """In a bounded time, while it stays ready; what it acknowledged before a crash of the database is sent."""
    journal = tmp_path / "acknowledged.jsonl"
    async with (
        sink() as smtp,
        Server(tmp_path, configuration(smtp_settings(smtp.port)), environment=environment) as server,
    ):
        async with writer(server, journal, 100):
            await smtp.wait_for({"u50-395950@chaos.example"}, within=RESUMES_WITHIN)
            await asyncio.to_thread(postgres.stop, "immediate")
            try:
                async with _client(server) as logto:
                    began = time.monotonic()
                    answer = await logto.post("/email", json=_code(1_000))
                    assert answer.status_code == httpx.codes.SERVICE_UNAVAILABLE
                    assert "retry-after" in answer.headers
                    assert time.monotonic() - began < _ANSWERS_WITHIN
                    assert (await logto.get("/readyz")).status_code == httpx.codes.OK
            finally:
                await asyncio.to_thread(postgres.start)
            async with asyncio.timeout(20), _client(server) as logto:
                while (await logto.post("/email", json=_code(1_001))).status_code != httpx.codes.OK:  # noqa: ASYNC110 - another process
                    await asyncio.sleep(0.1)
        acknowledged = {json.loads(line)["recipient"] for line in journal.read_text().splitlines()}
        assert await smtp.wait_for({*acknowledged, "u1001-001001@chaos.example"}, within=30), server.log()[-5000:]
        assert "Traceback" not in server.log()


async def test_a_reload_under_load_loses_and_repeats_nothing(tmp_path: Path, environment: dict[str, str]) -> None:
    """Old and new process share the database for a moment; the old one's leases end with it."""
    journal = tmp_path / "acknowledged.jsonl"
    settings = configuration(smtp_settings(9))
    async with sink() as smtp, Server(tmp_path, settings, environment=environment) as server:
        async with writer(server, journal, 60):
            (tmp_path / "mailroom.toml").write_text(configuration(smtp_settings(smtp.port)))
            await server.reload()
            await server.reload()
        acknowledged = {json.loads(line)["recipient"] for line in journal.read_text().splitlines()}
        assert await smtp.wait_for(acknowledged, within=30), server.log()[-5000:]
        assert {who: len(smtp.received[who]) for who in acknowledged} == dict.fromkeys(acknowledged, 1)
        assert "Traceback" not in server.log()


async def test_a_server_starts_before_its_database(
    tmp_path: Path, postgres: PostgresServer, environment: dict[str, str]
) -> None:
    """It answers 503 until then."""
    await asyncio.to_thread(postgres.stop)
    server = Server(tmp_path, configuration(smtp_settings(9)), environment=environment)
    try:
        await server.start()
        async with _client(server) as logto:
            assert (await logto.post("/email", json=_code(1))).status_code == httpx.codes.SERVICE_UNAVAILABLE
        await asyncio.to_thread(postgres.start)
        await server.ready()
    finally:
        await server.cleanup()
        if not postgres.is_running():
            postgres.start()


async def test_several_processes_of_one_parent_serve_reload_and_drain(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    """Each mail is sent once, and no request fails."""
    journal = tmp_path / "acknowledged.jsonl"
    async with sink() as smtp:
        settings = configuration(smtp_settings(smtp.port))
        async with Server(tmp_path, f"workers = 3\n{settings}", environment=environment) as server:
            async with writer(server, journal, 60):
                await _listening(server, 3)
                (tmp_path / "mailroom.toml").write_text(f"workers = 2\n{settings}")
                await server.reload()
                await _listening(server, 5)
            await server.stop()
        assert server.log().count('"server.ended"') == 5
        acknowledged = {json.loads(line)["recipient"] for line in journal.read_text().splitlines()}
        assert await smtp.wait_for(acknowledged, within=30), server.log()[-5000:]
        assert {who: len(smtp.received[who]) for who in acknowledged} == dict.fromkeys(acknowledged, 1)
        assert "Traceback" not in server.log()


async def _listening(server: Server, processes: int) -> None:
    """Wait until so many processes have begun to serve."""
    async with asyncio.timeout(30):
        while server.log().count('"server.listening"') < processes:  # noqa: ASYNC110 - a file has no event
            await asyncio.sleep(0.05)


async def _logged(server: Server, event: str) -> None:
    """Wait until the server has logged an event."""
    async with asyncio.timeout(_TOLD_WITHIN):
        while event not in server.log():  # noqa: ASYNC110 - a file has no event
            await asyncio.sleep(0.02)
