"""Runs `python server.py`, its parent process and its child, on a socket that outlives them.

A test does::

    async with Server(tmp_path, configuration('type = "capture"')) as server:
        await server.reload()
"""

import asyncio
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
import pytest

ROOT = Path(__file__).parents[2]
AUTHORIZATION = "Bearer end-to-end"
SIGNING_KEY = "a signing key as the console shows it"
SECRET_KEY = "0c6fbb1e2d6a4a4f9a87c7f8f9f0f6c1d2a3b4c5d6e7f8091a2b3c4d5e6f7081"

POLL_SECONDS = 0.02
"""Between two questions for what no event tells, so that the answers do not take the cores from other tests."""
_STARTS_WITHIN = 30.0
"""Seconds; it takes one, but the machine may be busy."""
_EXITS_WITHIN = 20.0
"""Seconds; `shutdown_timeout` is 8."""


def unless(reason: str) -> pytest.MarkDecorator:
    """Skip for this reason, if there is one; not with EVERY_TEST in the environment, as in CI: there it fails."""
    return pytest.mark.skipif(bool(reason) and "EVERY_TEST" not in os.environ, reason=reason)


def smtp_settings(port: int, **more: object) -> str:
    """Return the inside of a provider's table: an SMTP server on this machine, without encryption."""
    settings = {"type": "smtp", "host": "127.0.0.1", "port": port, "tls": "none", **more}
    return "\n".join(f"{name} = {json.dumps(value)}" for name, value in settings.items())


def configuration(provider: str, *, code_lifetime: str = "10m") -> str:
    """Return a mailroom.toml with both endpoints configured; `provider` is the content of `[providers.main]`."""
    return f"""\
from = "Acme <no-reply@acme.example>"
secret_key = "{SECRET_KEY}"

[connector]
authorization = "{AUTHORIZATION}"

[webhook]
signing_keys = ["{SIGNING_KEY}"]

[lifetimes]
code = "{code_lifetime}"

[providers.main]
{provider}
"""


class Server:
    """A folder to serve from, a listening socket, and the process that serves, if there is one.

    The socket is bound here and inherited (`--fd`), so the port is known before the server runs, and connections
    that arrive between two processes wait instead of being refused, as they do behind systemd.
    """

    def __init__(
        self,
        directory: Path,
        configuration: str | None,
        *,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        open_files: int | None = None,
    ) -> None:
        self.directory = directory
        self.log_file = directory / "server.log"
        self._arguments = arguments
        self._wrapper = () if open_files is None else ("sh", "-c", f'ulimit -n {open_files}; exec "$@"', "sh")
        self._environment = {"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1", **(environment or {})}
        if configuration is not None:
            (directory / "mailroom.toml").write_text(configuration)
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port: int = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: asyncio.subprocess.Process | None = None
        self._alive_pipe: int | None = None
        """A pipe that all processes of the last start hold open: its end-of-file means that they have ended."""

    async def __aenter__(self) -> Self:
        """Start, and wait until it is ready."""
        try:
            await self.start()
            await self.ready()
        except BaseException:
            await self.cleanup()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the processes; their exit code is checked only by `stop`."""
        await self.cleanup()

    async def start(self) -> float:
        """Start a process, not yet ready; returns the moment in Unix seconds. A predecessor may still be draining."""
        fd = self._socket.fileno()
        moment = time.time()
        self._close_pipe()
        self._alive_pipe, held = os.pipe()
        with self.log_file.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._wrapper,
                sys.executable,
                str(ROOT / "server.py"),
                "--fd",
                str(fd),
                *self._arguments,
                cwd=self.directory,
                env=self._environment,
                pass_fds=(fd, held),
                start_new_session=True,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        os.close(held)
        return moment

    async def ready(self) -> None:
        """Return when `/readyz` answers 200. Raises AssertionError with the log if it does not in time."""
        process = self._running_process()
        polling = asyncio.ensure_future(self._poll_readyz())
        ending = asyncio.ensure_future(process.wait())
        try:
            await asyncio.wait({polling, ending}, timeout=_STARTS_WITHIN, return_when=asyncio.FIRST_COMPLETED)
            if not polling.done():
                raise AssertionError(f"the server did not get ready ({process.returncode=}):\n{self.log()}")
            await polling
        finally:
            polling.cancel()
            ending.cancel()
            await asyncio.gather(polling, ending, return_exceptions=True)

    async def _poll_readyz(self) -> None:
        async with httpx.AsyncClient(base_url=self.url, timeout=_STARTS_WITHIN, trust_env=False) as client:
            # The request waits in the socket until a process accepts it, so this loop seldom runs twice.
            while (await client.get("/readyz", headers={"connection": "close"})).status_code != httpx.codes.OK:  # noqa: ASYNC110 - another process
                await asyncio.sleep(POLL_SECONDS)

    async def kill(self) -> float:
        """SIGKILL to parent and child; returns a moment, in Unix seconds, after both have ended."""
        process = self._running_process()
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        assert self._alive_pipe is not None
        await asyncio.to_thread(os.read, self._alive_pipe, 1)
        return time.time()

    async def kill_child(self) -> None:
        """SIGKILL to the process that serves; its parent replaces it."""
        os.kill(self.pid, signal.SIGKILL)

    async def reload(self, *, fails: bool = False) -> None:
        """SIGHUP; returns when the next process serves, or `fails`. Raises AssertionError with the log otherwise."""
        line = '"reload.failed"' if fails else '"server.listening"'
        before = self.log().count(line)
        self._running_process().send_signal(signal.SIGHUP)
        try:
            async with asyncio.timeout(_STARTS_WITHIN):
                while self.log().count(line) == before:  # noqa: ASYNC110 - a file has no event
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            raise AssertionError(f"no other process serves:\n{self.log()}") from None

    async def stop(self) -> None:
        """SIGTERM. Raises AssertionError with the log unless it exits in time and with 0."""
        await self.ended(self.terminate())

    def terminate(self) -> asyncio.subprocess.Process:
        """SIGTERM, without waiting: a successor may be started at once, and the process is returned for `ended`."""
        process = self._running_process()
        process.send_signal(signal.SIGTERM)
        return process

    async def ended(self, process: asyncio.subprocess.Process) -> None:
        """Wait for a terminated process. Raises AssertionError with the log unless it exits in time and with 0."""
        try:
            status = await asyncio.wait_for(process.wait(), _EXITS_WITHIN)
        except TimeoutError:
            raise AssertionError(f"the server did not exit within {_EXITS_WITHIN} s:\n{self.log()}") from None
        assert status == 0, f"the server exited with {status}:\n{self.log()}"

    async def exit_code(self) -> int:
        """Wait for a process that ends by itself."""
        return await asyncio.wait_for(self._running_process().wait(), _STARTS_WITHIN)

    @property
    def pid(self) -> int:
        """The process that serves: the parent's child, the last one if there are several."""
        parent = self._running_process().pid
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        return int(children[-1]) if children else parent  # in development there is no parent

    def resident_octets(self) -> int:
        """Return the memory that the serving process has."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return 1024 * int(status.partition("VmRSS:")[2].split()[0])

    def log(self) -> str:
        """Return what all processes so far wrote to stdout and stderr."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def _running_process(self) -> asyncio.subprocess.Process:
        assert self._process is not None, "start it first"
        return self._process

    async def cleanup(self) -> None:
        """End the processes and close the socket."""
        if self._process is not None and self._process.returncode is None:
            await self.kill()
        self._socket.close()
        self._close_pipe()

    def _close_pipe(self) -> None:
        if self._alive_pipe is not None:
            os.close(self._alive_pipe)
            self._alive_pipe = None
