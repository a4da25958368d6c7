"""Restart after restart under load, and no client ever sees a broken connection.

Logto shows its anonymous end users our authorization header and the code when one breaks. The listening socket outlives
the processes, as it does behind systemd; clients keep connections alive and close idle ones themselves, as Logto does.
"""

import asyncio
import json
import random
import secrets
import time
from collections import Counter
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field

import pytest
import pytest_asyncio

from tests.e2e.harness import AUTHORIZATION, Server, configuration
from tests.e2e.node import Answer, connector, missing
from tests.e2e.node import Connector as Logto

RESTARTS = 10
CLIENTS = 12
DRAIN_SECONDS = 0.6
SHUTDOWN = f'shutdown_timeout = "{2 + DRAIN_SECONDS}s"\n'
"""Leaves a tenth of the drain's 6 s, and of Logto's 5 s of idling."""
IDLE_SECONDS = 0.5
_BETWEEN_SECONDS = 0.3
"""How long a process serves before it is told to end."""


@dataclass(slots=True)
class Tally:
    """What the clients saw."""

    answers: Counter[int] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    reused: int = 0


class Client:
    """One of Logto's sockets: kept alive, used again, closed when it was idle for too long or told to."""

    def __init__(self, port: int, tally: Tally, chance: random.Random) -> None:
        self._port = port
        self._tally = tally
        self._chance = chance
        self._connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def run(self, over: asyncio.Event) -> None:
        """Send mails, with pauses that are sometimes longer than the idle time, until it is over."""
        while not over.is_set():
            try:
                await self._send()
            except (OSError, asyncio.IncompleteReadError) as error:
                self._tally.broken.append(repr(error))
                await self._close()
            await self._pause(self._chance.choice((0, 0, 0.01, 0.1, 0.8 * IDLE_SECONDS, 1.5 * IDLE_SECONDS)))
        await self._close()

    async def _send(self) -> None:
        if self._connection and self._connection[0].at_eof():
            await self._close()  # an agent drops a socket as soon as it hears that it was closed
        self._tally.reused += self._connection is not None
        reader, writer = self._connection = self._connection or await asyncio.open_connection("127.0.0.1", self._port)
        code = f"{self._chance.randrange(1_000_000):06}"
        body = json.dumps({"to": "ada@example.com", "type": "SignIn", "payload": {"code": code}}).encode()
        writer.write(
            b"POST /email HTTP/1.1\r\nhost: mailroom\r\nauthorization: %b\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\nconnection: keep-alive\r\n\r\n%b" % (AUTHORIZATION.encode(), len(body), body)
        )
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = next(line for line in head.splitlines() if line.startswith(b"content-length:"))
        await reader.readexactly(int(length.partition(b":")[2]))
        self._tally.answers[int(head.split(b" ", 2)[1])] += 1
        if b"\r\nconnection: close\r\n" in head:
            await self._close()

    async def _pause(self, seconds: float) -> None:
        await asyncio.sleep(min(seconds, IDLE_SECONDS))
        if seconds > IDLE_SECONDS:
            await self._close()
            await asyncio.sleep(seconds - IDLE_SECONDS)

    async def _close(self) -> None:
        if self._connection:
            self._connection[1].close()
            with suppress(OSError):  # what broke was counted
                await self._connection[1].wait_closed()
        self._connection = None


async def _restart_again_and_again(server: Server, over: asyncio.Event) -> None:
    try:
        for _ in range(RESTARTS):
            await asyncio.sleep(_BETWEEN_SECONDS)
            predecessor = server.terminate()
            await server.start()  # waits for the lock while the predecessor drains
            await server.ended(predecessor)
            await server.ready()
    finally:
        over.set()


class Connector:
    """Logto's own client, sending four mails at a time."""

    def __init__(self, logto: Logto, url: str, chance: random.Random) -> None:
        self._logto = logto
        self._url = url
        self._chance = chance
        self.answers: list[Answer] = []

    async def run(self, over: asyncio.Event) -> None:
        """Send mails, with pauses shorter than the drain, for the agent idles for 5 s whatever we wish."""
        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(self._send(over))

    async def _send(self, over: asyncio.Event) -> None:
        while not over.is_set():
            code = f"{self._chance.randrange(1_000_000):06}"
            mail = {"to": "ada@example.com", "type": "SignIn", "payload": {"code": code}}
            self.answers.append(await self._logto.send(f"{self._url}/email", AUTHORIZATION, mail))
            await asyncio.sleep(self._chance.choice((0, 0.05, 0.2)))


@dataclass(frozen=True, slots=True)
class Run:
    """What became of everybody, and what the servers had to say."""

    tally: Tally
    connector: list[Answer]
    seconds: float
    seed: int
    log: str


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Restart under the load of both kinds of clients; Node's are missing where Node is."""
    seed = secrets.randbelow(1_000_000)
    tally, over = Tally(), asyncio.Event()
    began = time.monotonic()
    async with AsyncExitStack() as stack:
        place = tmp_path_factory.mktemp("restart")
        server = await stack.enter_async_context(Server(place, SHUTDOWN + configuration('type = "capture"')))
        clients = [Client(server.port, tally, random.Random(seed + number)) for number in range(CLIENTS)]
        logto = None
        if not missing():
            logto = Connector(await stack.enter_async_context(connector()), server.url, random.Random(seed - 1))
        async with asyncio.TaskGroup() as group:
            for client in clients:
                group.create_task(client.run(over))
            if logto:
                group.create_task(logto.run(over))
            group.create_task(_restart_again_and_again(server, over))
        await server.stop()
        return Run(tally, logto.answers if logto else [], time.monotonic() - began, seed, server.log())


def test_ten_restarts_break_no_connection(run: Run) -> None:
    assert run.tally.broken == [], f"{run.seed=} {run.tally.answers=}\n{run.log}"
    assert set(run.tally.answers) == {200}, run.log
    assert run.tally.reused > CLIENTS * RESTARTS
    assert run.seconds > RESTARTS * (DRAIN_SECONDS + _BETWEEN_SECONDS)  # each process drained to the end


@pytest.mark.skipif(bool(missing()), reason=missing())
def test_nor_one_of_logtos_own_connector(run: Run) -> None:
    assert [answer for answer in run.connector if not answer.ok] == [], f"{run.seed=}\n{run.log}"
    assert len(run.connector) > RESTARTS * 10
    assert sum(answer.reused for answer in run.connector) > RESTARTS
