"""Starts the programs that are measured, each as a process of its own on a core of its own."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

AUTHORIZATION: Final = "Bearer bench-authorization"
SERVER_CORE: Final = 0
LOAD_CORE: Final = 1 if (os.cpu_count() or 1) > 1 else 0
_ROOT: Final = Path(__file__).resolve().parents[1]
_START_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Running:
    """A server under measurement."""

    process: subprocess.Popen[str]
    port: int
    folder: Path

    @property
    def url(self) -> str:
        """Where it takes mails."""
        return f"http://127.0.0.1:{self.port}/email"

    def resident_mib(self) -> float:
        """Return its resident memory."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        raise RuntimeError("the process is gone")

    def cpu_seconds(self) -> float:
        """Return the CPU time that it has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def on_core(core: int, arguments: Sequence[str], **options: Any) -> subprocess.Popen[str]:
    """Start a program on this core."""
    return subprocess.Popen(
        arguments,
        cwd=_ROOT,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),  # noqa: PLW1509 - no threads yet that could hold a lock
        **options,
    )


@contextmanager
def program(
    module: str, *arguments: str, core: int = SERVER_CORE, variables: dict[str, str] | None = None
) -> Iterator[Running]:
    """Run `python -m MODULE … PORT` until the block ends."""
    with tempfile.TemporaryDirectory(prefix="mailroom-bench-") as folder:
        port = free_port()
        environ = {**os.environ, **(variables or {})}
        process = on_core(
            core,
            [sys.executable, "-m", module, *(argument.format(port=port, folder=folder) for argument in arguments)],
            env=environ,
            stdout=subprocess.DEVNULL,
            stderr=(log := open(Path(folder, "log"), "w")),  # noqa: SIM115, PTH123 - closed below
        )
        try:
            _wait_for(port, process, Path(folder, "log"))
            yield Running(process, port, Path(folder))
        finally:
            process.kill()
            process.wait()
            log.close()


@contextmanager
def mailroom(*, sink: int | None = None, role: str = "all", variant: str = "real", **more: str) -> Iterator[Running]:
    """Run Mailroom, sending to this SMTP port; `variant` is one of `bench.variants`."""
    variables = {
        "MAILROOM_FROM": "Acme <no-reply@acme.example>",
        "MAILROOM_SECRET_KEY": "a secret key for measuring that is long enough",
        "MAILROOM_CONNECTOR__AUTHORIZATION": AUTHORIZATION,
        "MAILROOM_ROLE": role,
        "MAILROOM_CONFIG": "",
        "MAILROOM_PROVIDERS__MAIN__TYPE": "smtp",
        "MAILROOM_PROVIDERS__MAIN__HOST": "127.0.0.1",
        "MAILROOM_PROVIDERS__MAIN__PORT": str(sink or 9),
        "MAILROOM_PROVIDERS__MAIN__TLS": "none",
        "MAILROOM_PROVIDERS__MAIN__CONCURRENCY": "16",
        **more,
    }
    with program("bench.variants", variant, "{port}", "{folder}", variables=variables) as running:
        yield running


def load(url: str, *options: str, connections: int = 64) -> dict[str, Any]:
    """Run the load against a server and return its figures."""
    process = on_core(
        LOAD_CORE,
        [
            sys.executable,
            "-m",
            "bench.load",
            url,
            "--authorization",
            AUTHORIZATION,
            "--connections",
            str(connections),
            *options,
        ],
        stdout=subprocess.PIPE,
    )
    output, _ = process.communicate()
    if process.returncode:
        raise RuntimeError("the load failed")
    figures: dict[str, Any] = json.loads(output)
    if figures["refused"]:
        raise RuntimeError(f"{figures['refused']} requests were refused, the first one: {figures['first_refusal']}")
    return figures


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_for(port: int, process: subprocess.Popen[str], log: Path) -> None:
    give_up = time.monotonic() + _START_SECONDS
    while time.monotonic() < give_up:
        if process.poll() is not None:
            raise RuntimeError(f"it ended at once:\n{log.read_text()}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError(f"it does not listen:\n{log.read_text()}")
