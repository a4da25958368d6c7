"""Runs providers that fail in every way while codes are posted, and judges whether each code goes out in time.

    python -m tests.e2e.fleet --seconds 120 --seed 7        (make fleet SECONDS=120 SEED=7)

Five SMTP servers change their behaviour every few seconds, by a seeded script; a sixth one, the last of the route,
works. A run in which all six work comes first, for comparison. The judge has a file and tests of its own.
"""

import argparse
import asyncio
import json
import random
import re
import secrets
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from bench.programs import load
from mailroom.outbox import Record
from mailroom.outbox.sqlite.operator import open_for_operator
from mailroom.outbox.sqlite.queries import SqliteRecords
from tests.e2e.fleet_judge import Arrival, Verdict, judge
from tests.e2e.harness import AUTHORIZATION, ROOT, SECRET_KEY, Server, configuration, smtp_settings
from tests.smtp_server import DROP, HANG, Answer, Late, smtp_server
from tests.smtp_server import Server as SmtpServer

LIES: Final = "lies"
BEHAVIOURS: Final[Mapping[str, Sequence[tuple[str, Answer]]]] = {
    "works": (),
    "throttles": (
        ("GREETING", "421 4.7.0 too many connections"),
        ("MAIL", "421 4.7.0 too many messages"),
        ("RCPT", "451 4.7.1 slow down"),
        ("CONTENT", "451 4.7.1 try again later"),
    ),
    "hangs before the content": (("GREETING", HANG), ("EHLO", HANG), ("MAIL", HANG), ("RCPT", HANG), ("DATA", HANG)),
    "hangs after the content": (("CONTENT", HANG),),
    "resets the connection": (("GREETING", DROP), ("RCPT", DROP), ("CONTENT", DROP)),
    "refuses": (("MAIL", "550 5.7.1 policy"), ("RCPT", "550 5.7.1 policy"), ("CONTENT", "554 5.7.1 policy")),
    LIES: (),
    "answers late": (("CONTENT", Late(4)),),
}
"""What a server does → commands and answers, one of which it picks."""
_LASTS: Final = (2.0, 6.0)
"""Seconds that a behaviour lasts, at least and at most."""
FAULTY: Final = ("one", "two", "three", "four", "five")
GOOD: Final = "good"
RATE: Final = 200.0
"""Codes a second."""
LIFETIME_SECONDS: Final = 600
"""Of a code; it must be handed over 30 s before its end."""
AGAIN_ONE_IN: Final = 10
"""One code in so many is for a recipient who asked 0.2 s before: it supersedes that code if it is not sent yet."""

_MESSAGE_ID: Final = re.compile(rb"^Message-ID: <([0-9a-f-]{36})@", re.IGNORECASE | re.MULTILINE)


class Fleet:
    """The servers, and what arrived at them."""

    def __init__(self, servers: Mapping[str, SmtpServer]) -> None:
        self.servers = servers
        self._arrivals: list[Arrival] = []
        self._lying: set[str] = set()

    @property
    def providers(self) -> str:
        """Return the settings: the good provider comes last."""
        tables = [f"[providers.{name}]\n{smtp_settings(server.port)}" for name, server in self.servers.items()]
        return "\n".join(tables)

    def arrivals(self) -> list[Arrival]:
        """Return what has arrived so far; the servers forget the mails."""
        for name, server in self.servers.items():
            for mail in server.mails:
                found = _MESSAGE_ID.search(mail.content)
                self._arrivals.append(Arrival(name, found[1].decode() if found else "", mail.at, name in self._lying))
            server.mails.clear()
        return self._arrivals

    async def misbehave(self, name: str, deck: Sequence[str], chance: random.Random) -> None:
        """Change a server's behaviour every few seconds until cancelled."""
        server = self.servers[name]
        while True:
            for behaviour in deck:
                self.arrivals()
                server.recover()
                (self._lying.add if behaviour == LIES else self._lying.discard)(name)
                if answers := BEHAVIOURS[behaviour]:
                    server.fault(*chance.choice(answers))
                await asyncio.sleep(chance.uniform(*_LASTS))


@asynccontextmanager
async def fleet(seed: int, *, faulty: bool) -> AsyncIterator[Fleet]:
    """Run the servers; `faulty`: all but the last misbehave, each behaviour at one of them within seconds."""
    chance = random.Random(seed)
    deck = chance.sample(list(BEHAVIOURS), len(BEHAVIOURS))
    async with AsyncExitStack() as stack:
        servers = {
            name: await stack.enter_async_context(smtp_server(pipelining=number > 0, chunking=number % 2 == 1))
            for number, name in enumerate((*FAULTY, GOOD))
        }
        place = Fleet(servers)
        tasks = [
            asyncio.create_task(place.misbehave(name, deck[number:] + deck[:number], random.Random(f"{seed} {name}")))
            for number, name in enumerate(FAULTY if faulty else ())
        ]
        try:
            yield place
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def run(directory: Path, *, seconds: float, seed: int, faulty: bool = True) -> Verdict:
    """Post codes for so many seconds, wait until each has its end, and judge."""
    async with fleet(seed, faulty=faulty) as place:
        text = configuration("", code_lifetime=f"{LIFETIME_SECONDS}s").replace("[providers.main]\n", place.providers)
        text = text.replace(AUTHORIZATION, load.AUTHORIZATION)
        async with Server(directory, text) as server:
            accepted = await _post(server.url, seconds, directory / "posted.json")
            outbox = await open_for_operator(directory / "data" / "mailroom.db", secret_keys=[SECRET_KEY])
            try:
                records = await _settled(outbox)
            finally:
                await outbox.close()
        return judge(accepted, records, place.arrivals(), rate=len(accepted) / seconds)


async def _post(url: str, seconds: float, journal: Path) -> list[str]:
    """Post codes for so many seconds; return the ids of those that were accepted."""
    options = {"rate": RATE, "count": int(RATE * seconds), "connections": 200, "again": AGAIN_ONE_IN, "times": journal}
    command = ("-m", "bench.programs.load", f"{url}/email", *(f"--{name}={given}" for name, given in options.items()))
    process = await asyncio.create_subprocess_exec(sys.executable, *command, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    try:
        await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0
    return list(json.loads(journal.read_text()))  # noqa: ASYNC240 - the load is over


async def _settled(outbox: SqliteRecords) -> list[Record]:
    """Return all records once nothing waits any more, or the last code's lifetime is over."""
    with suppress(TimeoutError):
        async with asyncio.timeout(LIFETIME_SECONDS):
            while await outbox.held() or any(depth.count for depth in (await outbox.depth()).values()):  # noqa: ASYNC110 - a database sets no event
                await asyncio.sleep(0.5)  # another process sets no event
    records: list[Record] = []
    while page := await outbox.find(before=records[-1].id if records else None, limit=1000):
        records += page
    return records


def main() -> int:
    """Run it from the command line; 1: a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120, help="how long codes are posted (120)")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000), help="of the script; printed")
    arguments = parser.parse_args()
    sys.stdout.write(f"seed {arguments.seed}, {RATE:g} codes/s\n")
    verdicts = []
    for faulty, seconds in ((False, arguments.seconds / 4), (True, arguments.seconds)):
        with tempfile.TemporaryDirectory(prefix="mailroom-fleet-") as folder:
            verdict = asyncio.run(run(Path(folder), seconds=seconds, seed=arguments.seed, faulty=faulty))
        title = "five of six fail" if faulty else "all six work"
        sys.stdout.write(f"{title}, {seconds:g} s: {verdict}\n")
        sys.stdout.flush()
        verdicts.append(verdict)
    for percent in (50, 99):
        ratio = verdicts[1].percentile(percent) / verdicts[0].percentile(percent)
        sys.stdout.write(f"from acceptance to hand-over, p{percent}: {ratio:.2f} times as long\n")
    return int(any(verdict.faults for verdict in verdicts))


if __name__ == "__main__":
    sys.exit(main())
