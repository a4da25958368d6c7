"""Restarts under load: no client ever sees a broken connection.

Logto shows its anonymous end users our authorization header and the code when one breaks. The listening socket outlives
the processes, as it does behind systemd; clients keep connections alive and close idle ones themselves, as Logto does.
"""

import asyncio
import random
import secrets
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import pytest_asyncio

from tests.e2e.harness import Server, configuration
from tests.e2e.load import Tally, load
from tests.e2e.node import Answer, connector, missing

pytestmark = pytest.mark.alone

RESTARTS = 10
CLIENTS = 12
DRAIN_SECONDS = 0.6
SHUTDOWN = f'shutdown_timeout = "{2 + DRAIN_SECONDS}s"\n'
"""Leaves a tenth of the drain's 6 s, and of Logto's 5 s of idling."""
IDLE_SECONDS = 0.5
PAUSES = (0, 0, 0.01, 0.1, 0.8 * IDLE_SECONDS, 1.5 * IDLE_SECONDS)
LOGTO_PAUSES = (0, 0.05, 0.2)
"""Seconds, shorter than the drain: the idle time of Logto's agent, 5 s, cannot be set."""
_BETWEEN_SECONDS = 0.3
"""How long a process serves before it is terminated."""


class Client:
    """One keep-alive connection, which is not used again after `IDLE_SECONDS`, and opened again when it is closed."""

    def __init__(self) -> None:
        limits = httpx.Limits(max_connections=1, keepalive_expiry=IDLE_SECONDS)
        self.http = httpx.AsyncClient(limits=limits, verify=False, trust_env=False, timeout=30)

    async def send(self, endpoint: str, authorization: str, mail: Mapping[str, Any]) -> Answer:
        """Post one mail."""
        steps: list[str] = []

        async def trace(step: str, _details: Mapping[str, Any]) -> None:
            steps.append(step)

        headers = {"authorization": authorization}
        try:
            response = await self.http.post(endpoint, json=mail, headers=headers, extensions={"trace": trace})
        except httpx.TransportError as error:
            return Answer(dropped=repr(error))
        is_reused = "connection.connect_tcp.started" not in steps
        return Answer(response.status_code if response.is_success else None, response.text, is_reused)


@dataclass(frozen=True, slots=True)
class Run:
    """What became of the calls, and what the servers logged."""

    clients: Tally
    logto: Tally
    seconds: float
    seed: int
    log: str


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Restart under the load of both kinds of clients; Node's are missing where Node is."""
    seed = secrets.randbelow(1_000_000)
    began = time.monotonic()
    async with Server(tmp_path_factory.mktemp("restart"), SHUTDOWN + configuration('type = "capture"')) as server:
        async with AsyncExitStack() as stack:
            clients = [Client() for _ in range(CLIENTS)]
            for client in clients:
                await stack.enter_async_context(client.http)
            users = await stack.enter_async_context(load(clients, server.url, random.Random(seed), PAUSES))
            by_logto = Tally()
            if not missing():
                logto = await stack.enter_async_context(connector())
                chance = random.Random(seed + 1)
                by_logto = (await stack.enter_async_context(load([logto] * 4, server.url, chance, LOGTO_PAUSES))).tally
            for _ in range(RESTARTS):
                await asyncio.sleep(_BETWEEN_SECONDS)
                predecessor = server.terminate()
                await server.start()  # waits for the lock while the predecessor drains
                await server.ended(predecessor)
                await server.ready()
        await server.stop()
        return Run(users.tally, by_logto, time.monotonic() - began, seed, server.log())


def test_ten_restarts_break_no_connection(run: Run) -> None:
    assert run.clients.failed == [], f"{run.seed=} {run.clients}\n{run.log}"
    assert run.clients.reused > CLIENTS * RESTARTS
    assert run.seconds > RESTARTS * (DRAIN_SECONDS + _BETWEEN_SECONDS)  # each process drained to the end


@pytest.mark.skipif(bool(missing()), reason=missing())
def test_ten_restarts_break_no_connection_of_logtos_connector(run: Run) -> None:
    assert run.logto.failed == [], f"{run.seed=}\n{run.log}"
    assert run.logto.calls > RESTARTS * 10
    assert run.logto.reused > RESTARTS
