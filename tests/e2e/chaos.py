"""Kills the server under load at random moments, again and again, and checks that each acknowledged mail was sent.

    python -m tests.e2e.chaos --kills 200 --seed 7        (make chaos KILLS=200 SEED=7)

A writer posts codes and records every 200; the server is SIGKILLed and restarted; an SMTP server records what it
received. `judge` compares the three records; it is a pure function with tests of its own.
"""

import argparse
import asyncio
import json
import math
import random
import secrets
import signal
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from tests.e2e.harness import AUTHORIZATION, Server, configuration

CODE_LIFETIME = 120.0
"""Seconds; long beside an outage, short beside a run of 200 kills."""
RESUMES_WITHIN = 10.0
"""Seconds that an acknowledged mail may wait after a restart; those of several short lives add up."""
IN_FLIGHT = 1.0
"""Seconds before a kill: a mail that was received before that is settled, and must not be sent again."""
LATE = 0.5
"""Seconds after a kill in which the SMTP server may still read what was in its socket."""
_LONGEST_LIFE = 2.5
_KILLED_EARLY = 0.2
"""Share of the processes that may be killed while they start."""


@dataclass(frozen=True, slots=True)
class Life:
    """A server process, from when it was ready to its kill: Unix seconds; equal if it was killed while it started."""

    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of the mails."""

    acknowledged: int
    received: int
    kills: int
    repeated: int
    """Mails that arrived more than once, each because of a kill at which it was in flight."""
    slowest: float
    """Seconds of a ready server that the slowest acknowledged mail waited."""
    lost: tuple[str, ...]
    """Acknowledged, and never received."""
    stale: tuple[str, ...]
    """Received after the lifetime of the code."""
    slow: tuple[str, ...]
    """Received, but later than `RESUMES_WITHIN` seconds of a ready server."""
    unexplained: tuple[str, ...]
    """Received again without a kill in between at which it was in flight."""
    broken: tuple[str, ...]
    """Received without the code."""

    @property
    def faults(self) -> dict[str, tuple[str, ...]]:
        """The violations, by kind; empty: there are none."""
        kinds = ("lost", "stale", "slow", "unexplained", "broken")
        return {kind: getattr(self, kind) for kind in kinds if getattr(self, kind)}

    def __str__(self) -> str:
        summary = (
            f"{self.kills} kills: {self.acknowledged} acknowledged, {self.received} received, "
            f"{self.repeated} of them again after a kill; the slowest waited {self.slowest:.2f} s of a ready server"
        )
        return "\n".join([summary, *(f"{len(who)} {kind}: {', '.join(who[:5])}" for kind, who in self.faults.items())])


def judge(
    acknowledged: Mapping[str, float],
    received: Mapping[str, Sequence[float]],
    lives: Sequence[Life],
    broken: Collection[str] = (),
) -> Verdict:
    """Compare acknowledged mails (recipient → moment of the 200) with received ones (recipient → moments, in order)."""
    kills = [life.end for life in lives[:-1]]
    waited = {who: _lived(lives, at, received[who][0]) for who, at in acknowledged.items() if received.get(who)}
    return Verdict(
        acknowledged=len(acknowledged),
        received=len(received),
        kills=len(kills),
        repeated=sum(len(moments) > 1 for moments in received.values()),
        slowest=max(waited.values(), default=0.0),
        lost=tuple(who for who in acknowledged if not received.get(who)),
        stale=tuple(
            who for who, at in acknowledged.items() if received.get(who) and received[who][-1] > at + CODE_LIFETIME
        ),
        slow=tuple(who for who, seconds in waited.items() if seconds > RESUMES_WITHIN),
        unexplained=tuple(
            who
            for who, moments in received.items()
            if not all(_explained(one, again, kills) for one, again in pairwise(moments))
        ),
        broken=tuple(broken),
    )


def _lived(lives: Sequence[Life], start: float, end: float) -> float:
    """Return for how many seconds between two moments a server was ready."""
    return sum(max(0.0, min(end, life.end) - max(start, life.start)) for life in lives)


def _explained(one: float, again: float, kills: Sequence[float]) -> bool:
    """Whether a mail that was received at these two moments was in flight at a kill between them."""
    return any(one - LATE <= kill <= min(one + IN_FLIGHT, again) for kill in kills)


class Sink:
    """The SMTP server `sink.py`, and what it has received so far."""

    def __init__(self, lines: asyncio.StreamReader) -> None:
        self._lines = lines
        self._changed = asyncio.Condition()
        self.port = 0
        self.received: dict[str, list[float]] = defaultdict(list)
        self.broken: list[str] = []

    async def open(self) -> None:
        """Read the first line, which has the port."""
        self.port = json.loads(await self._lines.readline())["port"]

    async def read_mails(self) -> None:
        """Record every mail until the process ends."""
        async for line in self._lines:
            mail = json.loads(line)
            async with self._changed:
                self.received[mail["recipient"]].append(mail["at"])
                if not mail["whole"]:
                    self.broken.append(mail["recipient"])
                self._changed.notify_all()

    async def wait_for(self, recipients: Collection[str], within: float) -> bool:
        """Wait until all of them received a mail; False: some did not within so many seconds."""
        missing = set(recipients)

        def complete() -> bool:
            missing.difference_update([who for who in missing if who in self.received])
            return not missing

        try:
            async with asyncio.timeout(within), self._changed:
                await self._changed.wait_for(complete)
        except TimeoutError:
            return False
        return True


@asynccontextmanager
async def sink(*, seconds: float = 0.0) -> AsyncIterator[Sink]:
    """Run the SMTP server; it takes so many seconds to answer each mail."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(Path(__file__).with_name("sink.py")), str(seconds), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    smtp = Sink(process.stdout)
    reading: asyncio.Future[None] | None = None
    try:
        await smtp.open()
        reading = asyncio.ensure_future(smtp.read_mails())
        yield smtp
    finally:
        process.kill()
        await process.wait()
        if reading is not None:
            await reading


@asynccontextmanager
async def writer(server: Server, journal: Path, rate: float, *, first: int = 1) -> AsyncIterator[None]:
    """Post under load, from this number on; leaving the context waits for the requests under way.

    Raises AssertionError if it failed.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(Path(__file__).with_name("writer.py")),
        server.url,
        AUTHORIZATION,
        str(journal),
        str(rate),
        str(first),
    )
    try:
        yield
        assert process.returncode is None, f"the writer ended early with {process.returncode}"
        process.send_signal(signal.SIGTERM)
        status = await asyncio.wait_for(process.wait(), 30)
        assert status == 0, f"the writer ended with {status}"
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def kill_repeatedly(
    directory: Path,
    *,
    kills: int,
    seed: int,
    rate: float,
    shows_progress: bool = False,
    environment: Mapping[str, str] | None = None,
) -> Verdict:
    """Kill the server so many times under so many mails a second, and judge."""
    chance = random.Random(seed)
    journal = directory / "acknowledged.jsonl"
    lives: list[Life] = []
    async with sink() as smtp:
        provider = f'type = "smtp"\nhost = "127.0.0.1"\nport = {smtp.port}\ntls = "none"'
        settings = configuration(provider, code_lifetime=f"{CODE_LIFETIME:.0f}s")
        server = Server(directory, settings, environment=environment)
        async with server:
            ready_at = time.time()
            async with writer(server, journal, rate):
                for number in range(kills):
                    # The test is to kill at a random moment, so there is no event to wait for.
                    await asyncio.sleep(chance.uniform(0, _LONGEST_LIFE))
                    killed_at = await server.kill()
                    lives.append(Life(min(ready_at, killed_at), killed_at))
                    await server.start()
                    if chance.random() < _KILLED_EARLY and number < kills - 1:
                        ready_at = math.inf
                    else:
                        await server.ready()
                        ready_at = time.time()
                    if shows_progress:
                        sys.stdout.write(f"\r{number + 1} of {kills} kills, {len(smtp.received)} mails received ")
                        sys.stdout.flush()
            acknowledged = read_journal(journal)
            await smtp.wait_for(acknowledged, within=RESUMES_WITHIN + 5)
            lives.append(Life(ready_at, time.time()))
        return judge(acknowledged, smtp.received, lives, smtp.broken)


def read_journal(journal: Path) -> dict[str, float]:
    """Return what a writer has recorded: recipient → moment of the 200."""
    lines = (json.loads(line) for line in journal.read_text().splitlines())
    return {line["recipient"]: line["at"] for line in lines}


def main() -> int:
    """Run it from the command line; 1: a mail was lost, late or repeated without reason."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200, help="how many (200)")
    parser.add_argument("--seed", type=int, default=None, help="of the random moments; printed, to run the same again")
    parser.add_argument("--rate", type=float, default=150, help="mails a second (150)")
    arguments = parser.parse_args()
    seed = secrets.randbelow(1_000_000) if arguments.seed is None else arguments.seed
    sys.stdout.write(f"seed {seed}\n")
    with tempfile.TemporaryDirectory(prefix="mailroom-chaos-") as directory:
        verdict = asyncio.run(
            kill_repeatedly(
                Path(directory),
                kills=arguments.kills,
                seed=seed,
                rate=arguments.rate,
                shows_progress=sys.stdout.isatty(),
            )
        )
    sys.stdout.write(f"\n{verdict}\n")
    return 1 if verdict.faults else 0


if __name__ == "__main__":
    sys.exit(main())
