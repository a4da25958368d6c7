"""Posts sign-in codes to `/email`, many at a time, and appends a line to a journal, with fsync, for every 200.

    python writer.py URL AUTHORIZATION JOURNAL RATE [NUMBER]        of the first mail, 1
    {"at": 1795253878.1, "id": "019…", "recipient": "u1-007919@chaos.example"}

Codes and recipients never repeat. A connection that breaks is a kill: nothing was acknowledged, and the mail is not
posted again. SIGTERM lets the requests under way end.
"""

import asyncio
import json
import os
import signal
import sys
import time
from itertools import count
from pathlib import Path
from typing import BinaryIO

import httpx

CONNECTIONS = 12
_STEP = 7919
"""A prime that shares no factor with a million, so that its multiples pass every code once."""


class Writer:
    """Posts mails over one HTTP client."""

    def __init__(self, client: httpx.AsyncClient, journal: BinaryIO, rate: float, first: int) -> None:
        self._client = client
        self._journal = journal
        self._pause = CONNECTIONS / rate
        self._numbers = count(first)
        self.stopped = asyncio.Event()

    async def write(self) -> None:
        """Post one mail after the other until it is stopped, no faster than this connection's share of the rate."""
        while not self.stopped.is_set():
            began = time.monotonic()
            await self._post(next(self._numbers))
            rest = self._pause - (time.monotonic() - began)
            try:
                await asyncio.wait_for(self.stopped.wait(), max(rest, 0))
            except TimeoutError:
                continue

    async def _post(self, number: int) -> None:
        code = f"{number * _STEP % 1_000_000:06d}"
        recipient = f"u{number}-{code}@chaos.example"
        body = {"to": recipient, "type": "SignIn", "payload": {"code": code, "locale": "en"}, "ip": "203.0.113.7"}
        try:
            answer = await self._client.post("/email", json=body)
        except httpx.TransportError:
            return
        if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
            return
        answer.raise_for_status()
        line = {"at": time.time(), "id": answer.json()["id"], "recipient": recipient}
        self._journal.write(json.dumps(line).encode() + b"\n")
        self._journal.flush()
        os.fsync(self._journal.fileno())


async def main(url: str, authorization: str, journal: Path, rate: float, first: int = 1) -> None:
    """Write until SIGTERM."""
    limits = httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS)
    headers = {"authorization": authorization}
    async with httpx.AsyncClient(base_url=url, headers=headers, limits=limits, timeout=60, trust_env=False) as client:
        with journal.open("ab") as file:
            writer = Writer(client, file, rate, first)
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, writer.stopped.set)
            async with asyncio.TaskGroup() as group:
                for _ in range(CONNECTIONS):
                    group.create_task(writer.write())


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), float(sys.argv[4]), *map(int, sys.argv[5:])))
