"""`python server.py`, started as an operator or a platform does."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

import server
from mailroom import config
from mailroom.clock import SystemClock
from mailroom.outbox.sqlite.lock import Lock
from mailroom.rendering.renderer import BUNDLED
from tests.courier.parts import ScriptedProvider, message
from tests.rendering.overlays import render, write_files

ROOT = Path(__file__).parents[1]
SETTINGS = """
from = "Acme <no-reply@acme.example>"
secret_key = "0c6fbb1e2d6a4a4f9a87c7f8f9f0f6c1d2a3b4c5d6e7f8091a2b3c4d5e6f7081"
shutdown_timeout = "2s"
[connector]
authorization = "Bearer test-token"
[providers.main]
type = "capture"
"""


def test_the_server_renders_the_operators_templates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_files(tmp_path / "mine", {"SignIn/html.jinja": "ours {{ code }}", "layout.html.jinja": "{% if %}"})
    write_files(tmp_path, {"mailroom.toml": f'templates = "mine"\n{SETTINGS}'})
    prepared = server.prepare(config.load(environ={}), SystemClock())
    assert render(prepared.renderer).html == "ours 314159"
    assert [fault.path for fault in prepared.renderer.faults] == ["mine/layout.html.jinja, line 1"]


async def test_a_providers_mails_may_leave_out_that_they_are_automatic(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_files(tmp_path, {"mailroom.toml": f"{SETTINGS}auto_submitted = false\n"})
    provider, clock = ScriptedProvider(), SystemClock()
    prepared = server.prepare(config.load(environ={}), clock)
    parts = await server.build(prepared, 0.0, connect=lambda *_: provider)
    await parts.courier.start()
    await parts.courier.accept(message(now=clock.now()))
    email = await provider.sent.get()
    await parts.courier.drain(1.0)
    await parts.outbox.close()
    assert b"Auto-Submitted" not in email.raw


@dataclass(frozen=True, slots=True)
class Process:
    """A server in a process of its own."""

    process: asyncio.subprocess.Process
    place: Path
    port: int

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    async def ready(self) -> None:
        """Wait until it answers; its socket was listening before it ran."""
        async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
            assert (await client.get(f"{self.url}/livez", headers={"connection": "close"})).status_code == 200

    async def is_ready(self) -> int:
        """Return the status of `/readyz`."""
        async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
            return (await client.get(f"{self.url}/readyz", headers={"connection": "close"})).status_code

    async def ended(self) -> int:
        """Wait for its end; return the exit code."""
        return await asyncio.wait_for(self.process.wait(), 30)

    def said(self) -> str:
        """Return what it wrote so far."""
        return (self.place / "log").read_text()


@asynccontextmanager
async def process(place: Path, *arguments: str, settings: str | None = SETTINGS) -> AsyncIterator[Process]:
    """Run a server in a folder of its own, on a socket that is listening already."""
    if settings is not None:
        (place / "mailroom.toml").write_text(settings)
    with socket.create_server(("127.0.0.1", 0)) as own, (place / "log").open("ab") as log:
        running = await asyncio.create_subprocess_exec(
            sys.executable,
            str(ROOT / "server.py"),
            *arguments,
            "--fd",
            str(own.fileno()),
            cwd=place,
            env={"PATH": os.environ["PATH"]},
            pass_fds=(own.fileno(),),
            start_new_session=True,
            stdout=log,
            stderr=log,
        )
        try:
            yield Process(running, place, own.getsockname()[1])
        finally:
            if running.returncode is None:
                os.killpg(running.pid, signal.SIGKILL)
                await running.wait()


async def test_it_serves_until_sigterm_and_exits_with_0(tmp_path: Path) -> None:
    async with process(tmp_path) as running:
        await running.ready()
        running.process.send_signal(signal.SIGTERM)
        assert await running.ended() == 0
        assert "server.listening" in running.said()
        assert "server.ended" in running.said()


async def test_rate_and_quota_of_a_provider_are_in_the_metrics(tmp_path: Path) -> None:
    limits = 'rate = "14/s"\nquota = "50000/d"\n'
    async with process(tmp_path, settings=SETTINGS + limits) as running:
        await running.ready()
        while await running.is_ready() != 200:
            pass
        async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
            lines = (await client.get(f"{running.url}/metrics")).text.splitlines()
    assert 'mailroom_provider_rate_per_second{provider="main"} 14.0' in lines
    assert 'mailroom_provider_quota_left{provider="main"} 50000.0' in lines


async def test_sigint_ends_it_without_a_drain(tmp_path: Path) -> None:
    async with process(tmp_path, settings=SETTINGS.replace('"2s"', '"60s"')) as running:
        await running.ready()
        clock = SystemClock()
        began = clock.monotonic()
        running.process.send_signal(signal.SIGINT)
        assert await running.ended() == 0
        assert clock.monotonic() - began < 5  # the drain alone takes 6


async def test_a_second_sigterm_ends_the_drain(tmp_path: Path) -> None:
    async with process(tmp_path, settings=SETTINGS.replace('"2s"', '"60s"')) as running:
        await running.ready()
        clock = SystemClock()
        began = clock.monotonic()
        running.process.send_signal(signal.SIGTERM)
        while await running.is_ready() != 503:  # the parent passes the signal on meanwhile
            pass
        received = clock.monotonic()
        # Within a second they are one request: platforms send the signal to parent and child.
        while clock.monotonic() - began < 0.8:
            running.process.send_signal(signal.SIGTERM)
            assert await running.is_ready() == 503
        await clock.sleep(received + 1 - clock.monotonic())
        running.process.send_signal(signal.SIGTERM)
        assert await running.ended() == 0
        assert clock.monotonic() - began < 5


async def test_all_faults_are_printed_at_once_before_it_listens(tmp_path: Path) -> None:
    async with process(tmp_path, settings='port = "high"\nfrm = "x"\n') as running:
        assert await running.ended() == server.EXIT_SETTINGS
        for path in ("port:", "frm:", "from:", "secret_key:", "connector.authorization:", "providers"):
            assert path in running.said()
        assert "Traceback" not in running.said()


async def test_in_development_it_needs_no_settings_and_prints_its_addresses(tmp_path: Path) -> None:
    async with process(tmp_path, "--dev", settings=None) as running:
        await running.ready()
        base = f"http://localhost:{running.port}"
        assert f"{base}/email" in running.said()
        assert f"{base}/console/captured" in running.said()
        async with httpx.AsyncClient(trust_env=False) as client:
            mail = {"to": "ada@example.com", "type": "SignIn", "payload": {"code": "123456"}}
            assert (await client.post(f"{running.url}/email", json=mail)).status_code == 200
            relayed = await client.post(f"{running.url}/email", json=mail, headers={"x-forwarded-for": "203.0.113.7"})
            assert relayed.status_code == 403


async def test_connections_wait_in_the_inherited_socket_while_a_predecessor_holds_the_outbox(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    lock = await Lock.take(tmp_path / "data" / "mailroom.db", clock=SystemClock(), wait_seconds=0)
    async with process(tmp_path) as running, httpx.AsyncClient(trust_env=False, timeout=30) as client:
        waiting = asyncio.create_task(client.get(f"{running.url}/readyz"))
        await _waits_for_the_outbox(running)
        assert not waiting.done()
        lock.release()
        assert (await waiting).status_code == 200


async def test_it_can_be_ended_while_it_waits(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    lock = await Lock.take(tmp_path / "data" / "mailroom.db", clock=SystemClock(), wait_seconds=0)
    try:
        async with process(tmp_path) as running:
            await _waits_for_the_outbox(running)
            running.process.send_signal(signal.SIGTERM)
            assert await running.ended() == 0
    finally:
        lock.release()


async def _waits_for_the_outbox(running: Process) -> None:
    """Return when it has logged that it waits for the outbox."""
    while "outbox.waiting" not in running.said():
        assert running.process.returncode is None, running.said()
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("fd", ["0", "999"])
async def test_a_descriptor_that_is_not_a_socket_is_reported(tmp_path: Path, fd: str) -> None:
    (tmp_path / "mailroom.toml").write_text(SETTINGS)
    ended, said = await _run(tmp_path, "--fd", fd)
    assert ended == server.EXIT_FAILED
    assert f"Mailroom cannot start: File descriptor {fd} is not a socket" in said
    assert "Traceback" not in said


async def test_a_port_in_use_is_reported(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        (tmp_path / "mailroom.toml").write_text(f"port = {port}\n{SETTINGS}")
        ended, said = await _run(tmp_path)
    assert ended == server.EXIT_FAILED
    assert f"Mailroom cannot start: Cannot listen on 127.0.0.1 port {port}: Address already in use" in said
    assert "Traceback" not in said


async def test_a_socket_of_its_own_outlives_the_process_that_bound_it(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
    running = Process(await _started(tmp_path, settings=f"port = {port}\n{SETTINGS}"), tmp_path, port)
    try:
        await _says(running, "server.listening")
        running.process.send_signal(signal.SIGHUP)
        while running.said().count("server.listening") < 2:
            async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
                assert (await client.get(f"{running.url}/livez")).status_code == 200
        running.process.send_signal(signal.SIGTERM)
        assert await running.ended() == 0
    finally:
        if running.process.returncode is None:
            os.killpg(running.process.pid, signal.SIGKILL)
            await running.process.wait()


async def test_the_parent_loads_no_library_of_the_application(tmp_path: Path) -> None:
    async with process(tmp_path) as running:
        await running.ready()
        [child] = _children(running.process.pid)
        assert {"apsw", "httptools", "msgspec", "uvloop"} <= _libraries(child)
        assert not {"apsw", "httptools", "msgspec", "uvloop"} & _libraries(running.process.pid)


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _libraries(pid: int) -> set[str]:
    """Return the folders and names of the shared libraries that a process has loaded."""
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return {part.partition(".")[0] for line in lines if ".so" in line for part in line.split("/")}


async def _started(place: Path, *, settings: str) -> asyncio.subprocess.Process:
    """Start a server that binds its own socket."""
    (place / "mailroom.toml").write_text(settings)
    with (place / "log").open("ab") as log:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            str(ROOT / "server.py"),
            cwd=place,
            env={"PATH": os.environ["PATH"]},
            start_new_session=True,
            stdout=log,
            stderr=log,
        )


async def _run(place: Path, *arguments: str) -> tuple[int | None, str]:
    """Run a server that cannot start; return its exit code and what it wrote."""
    running = await asyncio.create_subprocess_exec(
        sys.executable,
        str(ROOT / "server.py"),
        *arguments,
        cwd=place,
        env={"PATH": os.environ["PATH"]},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await asyncio.wait_for(running.communicate(), 30)
    return running.returncode, said.decode()


def test_help_lists_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        server.main(["--help"])
    assert ended.value.code == 0
    told = capsys.readouterr().out
    assert all(option in told for option in ("--dev", "--fd", "--config", "mailroom check"))


async def test_the_operators_templates_are_checked_once_it_listens_and_when_they_change(tmp_path: Path) -> None:
    write_files(tmp_path, {"mine/applications/app1/SignIn/en/html.jinja": "{{ code }}\n{{ code + 1 }}"})
    async with process(tmp_path, "--dev", settings='templates = "mine"\n') as running:
        await _says(running, "mine/applications/app1/SignIn/en/html.jinja, line 2")
        said = running.said()
        assert said.index("server.listening") < said.index("template.faulty")
        write_files(tmp_path, {"mine/layout.html.jinja": (BUNDLED / "layout.html.jinja").read_text() + "{{ 1 // 0 }}"})
        async with asyncio.timeout(30), httpx.AsyncClient(trust_env=False, timeout=30) as client:
            payload = {"code": "123456", "application": {"id": "app1", "name": "Riverside"}}
            mail = {"to": "ada@example.com", "type": "SignIn", "payload": payload}
            assert (await client.post(f"{running.url}/email", json=mail)).status_code == 200
            page = ""
            while "123456 is your Riverside sign-in code" not in page:
                page = (await client.get(f"{running.url}/console/captured")).text
        await _says(running, "divides by zero")
        assert running.said().count("mine/applications/app1/SignIn/en/html.jinja, line 2") == 1
        running.process.send_signal(signal.SIGTERM)
        assert await running.ended() == 0


async def _says(running: Process, words: str) -> None:
    """Return when it has logged this."""
    async with asyncio.timeout(30):
        while words not in running.said():
            assert running.process.returncode is None, running.said()
            await asyncio.sleep(0.01)
