"""Reloads the proxies of `deploy/` under the load of Logto's own connector, and counts the calls that break and leak.

    python -m tests.e2e.proxy_reloads --reloads 20        (part of `make chaos`)

Caddy is tried again in a network namespace with `net.ipv4.tcp_migrate_req = 1`; `docs/security.md` says why. The
bounds hold for Debian's Caddy 2.6: one built with Go 1.23 or later exceeds them.
"""

import argparse
import asyncio
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.e2e.front import PROXIES
from tests.e2e.harness import Server, configuration
from tests.e2e.load import Tally, site
from tests.e2e.reloads import CALLS_BETWEEN

USERS = 40
"""About 190 calls/s on an idle machine."""
MOST_FAILED = {"nginx": 0.0, "caddy": 0.01}
"""Share of the calls. Caddy closes a socket at each reload: without `header Connection close` 0.022, with it 0.002."""
_MIGRATING = Path("/proc/sys/net/ipv4/tcp_migrate_req")
_IN_NAMESPACE = ("unshare", "--map-root-user", "--net", "sh", "-c")


async def reloads(proxy: str, times: int, seed: int) -> Tally:
    """Reload the proxy so many times."""
    with tempfile.TemporaryDirectory(prefix="mailroom-reloads-") as folder:
        async with (
            Server(Path(folder), configuration('type = "capture"')) as server,
            site(server, proxy, seed, USERS) as (users, proxied),
        ):
            assert proxied is not None
            for _ in range(times):
                await users.wait_for_calls(CALLS_BETWEEN)
                await proxied.reload()
            await users.wait_for_calls(CALLS_BETWEEN)
        return users.tally


def in_namespace(command: Sequence[str]) -> int | None:
    """Run a command where closing a listening socket moves its connections to another; None: not possible here."""
    prepare = f"ip link set lo up && echo 1 > {_MIGRATING}"
    if subprocess.run([*_IN_NAMESPACE, prepare], capture_output=True, check=False).returncode:
        return None
    return subprocess.run([*_IN_NAMESPACE, f'{prepare} && exec "$@"', "sh", *command], check=False).returncode


def main() -> int:
    """Run it from the command line; 1: more calls failed than allowed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reloads", type=int, default=20, help="how many, of each proxy (20)")
    parser.add_argument("--proxy", choices=PROXIES, action="append", help="only this one")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000), help="of the pauses; printed")
    arguments = parser.parse_args()
    migrates = _MIGRATING.exists() and _MIGRATING.read_text().strip() == "1"
    bad = False
    for proxy in arguments.proxy or PROXIES:
        tally = asyncio.run(reloads(proxy, arguments.reloads, arguments.seed))
        summary = f"{arguments.reloads} reloads of {proxy}{' with tcp_migrate_req' if migrates else ''}"
        sys.stdout.write(f"{summary}: {tally} (seed {arguments.seed})\n")
        sys.stdout.flush()
        bad = bad or len(tally.failed) > tally.calls * (0.0 if migrates else MOST_FAILED[proxy])
    if not arguments.proxy and not migrates:
        again = [sys.executable, "-m", "tests.e2e.proxy_reloads", "--proxy", "caddy"]
        status = in_namespace([*again, "--reloads", str(arguments.reloads), "--seed", str(arguments.seed)])
        if status is None:
            sys.stdout.write("no network namespace, or a kernel before 5.14: not tried with tcp_migrate_req\n")
        bad = bad or bool(status)
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
