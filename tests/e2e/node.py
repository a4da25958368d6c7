"""npm's `@logto/connector-http-email`, the very code that Logto runs, in a Node process: `tests/node/client.mjs`."""

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from dataclasses import fields as fields_of
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

from tests.e2e.harness import ROOT

_FOLDER = ROOT / "tests" / "node"
_OLDEST = 20
"""got 14 requires it; since Node 19 the agent keeps connections alive, as Logto's does."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The outcome of one mail."""

    status: int | None = None
    """The 2xx; None: the connector raised."""
    body: str = ""
    reused: bool = False
    """Whether the request went over a connection that was used before."""
    message: str = ""
    """The text of an HTTP error, which Logto shows to the end user."""
    dropped: str = ""
    """Why the connection failed (`ECONNRESET`): Logto then shows the whole request to the end user."""
    leaked: bool = False
    """Whether what Logto answers the end user holds our `Authorization`."""
    seconds: float = 0.0
    """How long the call took."""

    @property
    def ok(self) -> bool:
        """Whether Logto treats the mail as sent."""
        return self.status is not None


_FIELDS = tuple(field.name for field in fields_of(Answer))


class Connector:
    """The connector as Logto has it: one endpoint, one authorization, one agent that keeps connections alive."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._numbers = count()
        self._waiting: dict[int, asyncio.Future[Answer]] = {}

    async def send(self, endpoint: str, authorization: str, mail: Mapping[str, Any]) -> Answer:
        """Send one mail (`to`, `type`, `payload`, perhaps `ip`); several may be on their way at the same time."""
        assert self._process.stdin is not None
        number = next(self._numbers)
        self._waiting[number] = asyncio.get_running_loop().create_future()
        line = json.dumps({"id": number, "endpoint": endpoint, "authorization": authorization, **mail})
        self._process.stdin.write(line.encode() + b"\n")
        await self._process.stdin.drain()
        return await self._waiting[number]

    async def read_answers(self) -> None:
        """Give each answer to the call that waits for it, until the process ends."""
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            fields = json.loads(line)
            answer = Answer(**{name: fields[name] for name in _FIELDS if name in fields})
            self._waiting.pop(fields["id"]).set_result(answer)
        for future in self._waiting.values():
            future.set_exception(AssertionError("the Node process ended; its error is on stderr"))


@cache
def missing() -> str:
    """Return why the connector cannot run here, for `pytest.mark.skipif`; empty: it can."""
    node = shutil.which("node")
    if node is None:
        return "Node is not installed: Logto's own connector is not tried"
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version.removeprefix("v").partition(".")[0]) < _OLDEST:
        return f"Node {version} is older than {_OLDEST}: Logto's own connector is not tried"
    if not (_FOLDER / "node_modules").is_dir():
        return "run `npm ci` in tests/node first: Logto's own connector is not tried"
    return ""


@asynccontextmanager
async def connector(authority: Path | None = None) -> AsyncIterator[Connector]:
    """Run the connector; its connections live as long as the context. It trusts the certificates of `authority`."""
    process = await asyncio.create_subprocess_exec(
        "node",
        "client.mjs",
        cwd=_FOLDER,
        env={**os.environ, **({"NODE_EXTRA_CA_CERTS": str(authority)} if authority else {})},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    client = Connector(process)
    reading = asyncio.ensure_future(client.read_answers())
    try:
        yield client
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), 10)
        except TimeoutError:
            process.kill()
            await process.wait()
        await reading
