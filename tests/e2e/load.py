"""A load of sign-in codes: many users ask for codes at the same time, through Logto's own connector or plain clients.

A test does::

    async with connector() as logto, load([logto] * 15, server.url, random.Random(7)) as users:
        await users.wait_for_calls(100)
    assert users.tally.failed == []
"""

import asyncio
import random
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Protocol

from tests.e2e.front import Front, front
from tests.e2e.harness import AUTHORIZATION, Server
from tests.e2e.node import Answer, connector

_PAUSES = (0, 0.05, 0.1, 0.2, 0.3) * 16 + (6,)
"""Seconds between two calls of a user; one is longer than the 5 after which Logto's agent closes an idle connection."""


class Sender(Protocol):
    """Posts mails to `/email`: `tests.e2e.node.Connector`, or a client of a test."""

    async def send(self, endpoint: str, authorization: str, mail: Mapping[str, Any]) -> Answer:
        """Send one mail (`to`, `type`, `payload`)."""


@dataclass(slots=True)
class Tally:
    """What became of the calls."""

    calls: int = 0
    reused: int = 0
    """Calls on a connection that was used before."""
    failed: list[Answer] = field(default_factory=list)
    """Calls that the connector raised for: Logto shows the end user an error."""
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
        counted = f" ({', '.join(f'{times} {reason}' for reason, times in reasons.items())})" if reasons else ""
        return (
            f"{self.calls} calls, {len(self.failed)} failed{counted}, {self.leaks} leaked, "
            f"longest wait {self.longest:.2f} s"
        )


class Load:
    """Users who ask for codes until `ended`, and what became of their calls."""

    def __init__(self, url: str, chance: random.Random, pauses: Sequence[float]) -> None:
        self._endpoint = f"{url}/email"
        self._chance = chance
        self._pauses = pauses
        self._numbers = count()
        self._changed = asyncio.Condition()
        self.ended = asyncio.Event()
        self.tally = Tally()

    async def ask_for_codes(self, sender: Sender) -> None:
        """Send one code after another, with pauses, until the load is ended."""
        while not self.ended.is_set():
            code = f"{self._chance.randrange(1_000_000):06}"
            recipient = f"user{next(self._numbers)}-{code}@example.com"
            mail = {"to": recipient, "type": "SignIn", "payload": {"code": code}}
            answer = await sender.send(self._endpoint, AUTHORIZATION, mail)
            async with self._changed:
                self.tally.add(recipient, answer)
                self._changed.notify_all()
            try:
                await asyncio.wait_for(self.ended.wait(), self._chance.choice(self._pauses))
            except TimeoutError:
                continue

    async def wait_for_calls(self, calls: int) -> None:
        """Wait until so many more calls have ended."""
        until = self.tally.calls + calls
        async with self._changed:
            await self._changed.wait_for(lambda: self.tally.calls >= until)


@asynccontextmanager
async def load(
    senders: Sequence[Sender], url: str, chance: random.Random, pauses: Sequence[float] = _PAUSES
) -> AsyncIterator[Load]:
    """Ask for codes until the block ends, a user for each sender; leaving it waits for the calls under way."""
    users = Load(url, chance, pauses)
    async with asyncio.TaskGroup() as group:
        for sender in senders:
            group.create_task(users.ask_for_codes(sender))
        try:
            yield users
        finally:
            users.ended.set()


@asynccontextmanager
async def site(server: Server, proxy: str, seed: int, users: int) -> AsyncIterator[tuple[Load, Front | None]]:
    """Ask this server for codes as Logto does, through a proxy of `deploy/` unless `proxy` is empty."""
    async with AsyncExitStack() as stack:
        proxied = None
        if proxy:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mailroom-front-")))
            proxied = await stack.enter_async_context(front(proxy, directory, server.port))
        logto = await stack.enter_async_context(connector(proxied.authority if proxied else None))
        url = proxied.url if proxied else server.url
        yield await stack.enter_async_context(load([logto] * users, url, random.Random(seed))), proxied
