"""Operators' commands while a server runs."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import httpx

from tests.e2e.harness import AUTHORIZATION, ROOT, Server, configuration
from tests.smtp_server import smtp_server

NOTICED_WITHIN = 2.0
"""Seconds; a server looks once a second."""


async def run(directory: Path, *words: str, exit_code: int = 0) -> Any:
    """Run a command in a process of its own; return its JSON."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "mailroom", *words, "--json",
        cwd=directory, env={"PYTHONPATH": str(ROOT)}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    shown, error = await process.communicate()
    assert process.returncode == exit_code, error.decode()
    return json.loads(shown)


async def logged(server: Server, event: str) -> None:
    """Wait until the server has logged an event."""
    async with asyncio.timeout(NOTICED_WITHIN):
        while event not in server.log():  # noqa: ASYNC110 - a file has no event
            await asyncio.sleep(0.02)


async def state(directory: Path, id_: str) -> str:
    """Return a message's state."""
    return str((await run(directory, "outbox", "show", id_))["state"])


async def test_commands_change_what_a_running_server_does(tmp_path: Path) -> None:
    """Paused, mail waits; resumed, it is sent within two seconds, but what was cancelled; held mail is retried."""
    async with smtp_server(tls="none") as smtp:
        provider = f'type = "smtp"\nhost = "127.0.0.1"\nport = {smtp.port}\ntls = "none"'
        async with (
            Server(tmp_path, configuration(provider)) as server,
            httpx.AsyncClient(base_url=server.url, headers={"authorization": AUTHORIZATION}, trust_env=False) as client,
        ):

            async def post(name: str) -> str:
                payload = {"to": f"{name}@example.com", "type": "SignIn", "payload": {"code": "314159"}}
                return str((await client.post("/email", json=payload)).raise_for_status().json()["id"])

            async def status(exit_code: int = 0) -> Any:
                return await run(tmp_path, "status", "--url", server.url, exit_code=exit_code)

            await run(tmp_path, "pause", "main")
            await logged(server, "provider.paused")
            waiting, cancelled = await post("ada"), await post("bob")
            assert (await status())["providers"][0]["paused_since"]
            await run(tmp_path, "outbox", "cancel", cancelled)
            assert [await state(tmp_path, id_) for id_ in (waiting, cancelled)] == ["queued", "cancelled"]
            assert not smtp.mails

            await run(tmp_path, "resume", "main")
            await smtp.received(1, within=NOTICED_WITHIN)

            smtp.fault("MAIL", "530 5.7.0 authentication required")
            held = await post("eve")
            await logged(server, "provider.opened")
            report = await status(exit_code=1)
            assert report["problems"] == ["codes are held: 1 misconfigured"]
            assert report["providers"][0]["is_skipped"]
            assert "530 5.7.0" in report["providers"][0]["last_failure"]["diagnostic"]
            smtp.recover()
            assert (await run(tmp_path, "outbox", "retry", held[:18]))["retried"] == [held]
            await smtp.received(2, within=NOTICED_WITHIN)
            assert [mail.recipient for mail in smtp.mails] == ["ada@example.com", "eve@example.com"]
            assert (await run(tmp_path, "outbox", "retry", held, exit_code=1))["refused"][0]["state"] == "sent"
