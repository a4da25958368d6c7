"""Restarts Mailroom and reloads the proxies before it under the load of Logto's own connector, and counts.

python -m tests.e2e.restarts --restarts 100 --reloads 20        (make chaos RESTARTS=100 RELOADS=20)
"""

import argparse
import asyncio
import random
import secrets
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.front import PROXIES, Front, front
from tests.e2e.harness import Server, configuration
from tests.e2e.load import Load, Tally, load
from tests.e2e.node import connector

CALLS_BETWEEN = 100
"""Calls that end between two restarts or reloads."""


@dataclass(frozen=True, slots=True)
class Site:
    """Logto's users, perhaps a proxy, and Mailroom."""

    load: Load
    server: Server
    proxy: Front | None


@asynccontextmanager
async def site(proxy: str, seed: int) -> AsyncIterator[Site]:
    """Run it under load; `proxy` is empty: Logto connects to Mailroom itself."""
    with tempfile.TemporaryDirectory(prefix="mailroom-restarts-") as name:
        directory = Path(name)
        (directory / "server").mkdir()
        async with Server(directory / "server", configuration('type = "capture"')) as server:
            if not proxy:
                async with connector() as logto, load(logto, server.url, random.Random(seed)) as users:
                    yield Site(users, server, None)
            else:
                async with (
                    front(proxy, directory, server.port) as place,
                    connector(place.authority) as logto,
                    load(logto, place.url, random.Random(seed)) as users,
                ):
                    yield Site(users, server, place)


async def restarts(proxy: str, times: int, seed: int) -> Tally:
    """Restart Mailroom so many times."""
    async with site(proxy, seed) as place:
        await _again_and_again(place.load, place.server.restart, times)
    return place.load.tally


async def reloads(proxy: str, times: int, seed: int) -> Tally:
    """Reload the proxy so many times."""
    async with site(proxy, seed) as place:
        assert place.proxy is not None
        await _again_and_again(place.load, place.proxy.reload, times)
    return place.load.tally


async def _again_and_again(users: Load, what: Callable[[], Awaitable[None]], times: int) -> None:
    for _ in range(times):
        await users.go_on(CALLS_BETWEEN)
        await what()
    await users.go_on(CALLS_BETWEEN)


def main() -> int:
    """Run it from the command line; 1: a call failed that must not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--restarts", type=int, default=100, help="how many, directly and behind each proxy (100)")
    parser.add_argument("--reloads", type=int, default=20, help="how many, of each proxy (20)")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000), help="of the pauses; printed")
    arguments = parser.parse_args()
    sys.stdout.write(f"seed {arguments.seed}\n")
    bad = False
    for proxy in ("", *PROXIES) if arguments.restarts else ():
        tally = asyncio.run(restarts(proxy, arguments.restarts, arguments.seed))
        sys.stdout.write(f"{arguments.restarts} restarts, {f'behind {proxy}' if proxy else 'direct'}: {tally}\n")
        sys.stdout.flush()
        bad = bad or bool(tally.failed)
    for proxy in PROXIES if arguments.reloads else ():
        tally = asyncio.run(reloads(proxy, arguments.reloads, arguments.seed))
        sys.stdout.write(f"{arguments.reloads} reloads of {proxy}: {tally}\n")
        sys.stdout.flush()
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
