"""Reloads the server, or kills the process that serves, under the load of Logto's own connector, and counts.

    python -m tests.e2e.reloads --reloads 100 --kills 20        (part of `make chaos`)

A reload is a SIGHUP to the parent process. The SMTP server tells when each code arrived, and how often.
"""

import argparse
import asyncio
import random
import secrets
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Literal, TypeAlias

from tests.e2e.chaos import Sink, sink
from tests.e2e.harness import AUTHORIZATION, Server, configuration
from tests.e2e.node import Answer, Connector, connector

USERS = 15
"""With the pauses below about 100 calls/s."""
_PAUSES = (0, 0.05, 0.1, 0.2, 0.3)
SHUTDOWN = 'shutdown_timeout = "12s"\n'
"""Of which deliveries under way have 5 s to end: the SMTP server may be slow where other tests run."""
_OLD_SECONDS = 5.5
"""A process that is killed younger is replaced after a pause."""

_numbers = count()

What: TypeAlias = Literal["reload", "kill"]
Front: TypeAlias = Callable[[int], AbstractAsyncContextManager[str]]
"""Given the server's port, runs what stands before it and returns its URL."""


@asynccontextmanager
async def direct(port: int) -> AsyncIterator[str]:
    """Put nothing before the server."""
    yield f"http://127.0.0.1:{port}"


@dataclass(slots=True)
class Tally:
    """What became of the calls."""

    calls: int = 0
    failed: list[Answer] = field(default_factory=list)
    longest_wait: float = 0.0
    """Seconds."""
    answered: dict[str, float] = field(default_factory=dict)
    """Recipient → when its code was accepted, Unix seconds."""
    late: float = 0.0
    """Seconds from the acceptance of a code to its arrival at the SMTP server, at most."""
    repeated: list[str] = field(default_factory=list)
    """Recipients that got their code more than once."""
    lost: list[str] = field(default_factory=list)
    """Recipients that got none."""

    def __str__(self) -> str:
        reasons = Counter(answer.dropped or answer.message for answer in self.failed)
        told = f" ({', '.join(f'{times} {reason}' for reason, times in reasons.items())})" if reasons else ""
        return (
            f"{self.calls} calls, {len(self.failed)} failed{told}, longest wait {self.longest_wait:.2f} s; "
            f"latest code after {self.late:.2f} s, {len(self.repeated)} sent twice, {len(self.lost)} lost"
        )


async def run(what: What, times: int, *, seed: int, provider_seconds: float = 0.0, front: Front = direct) -> Tally:
    """Do it so many times under load; the provider takes so many seconds to answer each mail."""
    tally, over = Tally(), asyncio.Event()
    with tempfile.TemporaryDirectory(prefix="mailroom-reloads-") as folder:
        async with sink(seconds=provider_seconds) as place:
            concurrency = 10 + int(150 * provider_seconds)
            provider = f'type = "smtp"\nhost = "127.0.0.1"\nport = {place.port}\ntls = "none"\n{concurrency = }'
            async with (
                Server(Path(folder), SHUTDOWN + configuration(provider)) as server,
                front(server.port) as url,
                connector() as logto,
            ):
                async with asyncio.TaskGroup() as group:
                    for user in range(USERS):
                        chance = random.Random(seed + user)
                        group.create_task(_ask_for_codes(logto, url, chance, tally=tally, over=over))
                    for _ in range(times):
                        # Time under load, and no event to wait for.
                        await asyncio.sleep(_OLD_SECONDS if what == "kill" else 0.5)
                        await (server.kill_child() if what == "kill" else server.reload())
                    await asyncio.sleep(_OLD_SECONDS)
                    over.set()
                await place.has(tally.answered, within=10)
        _judge(tally, place)
    return tally


async def _ask_for_codes(
    logto: Connector, url: str, chance: random.Random, *, tally: Tally, over: asyncio.Event
) -> None:
    while not over.is_set():
        code = f"{chance.randrange(1_000_000):06}"
        recipient = f"user{next(_numbers)}-{code}@example.com"
        mail = {"to": recipient, "type": "SignIn", "payload": {"code": code}}
        began = time.monotonic()
        answer = await logto.send(f"{url}/email", AUTHORIZATION, mail)
        tally.calls += 1
        tally.longest_wait = max(tally.longest_wait, time.monotonic() - began)
        if answer.ok:
            tally.answered[recipient] = time.time()
        else:
            tally.failed.append(answer)
        await asyncio.sleep(chance.choice(_PAUSES))


def _judge(tally: Tally, place: Sink) -> None:
    for recipient, answered_at in tally.answered.items():
        arrived = place.received.get(recipient)
        if not arrived:
            tally.lost.append(recipient)
            continue
        tally.late = max(tally.late, arrived[0] - answered_at)
        if len(arrived) > 1:
            tally.repeated.append(recipient)


def main() -> int:
    """Run it from the command line; 1: a call failed at a reload, or a code was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reloads", type=int, default=100, help="how many SIGHUPs (100)")
    parser.add_argument("--kills", type=int, default=20, help="how many SIGKILLs of the process that serves (20)")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000), help="of the pauses; printed")
    arguments = parser.parse_args()
    sys.stdout.write(f"seed {arguments.seed}\n")
    bad = False
    if arguments.reloads:
        tally = asyncio.run(run("reload", arguments.reloads, seed=arguments.seed))
        sys.stdout.write(f"{arguments.reloads} reloads: {tally}\n")
        bad = bool(tally.failed or tally.lost or tally.repeated)
    if arguments.kills:
        tally = asyncio.run(run("kill", arguments.kills, seed=arguments.seed))
        sys.stdout.write(f"{arguments.kills} kills of the process that serves: {tally}\n")
        bad = bad or bool(tally.lost)
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
