"""Logto under load: many users ask for codes at the same time, through Logto's own connector."""

import asyncio
import random
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from tests.e2e.front import Front, front
from tests.e2e.harness import AUTHORIZATION, Server
from tests.e2e.node import Answer, Connector, connector

_PAUSES = (0, 0.05, 0.1, 0.2, 0.3)
"""Seconds between two calls of a user."""
_IDLE = 6.0
"""Seconds; longer than the 5 after which Logto's agent closes an idle connection."""
_IDLE_ONE_IN = 80


@dataclass(slots=True)
class Tally:
    """What became of the calls."""

    calls: int = 0
    reused: int = 0
    """Calls on a connection that was used before."""
    failed: list[Answer] = field(default_factory=list)
    """Calls that the connector raised for: no code was sent, and the end user was told so."""
    longest: float = 0.0
    """Seconds that the slowest call took."""
    accepted: dict[str, float] = field(default_factory=dict)
    """Recipient → when its code was accepted, Unix seconds."""

    @property
    def leaks(self) -> int:
        """Calls whose error shows our `Authorization` to the end user."""
        return sum(answer.leaked for answer in self.failed)

    def add(self, recipient: str, answer: Answer) -> None:
        """Count one call."""
        self.calls += 1
        self.reused += answer.reused
        self.longest = max(self.longest, answer.seconds)
        if answer.ok:
            self.accepted[recipient] = time.time()
        else:
            self.failed.append(answer)

    def __str__(self) -> str:
        reasons = Counter(answer.dropped or answer.message for answer in self.failed)
        told = f" ({', '.join(f'{times} {reason}' for reason, times in reasons.items())})" if reasons else ""
        return (
            f"{self.calls} calls, {len(self.failed)} failed{told}, {self.leaks} leaked, "
            f"longest wait {self.longest:.2f} s"
        )


class Load:
    """Users of one Logto, which has one agent that keeps connections alive."""

    def __init__(self, logto: Connector, url: str, chance: random.Random) -> None:
        self._logto = logto
        self._endpoint = f"{url}/email"
        self._chance = chance
        self._numbers = count()
        self._news = asyncio.Condition()
        self.over = asyncio.Event()
        self.tally = Tally()

    async def ask_for_codes(self) -> None:
        """Ask again and again, with pauses, until it is over."""
        while not self.over.is_set():
            code = f"{self._chance.randrange(1_000_000):06}"
            recipient = f"user{next(self._numbers)}-{code}@example.com"
            mail = {"to": recipient, "type": "SignIn", "payload": {"code": code}}
            answer = await self._logto.send(self._endpoint, AUTHORIZATION, mail)
            async with self._news:
                self.tally.add(recipient, answer)
                self._news.notify_all()
            idle = self._chance.randrange(_IDLE_ONE_IN) == 0
            try:
                await asyncio.wait_for(self.over.wait(), _IDLE if idle else self._chance.choice(_PAUSES))
            except TimeoutError:
                continue

    async def go_on(self, calls: int) -> None:
        """Wait until so many more calls have ended."""
        until = self.tally.calls + calls
        async with self._news:
            await self._news.wait_for(lambda: self.tally.calls >= until)


@asynccontextmanager
async def load(logto: Connector, url: str, chance: random.Random, users: int) -> AsyncIterator[Load]:
    """Ask for codes while the context lasts; leaving it waits for the calls under way."""
    place = Load(logto, url, chance)
    async with asyncio.TaskGroup() as group:
        for _ in range(users):
            group.create_task(place.ask_for_codes())
        try:
            yield place
        finally:
            place.over.set()


@asynccontextmanager
async def site(server: Server, proxy: str, seed: int, users: int) -> AsyncIterator[tuple[Load, Front | None]]:
    """Ask this server for codes, through a proxy of `deploy/` unless `proxy` is empty."""
    async with AsyncExitStack() as stack:
        place = None
        if proxy:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mailroom-front-")))
            place = await stack.enter_async_context(front(proxy, directory, server.port))
        logto = await stack.enter_async_context(connector(place.authority if place else None))
        url = place.url if place else server.url
        yield await stack.enter_async_context(load(logto, url, random.Random(seed), users)), place
