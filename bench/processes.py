"""Starts the programs that are measured, each as a process of its own on a core of its own.

with Sink("--chunking") as sink, mailroom(sink=sink.port) as server:
    figures = load(server, "--count", "1000")
"""

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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Final, Self

from bench.programs.load import AUTHORIZATION

ROOT: Final = Path(__file__).resolve().parents[1]
_CORES: Final = sorted(os.sched_getaffinity(0))
SERVER_CORE: Final = _CORES[0]
LOAD_CORE: Final = _CORES[-1]
SECRET_KEY: Final = "a secret key for measuring that is long enough"
_UNUSED_PORT: Final = 9
"""Nobody listens there: mails stay queued."""
_START_SECONDS: Final = 30.0
_SENT_WITHIN_SECONDS: Final = 60
_IDLE_INTERVAL_SECONDS: Final = 0.3
_IDLE_SHARE: Final = 0.05
_first_numbers: Final = count(10**6, 10**6)
"""Of each load: no mail is posted twice."""


@dataclass(frozen=True, slots=True)
class Running:
    """A server under measurement."""

    process: subprocess.Popen[str]
    port: int
    folder: Path
    """Its working directory, with its `log`."""

    @property
    def url(self) -> str:
        """Its address, without a path."""
        return f"http://127.0.0.1:{self.port}"

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

    def wait_until_listening(self) -> None:
        """Return once it accepts connections. Raises RuntimeError with its log."""

        def listens() -> bool:
            if self.process.poll() is not None:
                raise RuntimeError(f"it ended at once:\n{self.log()}")
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", self.port)) == 0

        _wait(listens, _START_SECONDS, lambda: f"it does not listen:\n{self.log()}")

    def wait_until_ready(self) -> None:
        """Return once `/readyz` is answered by 200. Raises RuntimeError with its log."""
        self._wait_for_200(urllib.request.Request(f"{self.url}/readyz"))

    def wait_until_accepting(self) -> None:
        """Return once a mail is answered by 200. Raises RuntimeError with its log."""
        body = json.dumps({"to": "first@example.com", "type": "SignIn", "payload": {"code": "000000"}}).encode()
        headers = {"Authorization": AUTHORIZATION, "Content-Type": "application/json"}
        self._wait_for_200(urllib.request.Request(f"{self.url}/email", body, headers))

    def wait_until_idle(self) -> None:
        """Return once it hardly uses CPU: a server checks its templates after it listens. Raises RuntimeError."""
        used = [self.cpu_seconds()]

        def is_idle() -> bool:
            time.sleep(_IDLE_INTERVAL_SECONDS)
            used.append(self.cpu_seconds())
            return used[-1] - used[-2] <= _IDLE_SHARE * _IDLE_INTERVAL_SECONDS

        _wait(is_idle, _START_SECONDS, lambda: "it never becomes idle")

    def log(self) -> str:
        """Return what it has written to stderr."""
        return (self.folder / "log").read_text()

    def _wait_for_200(self, request: urllib.request.Request) -> None:
        def answers() -> bool:
            # Other statuses than 2xx are raised as HTTPError, an OSError.
            with contextlib.suppress(OSError), urllib.request.urlopen(request, timeout=_START_SECONDS):
                return True
            return False

        _wait(answers, _START_SECONDS, lambda: f"{request.full_url} is not answered by 200:\n{self.log()}")


def _family(pid: int) -> Iterator[int]:
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            yield from _family(int(child))


class Sink:
    """An SMTP server, `bench.programs.sink`, that records when each mail arrives."""

    def __init__(self, *options: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="mailroom-bench-")
        self._journal = Path(self._folder.name, "journal")
        self.ca_file = Path(self._folder.name, "ca.pem")
        files = ("--journal", str(self._journal), "--starttls", str(self.ca_file))
        command = [sys.executable, "-m", "bench.programs.sink", *files, *options]
        self._process = on_core(LOAD_CORE, command, cwd=ROOT, stdout=subprocess.PIPE)
        assert self._process.stdout
        self.port = int(self._process.stdout.readline())

    def __enter__(self) -> Self:
        """Accept mails until the block ends."""
        return self

    def __exit__(self, *_failed: object) -> None:
        """End the process, which holds the output open that a caller of the bench may read to its end."""
        self._process.kill()
        self._process.communicate()
        self._folder.cleanup()

    def mails(self) -> int:
        """Return how many mails have arrived, and have their arrivals written."""
        with socket.create_connection(("127.0.0.1", self.port)) as connection, connection.makefile("rwb") as stream:
            stream.readline()
            stream.write(b"STAT\r\n")
            stream.flush()
            return int(stream.readline().split()[1])

    def wait_for(self, mails: int) -> None:
        """Return once so many have arrived in all. Raises RuntimeError after a minute."""
        _wait(lambda: self.mails() >= mails, _SENT_WITHIN_SECONDS, lambda: f"{self.mails()} of {mails} mails arrived")

    def arrivals(self) -> dict[str, float]:
        """Return when each mail arrived, in monotonic seconds by Message-ID's left side."""
        self.mails()
        lines = (line.split() for line in self._journal.read_text().splitlines())
        return {message_id.strip("<>").partition("@")[0]: int(at) / 1e9 for at, message_id in lines}


def on_core(core: int | None, arguments: Sequence[str], **options: Any) -> subprocess.Popen[str]:
    """Start a program on this core; None: on all."""
    cores = os.sched_getaffinity(0) if core is None else {core}
    return subprocess.Popen(
        arguments,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),  # noqa: PLW1509 - no threads yet that could hold a lock
        **options,
    )


@contextmanager
def program(
    *arguments: str | Path, core: int | None = SERVER_CORE, variables: Mapping[str, str] | None = None
) -> Iterator[Running]:
    """Run `python ARGUMENTS` in a folder of its own until the block ends; `{port}` in them stands for its port."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = str(probe.getsockname()[1])
    with tempfile.TemporaryDirectory(prefix="mailroom-bench-") as folder:
        environ = {name: value.replace("{port}", port) for name, value in (variables or {}).items()}
        with Path(folder, "log").open("w") as log:
            process = on_core(
                core,
                [sys.executable, *(str(argument).replace("{port}", port) for argument in arguments)],
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(ROOT), **environ},
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,  # so that its children end with it
            )
        try:
            server = Running(process, int(port), Path(folder))
            server.wait_until_listening()
            yield server
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextmanager
def mailroom(**options: Any) -> Iterator[Running]:
    """Run a Mailroom as `starting` does, and wait until it is ready and idle."""
    with starting(**options) as server:
        server.wait_until_ready()
        server.wait_until_idle()
        yield server


@contextmanager
def starting(
    *,
    sink: int = _UNUSED_PORT,
    provider: Mapping[str, str] | None = None,
    variant: str | None = None,
    tree: Path = ROOT,
    role: str = "all",
    database_url: str = "sqlite:///mailroom.db",
    workers: int = 1,
    templates: str = "",
) -> Iterator[Running]:
    """Run the Mailroom of a tree, or a variant of `bench.programs.variants`, until the block ends.

    It sends to this SMTP port, or by a provider of these settings. Several `workers` use all cores.
    """
    smtp = {"TYPE": "smtp", "HOST": "127.0.0.1", "PORT": str(sink), "TLS": "none", "CONCURRENCY": "16"}
    variables = {
        "MAILROOM_FROM": "Acme <no-reply@acme.example>",
        "MAILROOM_SECRET_KEY": SECRET_KEY,
        "MAILROOM_CONNECTOR__AUTHORIZATION": AUTHORIZATION,
        "MAILROOM_CONFIG": "",
        "MAILROOM_PORT": "{port}",
        "MAILROOM_DATABASE_URL": database_url,
        **({"MAILROOM_WORKERS": str(workers)} if workers > 1 else {}),
        "MAILROOM_ROLE": role,
        **({"MAILROOM_TEMPLATES": templates} if templates else {}),
        **{f"MAILROOM_PROVIDERS__MAIN__{name}": value for name, value in (provider or smtp).items()},
    }
    command = ("-m", "bench.programs.variants", variant) if variant else (tree / "server.py",)
    with program(*command, core=SERVER_CORE if workers == 1 else None, variables=variables) as server:
        yield server


def load(server: Running, *options: str, connections: int = 64) -> dict[str, float]:
    """Run `bench.programs.load` against a server; return its figures and the server's CPU a request as `cpu_us`.

    Raises RuntimeError if a request is refused.
    """
    cpu_seconds = server.cpu_seconds()
    numbers = ("--connections", str(connections), "--first", str(next(_first_numbers)))
    command = [sys.executable, "-m", "bench.programs.load", f"{server.url}/email", *numbers, *options]
    process = on_core(LOAD_CORE, command, cwd=ROOT, stdout=subprocess.PIPE)
    output, _ = process.communicate()
    if process.returncode:
        raise RuntimeError("the load failed")
    figures: dict[str, Any] = json.loads(output)
    if refused := figures.pop("refused"):
        raise RuntimeError(f"{len(refused)} requests were refused, the first one: {refused[0]}")
    requests = figures.pop("answered")
    return {"cpu_us": (server.cpu_seconds() - cpu_seconds) / requests * 1e6, **figures}


def _wait(condition: Callable[[], bool], seconds: float, problem: Callable[[], str]) -> None:
    """Return once the condition holds. Raises RuntimeError with the problem after so many seconds."""
    give_up = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > give_up:
            raise RuntimeError(problem())
        time.sleep(0.02)
