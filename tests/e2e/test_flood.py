"""A flood of events delays no code: thousands of signed webhooks at once while codes are posted at a steady rate."""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

import httpx
import pytest

from tests.e2e.chaos import Sink, sink
from tests.e2e.harness import AUTHORIZATION, ROOT, Server, configuration

pytestmark = pytest.mark.alone

_EVENTS = 6000
_CONNECTIONS = 200
_MOST_SENT = 300
_CODES_PER_SECOND = 20
_CODES_ALONE = 100
_SLOWEST_SECONDS = 2.0


class Codes:
    """Codes that are posted at a steady rate, whatever the answers do."""

    def __init__(self, client: httpx.AsyncClient, place: Sink) -> None:
        self._client = client
        self._place = place
        self._numbers = count()

    async def post(self, until: asyncio.Future[bytes], at_least: int) -> list[float]:
        """Post until this is done; return how many seconds each code took until the SMTP server had it."""
        posted: dict[str, float] = {}
        answers = []
        while not until.done() or len(posted) < at_least:
            number = next(self._numbers)
            recipient = f"code{number}-{number:06}@example.com"
            posted[recipient] = time.time()
            answers.append(asyncio.create_task(self._post_one(recipient, f"{number:06}")))
            await asyncio.sleep(1 / _CODES_PER_SECOND)
        await asyncio.gather(*answers)
        await self._place.wait_for(posted, within=30)
        return sorted(self._place.received[recipient][0] - at for recipient, at in posted.items())

    async def _post_one(self, recipient: str, code: str) -> None:
        mail = {"to": recipient, "type": "SignIn", "payload": {"code": code}, "ip": "203.0.113.7"}
        answer = await self._client.post("/email", json=mail, headers={"authorization": AUTHORIZATION})
        assert answer.status_code == httpx.codes.OK


@asynccontextmanager
async def flood(server: Server) -> AsyncIterator[asyncio.Future[bytes]]:
    """Post the events, from another process; yields the line with the statuses of the answers."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.e2e.flood", str(server.port), str(_EVENTS), str(_CONNECTIONS)),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        assert await process.stdout.readline() == b"begun\n"
        ending = asyncio.ensure_future(process.stdout.readline())
        yield ending
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_codes_are_fast_while_events_flood_in(tmp_path: Path) -> None:
    """All codes are handed over within two seconds; the events beyond `max_per_hour` are held."""
    async with sink() as place:
        provider = f'type = "smtp"\nhost = "127.0.0.1"\nport = {place.port}\ntls = "none"'
        settings = configuration(provider).replace("[webhook]", f"[webhook]\nmax_per_hour = {_MOST_SENT}")
        async with (
            Server(tmp_path, settings) as server,
            httpx.AsyncClient(base_url=server.url, trust_env=False, timeout=30) as client,
        ):
            codes = Codes(client, place)
            now: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
            now.set_result(b"")
            await codes.post(now, 10)
            alone = await codes.post(now, _CODES_ALONE)
            began = time.monotonic()
            async with flood(server) as ending:
                flooded = await codes.post(ending, _CODES_ALONE)
                statuses = json.loads(await ending)
            took = time.monotonic() - began
            metrics = (await client.get("/metrics")).text
    told = [f"{_EVENTS} events in {took:.1f} s"]
    for name, seconds in (("alone", alone), ("with the flood", flooded)):
        p50, p99 = (1000 * seconds[int(share * len(seconds))] for share in (0.5, 0.99))
        told.append(
            f"{len(seconds)} codes {name}: p50 {p50:.0f} ms, p99 {p99:.0f} ms, longest {1000 * seconds[-1]:.0f} ms"
        )
    sys.stdout.write("\n".join(told))
    assert statuses == {"200": _EVENTS}
    assert f'mailroom_held{{reason="flood"}} {_EVENTS - _MOST_SENT}.0' in metrics
    assert server.log().count('"webhook.held"') == 1
    assert max(flooded) < _SLOWEST_SECONDS
