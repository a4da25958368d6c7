"""What a request to a provider costs beside plain httpx. `python -m bench.http_providers` prints the rows.

Both sides are httpx clients that post the same mail to the same server, which runs on a core of its own and answers at
once; CPU time of the client's process is compared. Ours writes the mail's JSON and reads the answer on top.
"""

import asyncio
import os
import sys
import time
import urllib.request
from collections.abc import Awaitable, Callable
from typing import Final, cast

import httpx
import uvloop

from bench.figures import Figure, median, show
from bench.processes import LOAD_CORE, program
from mailroom.clock import SystemClock
from mailroom.errors import CannotKeep
from mailroom.message import Address, Email
from mailroom.providers import ProviderContext
from mailroom.providers.resend import Resend, Settings

AIM: Final = 0.26
"""Of plain httpx's CPU at 16 concurrent: 0.3 ms on the machine where it takes 1.17."""
_ROUNDS: Final = 3
_REQUESTS: Final = 800
_KEY: Final = "re_bench_0123456789"
_ANSWER: Final = b'{"id":"49a3999c-0ce1-4ea6-ab68-afcd6dc2e794"}'
_MAIL: Final = Email(
    id="0198f2d4-7f00-7000-8000-000000000001",
    message_id="<0198f2d4-7f00-7000-8000-000000000001@acme.example>",
    sender=Address("no-reply@acme.example", "Acme"),
    recipient="ada@reader.example",
    reply_to=None,
    subject="482913 is your code",
    html="<p>482913</p>" + "x" * 6000,
    text="482913 is your code.\n" * 20,
    headers=(("Auto-Submitted", "auto-generated"), ("Content-Language", "en")),
    language="en",
    template="SignIn",
    raw=b"",
)


class Vendor(asyncio.Protocol):
    """Answers every request at once, and reads of it no more than its length; a GET by how many mails it has taken."""

    mails = 0
    """Taken over all connections."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)
        self._unread = b""

    def data_received(self, data: bytes) -> None:
        """Answer each whole request."""
        self._unread += data
        while (end := self._unread.find(b"\r\n\r\n")) >= 0:
            head = self._unread[:end].lower()
            length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
            if len(self._unread) < end + 4 + length:
                return
            self._unread = self._unread[end + 4 + length :]
            if head.startswith(b"get "):
                answer = b"%d" % Vendor.mails
            else:
                answer = _ANSWER
                Vendor.mails += 1
            self._transport.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: Sat, 21 Nov 2026 12:00:00 GMT\r\n"
                b"Server: vendor\r\nX-Request-Id: 49a3999c\r\nRatelimit-Limit: 10\r\nRatelimit-Remaining: 9\r\n"
                b"Content-Length: %d\r\n\r\n%b" % (len(answer), answer)
            )


def taken(port: int) -> int:
    """Return how many mails the vendor on this port has taken."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/") as answer:
        return int(answer.read())


class _NoCatcher:
    async def keep(self, email: Email) -> None:
        """Refuse: nothing is caught here."""
        raise CannotKeep(email.id)


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Vendor, "127.0.0.1", port)
    await server.serve_forever()


async def _milliseconds(send: Callable[[], Awaitable[object]], concurrency: int) -> float:
    """Return the CPU time of one request, measured over many."""

    async def worker(number: int) -> None:
        for _ in range(number):
            await send()

    async def all_of(number: int) -> None:
        await asyncio.gather(*(worker(number // concurrency) for _ in range(concurrency)))

    await all_of(10 * concurrency)
    begun = time.process_time()
    await all_of(_REQUESTS)
    return (time.process_time() - begun) / (_REQUESTS // concurrency * concurrency) * 1000


async def _measure(port: int, concurrency: int) -> tuple[float, float]:
    """Return ours and plain httpx's, the rounds in turn."""
    endpoint = f"http://127.0.0.1:{port}"
    settings = Settings.model_validate({"api_key": _KEY, "endpoint": endpoint, "concurrency": concurrency})
    provider = Resend(settings, ProviderContext("main", SystemClock(), _NoCatcher()))
    call = provider.build_request(_MAIL)
    headers = {"Authorization": f"Bearer {_KEY}", "Content-Type": call.content_type, **call.headers}
    limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
    async with httpx.AsyncClient(limits=limits, trust_env=False) as client:

        async def plain() -> None:
            answer = await client.post(endpoint + call.path, content=call.body, headers=headers)
            assert answer.json()["id"]

        async def ours() -> None:
            assert (await provider.send(_MAIL)).provider_message_id

        rounds = [
            (await _milliseconds(ours, concurrency), await _milliseconds(plain, concurrency)) for _ in range(_ROUNDS)
        ]
    await provider.aclose()
    return median(ours for ours, _ in rounds), median(theirs for _, theirs in rounds)


def figures() -> list[Figure]:
    """Measure at 1 and at 16 concurrent."""
    found = []
    with program("-m", "bench.http_providers", "--serve", "{port}") as vendor:
        os.sched_setaffinity(0, {LOAD_CORE})
        for concurrency in (1, 16):
            ours, theirs = uvloop.run(_measure(vendor.port, concurrency))
            found.append(
                Figure(
                    row="h",
                    what=f"CPU of a mail over HTTP, {concurrency} at a time, beside plain httpx's request",
                    ours=f"{ours:.2f} ms",
                    theirs=f"{theirs:.2f} ms",
                    value=ours / theirs,
                    aim=f"≤ {AIM} (0.3 ms where httpx takes 1.17)" if concurrency > 1 else "",
                    met=ours <= AIM * theirs if concurrency > 1 else None,
                )
            )
    return found


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        uvloop.run(_serve(int(sys.argv[2])))
    else:
        show(figures(), as_json="--json" in sys.argv)
