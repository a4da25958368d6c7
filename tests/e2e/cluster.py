"""Two web and three worker processes on one PostgreSQL, under load, while workers and the database fail; and a judge.

    python -m tests.e2e.cluster --seconds 120 --seed 7        (make cluster SECONDS=120 SEED=7)

Workers are killed, stopped for longer than their leases live and continued, and cut off from the database and healed;
meanwhile the database is restarted, fast and by a crash. Each mail needs an attempt that was recorded before it, so a
mail that arrives twice needs an attempt without a recorded outcome, and a fault at that moment.
"""

import argparse
import asyncio
import os
import random
import secrets
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mailroom.message import Attempt, Outcome
from mailroom.outbox import Record
from mailroom.outbox.postgres.leases import ALIVE_SECONDS
from mailroom.outbox.postgres.postgres_operator import open_operator
from tests.e2e.chaos import CODE_LIFETIME, read_journal, sink, writer
from tests.e2e.harness import SECRET_KEY, Server, configuration, smtp_settings
from tests.postgres_server import PostgresServer

WEB: Final = ("web1", "web2")
WORKERS: Final = ("worker1", "worker2", "worker3")
RATE: Final = 60.0
"""Codes a second."""
_MAIL_SECONDS: Final = 0.3
"""That the SMTP server takes for a mail: so at each fault some are in flight."""
_PAUSE: Final = (0.5, 2.0)
_OUTAGE: Final = (ALIVE_SECONDS + 1, ALIVE_SECONDS + 3)
"""Seconds that a worker is stopped or cut off: others take over its messages."""
_DATABASE_PAUSE: Final = (4.0, 8.0)
_ARRIVES_WITHIN: Final = 40.0
_IN_FLIGHT: Final = _MAIL_SECONDS + 2.0
"""Seconds before a fault in which an attempt may have begun whose outcome is not recorded; the machine may be busy."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What was done to a worker or the database, and from when to when: Unix seconds."""

    kind: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of the mails."""

    acknowledged: int
    received: int
    faults: Mapping[str, int]
    """How many of each kind."""
    repeated: int
    """Mails that arrived again, each after an attempt whose outcome a fault kept from being recorded."""
    fenced: int
    """Outcomes that were not recorded, because another worker had taken over the message."""
    violations: Mapping[str, tuple[str, ...]]
    """What must not be → recipients; empty: every promise was kept."""

    def __str__(self) -> str:
        faults = ", ".join(f"{count} times {kind}" for kind, count in sorted(self.faults.items()))
        told = (
            f"{faults}: {self.acknowledged} acknowledged, {self.received} received, {self.repeated} of them again, "
            f"{self.fenced} fenced settles"
        )
        return "\n".join([told, *(f"{len(who)} {what}: {', '.join(who[:5])}" for what, who in self.violations.items())])


def judge(
    acknowledged: Mapping[str, float],
    received: Mapping[str, Sequence[float]],
    records: Sequence[Record],
    faults: Sequence[Fault],
    *,
    fenced: int = 0,
) -> Verdict:
    """Compare acknowledged mails (recipient → moment) with received ones (recipient → moments), attempts and faults."""
    by_recipient = {record.recipient: record for record in records}
    violations = {
        "lost": [who for who in acknowledged if not received.get(who)],
        "stale": [who for who, at in acknowledged.items() if max(received.get(who) or [at]) > at + CODE_LIFETIME],
        "arrived more often than attempts allow": [
            who
            for who, moments in received.items()
            if who not in by_recipient or len(moments) - 1 > len(_unrecorded(by_recipient[who]))
        ],
        "without a recorded outcome, and without a fault": [
            record.recipient for record in records if not all(_in_fault(one, faults) for one in _unrecorded(record))
        ],
    }
    return Verdict(
        acknowledged=len(acknowledged),
        received=len(received),
        faults=Counter(fault.kind for fault in faults),
        repeated=sum(len(moments) - 1 for moments in received.values()),
        fenced=fenced,
        violations={what: tuple(who) for what, who in violations.items() if who},
    )


def _unrecorded(record: Record) -> list[Attempt]:
    return [attempt for attempt in record.attempts if attempt.outcome in (None, Outcome.UNCERTAIN)]


def _in_fault(attempt: Attempt, faults: Sequence[Fault]) -> bool:
    return any(fault.start - _IN_FLIGHT <= attempt.started_at <= fault.end + _IN_FLIGHT for fault in faults)


class Gate:
    """The way to the database, which can be cut: what is under way then arrives when it is healed."""

    def __init__(self, port: int) -> None:
        self._database_port = port
        self._is_open = asyncio.Event()
        self._is_open.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    @classmethod
    @asynccontextmanager
    async def to(cls, port: int) -> AsyncIterator["Gate"]:
        """Listen on a port of its own, and forward to this one."""
        gate = cls(port)
        server = await asyncio.start_server(gate._serve, "127.0.0.1", 0)
        gate.port = server.sockets[0].getsockname()[1]
        try:
            yield gate
        finally:
            server.close()
            for task in gate._tasks:
                task.cancel()
            await asyncio.gather(*gate._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Let nothing through; connections stay open."""
        self._is_open.clear()

    def heal(self) -> None:
        """Let everything through."""
        self._is_open.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        try:
            with suppress(OSError):
                await self._is_open.wait()
                far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._database_port)
                await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))
        except asyncio.CancelledError:
            pass  # asyncio's server would report it
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                await self._is_open.wait()
                writer.write(data)
                await writer.drain()
        finally:
            writer.close()


@dataclass(frozen=True, slots=True)
class Cluster:
    """The processes, and what was done to them."""

    database: PostgresServer
    servers: dict[str, Server]
    gates: dict[str, Gate]
    faults: list[Fault]

    async def fail_workers(self, chance: random.Random) -> None:
        """Do each kind of fault to a worker, in an order of chance, again and again until cancelled."""
        kinds: list[Callable[[str, random.Random], Awaitable[None]]] = [self._kill, self._stop, self._cut]
        while True:
            for kind in chance.sample(kinds, len(kinds)):
                await asyncio.sleep(chance.uniform(*_PAUSE))
                await kind(chance.choice(WORKERS), chance)

    async def restart_database(self, chance: random.Random) -> None:
        """Restart it, fast and by a crash, again and again until cancelled."""
        while True:
            for mode in ("fast", "immediate"):
                await asyncio.sleep(chance.uniform(*_DATABASE_PAUSE))
                start = time.time()
                restart = asyncio.create_task(asyncio.to_thread(self._restart, mode))
                try:
                    await asyncio.shield(restart)
                finally:
                    await restart  # also when it is cancelled
                    self.faults.append(Fault(f"database restarted {mode}", start, time.time()))

    def _restart(self, mode: str) -> None:
        self.database.stop(mode)
        self.database.start()

    async def _kill(self, name: str, _: random.Random) -> None:
        start = time.time()
        await self.servers[name].kill_child()
        self.faults.append(Fault("killed", start, time.time()))

    async def _stop(self, name: str, chance: random.Random) -> None:
        start, process = time.time(), self.servers[name].pid
        os.kill(process, signal.SIGSTOP)
        try:
            await asyncio.sleep(chance.uniform(*_OUTAGE))
        finally:
            os.kill(process, signal.SIGCONT)
            self.faults.append(Fault("stopped", start, time.time()))

    async def _cut(self, name: str, chance: random.Random) -> None:
        start = time.time()
        self.gates[name].cut()
        try:
            await asyncio.sleep(chance.uniform(*_OUTAGE))
        finally:
            self.gates[name].heal()
            self.faults.append(Fault("cut off", start, time.time()))


@asynccontextmanager
async def _cluster(folder: Path, database: PostgresServer, smtp_port: int) -> AsyncIterator[Cluster]:
    """Run the processes; each worker has a way of its own to the database."""
    settings = configuration(smtp_settings(smtp_port), code_lifetime=f"{CODE_LIFETIME:.0f}s")
    cluster = Cluster(database, {}, {}, [])
    async with AsyncExitStack() as stack:
        for name in (*WEB, *WORKERS):
            url = database.dsn()
            if name in WORKERS:
                gate = await stack.enter_async_context(Gate.to(database.port))
                url = url.replace(str(database.port), str(gate.port))
                cluster.gates[name] = gate
            (folder / name).mkdir()
            role = f'role = "{name.rstrip("123")}"\n'
            server = Server(folder / name, role + settings, environment={"DATABASE_URL": url})
            cluster.servers[name] = await stack.enter_async_context(server)
        yield cluster


async def run(folder: Path, database: PostgresServer, *, seconds: float, seed: int, rate: float = RATE) -> Verdict:
    """Post codes to both web processes for so many seconds while all else fails, and judge."""
    journals = [folder / f"{name}.jsonl" for name in WEB]
    async with sink(seconds=_MAIL_SECONDS) as smtp, _cluster(folder, database, smtp.port) as cluster:
        async with AsyncExitStack() as load:
            for number, (name, journal) in enumerate(zip(WEB, journals, strict=True)):
                first = 1 + 500_000 * number
                await load.enter_async_context(writer(cluster.servers[name], journal, rate / len(WEB), first=first))
            failing = [
                asyncio.create_task(cluster.fail_workers(random.Random(f"{seed} workers"))),
                asyncio.create_task(cluster.restart_database(random.Random(f"{seed} database"))),
            ]
            try:
                await asyncio.wait(failing, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
            finally:
                for task in failing:
                    task.cancel()
                results = await asyncio.gather(*failing, return_exceptions=True)
            for result in results:
                assert isinstance(result, asyncio.CancelledError), f"a fault could not be made: {result!r}"
        acknowledged = {who: at for journal in journals for who, at in read_journal(journal).items()}
        await smtp.wait_for(acknowledged, within=_ARRIVES_WITHIN)
        for server in cluster.servers.values():
            await server.stop()  # records the last outcomes
        outbox = await open_operator(database.dsn(), secret_keys=[SECRET_KEY])
        records = await outbox.find(limit=10_000_000)
        await outbox.close()
        fenced = sum(server.log().count('"lease.lost"') for server in cluster.servers.values())
        return judge(acknowledged, smtp.received, records, cluster.faults, fenced=fenced)


def main() -> int:
    """Run it from the command line; 1: a mail was lost, or repeated without reason."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60, help="how long codes are posted (60)")
    parser.add_argument("--seed", type=int, default=None, help="of the faults; printed, to run the same again")
    parser.add_argument("--rate", type=float, default=RATE, help=f"codes a second ({RATE:.0f})")
    arguments = parser.parse_args()
    seed = secrets.randbelow(1_000_000) if arguments.seed is None else arguments.seed
    sys.stdout.write(f"seed {seed}\n")
    with tempfile.TemporaryDirectory(prefix="mailroom-cluster-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # PostgreSQL does not run as root
        database = PostgresServer.create(folder)
        database.start()
        try:
            verdict = asyncio.run(run(folder, database, seconds=arguments.seconds, seed=seed, rate=arguments.rate))
        finally:
            if database.is_running():
                database.stop("immediate")
    sys.stdout.write(f"{verdict}\n")
    return 1 if verdict.violations else 0


if __name__ == "__main__":
    sys.exit(main())
