"""A server moves from SQLite to PostgreSQL under load, by the steps of docs/scaling.md."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.chaos import sink, writer
from tests.e2e.harness import Server, configuration, smtp_settings
from tests.outbox.postgres.conftest import new_url
from tests.postgres_server import PostgresServer

pytestmark = pytest.mark.alone

_ARRIVES_WITHIN = 30.0
_NOBODY_LISTENS = 9


async def _copy(directory: Path, *arguments: str) -> dict[str, Any]:
    """Run `mailroom outbox copy` where the server has its settings."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "mailroom", "outbox", "copy", "--json", *arguments),
        cwd=directory,
        env={"PATH": os.environ["PATH"]},
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    copied: dict[str, Any] = json.loads(output)
    return copied


async def test_a_move_under_load_loses_and_repeats_nothing(tmp_path: Path, postgres: PostgresServer) -> None:
    """Of mails that were sent before, that wait during the move, and that are accepted meanwhile; no request fails."""
    url = new_url(postgres)
    journal, settings = tmp_path / "acknowledged.jsonl", tmp_path / "mailroom.toml"
    async with sink() as smtp, Server(tmp_path, configuration(smtp_settings(smtp.port))) as server:
        async with writer(server, journal, 50):
            await smtp.wait_for({"u20-158380@chaos.example"}, within=_ARRIVES_WITHIN)
            settings.write_text(configuration(smtp_settings(_NOBODY_LISTENS)))  # from now on mails wait
            await server.reload()
            before = len(journal.read_text().splitlines())
            while len(journal.read_text().splitlines()) < before + 50:  # noqa: ASYNC110 - another process writes it
                await asyncio.sleep(0.05)

            first = await _copy(tmp_path, "--to", url)
            settings.write_text(f'database_url = "{url}"\n{configuration(smtp_settings(smtp.port))}')
            await server.reload()
            second = await _copy(tmp_path, "--from", "sqlite:///data/mailroom.db")

        assert first["unsettled"] == 0
        assert first["left"] >= 50
        assert first["settled"] >= 20
        assert second["unsettled"] >= first["left"]
        assert second["left"] == 0
        acknowledged = {json.loads(line)["recipient"] for line in journal.read_text().splitlines()}
        assert await smtp.wait_for(acknowledged, within=_ARRIVES_WITHIN), server.log()[-5000:]
        assert {who: len(smtp.received[who]) for who in acknowledged} == dict.fromkeys(acknowledged, 1)
        await server.stop()  # the last one is recorded
    assert postgres.psql("SELECT count(*) FROM mailroom.history WHERE state = 'sent'").strip() == str(len(acknowledged))
