"""Reloads the server, or kills the process that serves, under the load of Logto's own connector, and counts.

    python -m tests.e2e.reloads --reloads 100 --kills 20        (part of `make chaos`)

A reload is a SIGHUP to the parent process. The SMTP server prints when each code arrived, and how often. Logto connects
to Mailroom itself, and through each proxy of `deploy/`.
"""

import argparse
import asyncio
import math
import secrets
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from tests.e2e.chaos import Sink, sink
from tests.e2e.front import PROXIES
from tests.e2e.harness import Server, configuration
from tests.e2e.load import Tally, site
from tests.e2e.node import Answer

SHUTDOWN = 'shutdown_timeout = "12s"\n'
"""Of which deliveries under way have 5 s to end: the SMTP server may be slow where other tests run."""
USERS = 15
"""About 80 calls/s. With 40, on a busy machine, the SMTP server falls behind, reload or not, and codes come late."""
CALLS_BETWEEN = 100
"""Calls that end between two reloads."""
_LIFE_SECONDS = 5.5
"""A process that is killed younger is replaced after a pause. Longer than the 5 s of deliveries after a reload."""

Action: TypeAlias = Literal["reload", "kill"]
DIRECT = ""
"""No proxy."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of the calls and of their codes."""

    calls: Tally
    latest: float
    """Seconds from the acceptance of a code to its arrival at the SMTP server, at most."""
    repeated: tuple[str, ...]
    """Recipients that got their code more than once."""
    lost: tuple[str, ...]
    """Recipients that got none."""
    failed_before_kill: tuple[Answer, ...]
    """Calls that failed before the first kill; all that failed, if there was none."""
    repeated_before_kill: tuple[str, ...]
    """Likewise, the recipients that got their code more than once."""

    def __str__(self) -> str:
        return (
            f"{self.calls}; latest code after {self.latest:.2f} s, {len(self.repeated)} sent twice, "
            f"{len(self.lost)} lost"
        )


async def run(
    actions: Sequence[Action],
    *,
    seed: int,
    proxy: str = DIRECT,
    users: int = USERS,
    provider_seconds: float = 0.0,
) -> Verdict:
    """Do these under the load of so many users; the provider takes so many seconds to answer each mail."""
    with tempfile.TemporaryDirectory(prefix="mailroom-reloads-") as folder:
        async with sink(seconds=provider_seconds) as smtp:
            concurrency = 10 + int(250 * provider_seconds)
            provider = f'type = "smtp"\nhost = "127.0.0.1"\nport = {smtp.port}\ntls = "none"\n{concurrency = }'
            async with Server(Path(folder), SHUTDOWN + configuration(provider)) as server:
                async with site(server, proxy, seed, users) as (callers, _):
                    killed_at, failed = math.inf, callers.tally.failed
                    for action in actions:
                        if action == "reload":
                            await callers.wait_for_calls(CALLS_BETWEEN)
                            await server.reload()
                        else:
                            await asyncio.sleep(_LIFE_SECONDS)  # time under load, and no event to wait for
                            if killed_at == math.inf:
                                killed_at, failed = time.time(), [*callers.tally.failed]
                            await server.kill_child()
                    if actions[-1] == "reload":
                        await asyncio.sleep(_LIFE_SECONDS)  # likewise: the process that was replaced last drains
                    else:
                        await callers.wait_for_calls(CALLS_BETWEEN)
                # A busy machine sends more slowly than it accepts.
                await smtp.wait_for(callers.tally.accepted, within=60)
        return judge(callers.tally, smtp, killed_at, failed)


def judge(calls: Tally, smtp: Sink, killed_at: float, failed_before_kill: Sequence[Answer]) -> Verdict:
    """Compare the codes that were accepted with those that arrived; the first kill was at this Unix time."""
    arrived = {who: smtp.received[who] for who in calls.accepted if who in smtp.received}
    return Verdict(
        calls,
        latest=max((moments[0] - calls.accepted[who] for who, moments in arrived.items()), default=0.0),
        repeated=tuple(who for who, moments in arrived.items() if len(moments) > 1),
        lost=tuple(who for who in calls.accepted if who not in arrived),
        failed_before_kill=tuple(failed_before_kill),
        repeated_before_kill=tuple(who for who, (_, *more) in arrived.items() if any(at < killed_at for at in more)),
    )


def main() -> int:
    """Run it from the command line; 1: a call failed at a reload, leaked behind a proxy, or a code was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reloads", type=int, default=100, help="how many SIGHUPs, each way (100)")
    parser.add_argument("--kills", type=int, help="how many SIGKILLs of the process that serves (a fifth as many)")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000), help="of the pauses; printed")
    arguments = parser.parse_args()
    kills = arguments.reloads // 5 if arguments.kills is None else arguments.kills
    sys.stdout.write(f"seed {arguments.seed}\n")
    bad = False
    for proxy in (DIRECT, *PROXIES):
        path = f"behind {proxy}" if proxy else "direct"
        if arguments.reloads:
            verdict = asyncio.run(run(["reload"] * arguments.reloads, seed=arguments.seed, proxy=proxy))
            sys.stdout.write(f"{arguments.reloads} reloads, {path}: {verdict}\n")
            bad = bad or bool(verdict.calls.failed or verdict.lost or verdict.repeated)
        if kills:
            verdict = asyncio.run(run(["kill"] * kills, seed=arguments.seed, proxy=proxy))
            sys.stdout.write(f"{kills} kills of the process that serves, {path}: {verdict}\n")
            bad = bad or bool(verdict.lost or (proxy and verdict.calls.leaks))
        sys.stdout.flush()
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
