"""Starts the programs that are measured, each as a process of its own on a core of its own."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

AUTHORIZATION: Final = "Bearer bench-authorization"
SERVER_CORE: Final = 0
LOAD_CORE: Final = 1 if (os.cpu_count() or 1) > 1 else 0
ROOT: Final = Path(__file__).resolve().parents[1]
_NOBODY: Final = 9
"""A port that nobody listens on: mails stay queued."""
_START_SECONDS: Final = 30.0
_IDLE_INTERVAL_SECONDS: Final = 0.3
_IDLE_SHARE: Final = 0.05


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
        """Return the resident memory of the process and its children."""
        statuses = "".join(Path(f"/proc/{pid}/status").read_text() for pid in _family(self.process.pid))
        return sum(int(line.split()[1]) for line in statuses.splitlines() if line.startswith("VmRSS:")) / 1024

    def cpu_seconds(self) -> float:
        """Return the CPU time, user and system, of all threads of the process and its children."""
        ticks = 0
        for pid in _family(self.process.pid):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(int(field) for field in fields[11:15])  # with the children that ended: proc_pid_stat(5)
        return ticks / os.sysconf("SC_CLK_TCK")

    def wait_until_ready(self) -> None:
        """Return once `/readyz` is answered by 200. Raises RuntimeError."""
        _wait_for_answer(urllib.request.Request(self.url.replace("/email", "/readyz")))

    def wait_until_accepting(self) -> None:
        """Return once a mail is answered by 200. Raises RuntimeError."""
        body = json.dumps({"to": "first@example.com", "type": "SignIn", "payload": {"code": "000000"}}).encode()
        headers = {"Authorization": AUTHORIZATION, "Content-Type": "application/json"}
        _wait_for_answer(urllib.request.Request(self.url, body, headers))

    def wait_until_idle(self) -> None:
        """Return once it hardly uses CPU: a server checks its templates after it listens. Raises RuntimeError."""
        give_up = time.monotonic() + _START_SECONDS
        before = self.cpu_seconds()
        while time.monotonic() < give_up:
            time.sleep(_IDLE_INTERVAL_SECONDS)
            now = self.cpu_seconds()
            if now - before <= _IDLE_SHARE * _IDLE_INTERVAL_SECONDS:
                return
            before = now
        raise RuntimeError("it does not come to rest")


def _family(pid: int) -> Iterator[int]:
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            yield from _family(int(child))


def on_core(core: int, arguments: Sequence[str], **options: Any) -> subprocess.Popen[str]:
    """Start a program on this core."""
    return subprocess.Popen(
        arguments,
        cwd=ROOT,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),  # noqa: PLW1509 - no threads yet that could hold a lock
        **options,
    )


@contextmanager
def program(
    *arguments: str | Path, core: int = SERVER_CORE, variables: dict[str, str] | None = None
) -> Iterator[Running]:
    """Run `python ARGUMENTS` until the block ends; `{port}` and `{folder}` in them stand for a port and a folder."""
    with tempfile.TemporaryDirectory(prefix="mailroom-bench-") as folder:
        places = {"port": str(port := free_port()), "folder": folder}
        environ = {name: value.format(**places) for name, value in (variables or {}).items()}
        process = on_core(
            core,
            [sys.executable, *(str(argument).format(**places) for argument in arguments)],
            env={**os.environ, **environ},
            stdout=subprocess.DEVNULL,
            stderr=(log := open(Path(folder, "log"), "w")),  # noqa: SIM115, PTH123 - closed below
            start_new_session=True,  # so that its children end with it
        )
        try:
            _wait_for(port, process, Path(folder, "log"))
            yield Running(process, port, Path(folder))
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            log.close()


@contextmanager
def mailroom(
    *,
    sink: int = _NOBODY,
    provider: Mapping[str, str] | None = None,
    variant: str | None = None,
    tree: Path = ROOT,
    role: str = "all",
    templates: str = "",
) -> Iterator[Running]:
    """Run the Mailroom of a tree, or a variant of `bench.variants`, until the block ends; wait until it is idle.

    It sends to this SMTP port, or by a provider of these settings.
    """
    with starting(sink=sink, provider=provider, variant=variant, tree=tree, role=role, templates=templates) as server:
        server.wait_until_ready()
        server.wait_until_idle()
        yield server


@contextmanager
def starting(
    *,
    sink: int = _NOBODY,
    provider: Mapping[str, str] | None = None,
    variant: str | None = None,
    tree: Path = ROOT,
    role: str = "all",
    templates: str = "",
) -> Iterator[Running]:
    """Run the same, from its first moment of listening."""
    smtp = {"TYPE": "smtp", "HOST": "127.0.0.1", "PORT": str(sink), "TLS": "none", "CONCURRENCY": "16"}
    variables = {
        "MAILROOM_FROM": "Acme <no-reply@acme.example>",
        "MAILROOM_SECRET_KEY": "a secret key for measuring that is long enough",
        "MAILROOM_CONNECTOR__AUTHORIZATION": AUTHORIZATION,
        "MAILROOM_CONFIG": "",
        "MAILROOM_PORT": "{port}",
        "MAILROOM_DATABASE_URL": "sqlite:///{folder}/mailroom.db",
        "MAILROOM_ROLE": role,
        **({"MAILROOM_TEMPLATES": templates} if templates else {}),
        **{f"MAILROOM_PROVIDERS__MAIN__{name}": value for name, value in (provider or smtp).items()},
    }
    command = ("-m", "bench.variants", variant) if variant else (tree / "server.py",)
    with program(*command, variables=variables) as server:
        yield server


def load(server: Running, *options: str, connections: int = 64) -> dict[str, Any]:
    """Run the load against a server; return its figures, and the server's CPU time a request in µs as `cpu_us`."""
    cpu_seconds = server.cpu_seconds()
    process = on_core(
        LOAD_CORE,
        [
            sys.executable,
            "-m",
            "bench.load",
            server.url,
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
    figures["cpu_us"] = (server.cpu_seconds() - cpu_seconds) / figures["answered"] * 1e6
    return figures


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_for_answer(request: urllib.request.Request) -> None:
    give_up = time.monotonic() + _START_SECONDS
    while time.monotonic() < give_up:
        with contextlib.suppress(OSError), urllib.request.urlopen(request, timeout=_START_SECONDS):
            return  # other answers than 2xx are raised as HTTPError, an OSError
        time.sleep(0.01)
    raise RuntimeError(f"{request.full_url} is not answered by 200")


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
