"""Row h: the CPU of a mail over a vendor's API, beside plain httpx.

Both sides post the same mail to the same server, which runs on a core of its own and answers at once. Ours writes the
mail's JSON and reads the response on top.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Final

import httpx
import uvloop

from bench.figures import Figure, Measure, interleaved, send_concurrently
from bench.processes import LOAD_CORE, load, mailroom, program
from bench.programs.vendor import accepted_mails
from mailroom.clock import SystemClock
from mailroom.errors import CannotKeep
from mailroom.message import Address, Email
from mailroom.providers import ProviderContext
from mailroom.providers.resend import Resend, Settings

_AIM: Final = 0.26
"""Of plain httpx's CPU at 16 concurrent: 0.3 ms on the machine where it takes 1.17."""
_REQUESTS: Final = 800
_MAILS: Final = 2000
_KEY: Final = "re_bench_0123456789"
MAIL: Final = Email(
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


class NoCapture:
    """Captures no mail."""

    async def keep(self, email: Email) -> None:
        """Refuse."""
        raise CannotKeep(email.id)


class NoSecrets:
    """Stores no secrets."""

    async def get(self, name: str) -> None:
        """Return none."""

    async def put(self, name: str, secret: str) -> None:  # noqa: ARG002 - the protocol's
        """Refuse."""
        raise CannotKeep(name)


@contextmanager
def delivering_over_http(tree: Path) -> Iterator[Measure]:
    """Run a tree's Mailroom with an HTTP provider; measure its CPU from the POST to the vendor's answer."""
    with program("-m", "bench.programs.vendor", "{port}", core=LOAD_CORE) as vendor:
        provider = {"TYPE": "resend", "API_KEY": _KEY, "ENDPOINT": vendor.url, "CONCURRENCY": "16"}
        with mailroom(tree=tree, provider=provider) as server:

            def run() -> dict[str, float]:
                before, cpu_seconds = accepted_mails(vendor.url), server.cpu_seconds()
                load(server, "--count", str(_MAILS))
                server.wait_until_idle()
                assert accepted_mails(vendor.url) == before + _MAILS, "some were not sent"
                return {"cpu_us": (server.cpu_seconds() - cpu_seconds) / _MAILS * 1e6}

            run()
            yield run


def measure(rounds: int) -> list[Figure]:
    """Return the row's figures, at 1 and at 16 concurrent."""
    os.sched_setaffinity(0, {LOAD_CORE})
    figures = []
    with (
        program("-m", "bench.programs.vendor", "{port}") as vendor,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        clients = AsyncExitStack()
        for concurrency in (1, 16):
            ours, theirs = runner.run(_open(clients, vendor.url, concurrency))

            def cpu(send: Callable[[], Awaitable[object]], concurrency: int = concurrency) -> dict[str, float]:
                return runner.run(send_concurrently([send] * concurrency, _REQUESTS))

            for send in (ours, theirs):
                runner.run(send_concurrently([send] * concurrency, 10 * concurrency))
            mine, plain = interleaved(rounds, lambda: cpu(ours), lambda: cpu(theirs))  # noqa: B023 - called at once
            what = f"CPU of a mail over HTTP, {concurrency} at a time, beside plain httpx's request"
            sides = mine["cpu_us"] / 1000, plain["cpu_us"] / 1000
            figures.append(Figure("h", what, "ms", *sides, at_most=_AIM if concurrency > 1 else None))
        runner.run(clients.aclose())
    return figures


async def _open(
    clients: AsyncExitStack, endpoint: str, concurrency: int
) -> tuple[Callable[[], Awaitable[object]], Callable[[], Awaitable[object]]]:
    """Return what sends a mail through our provider, and what posts the same by plain httpx."""
    settings = Settings.model_validate({"api_key": _KEY, "endpoint": endpoint, "concurrency": concurrency})
    provider = Resend(settings, ProviderContext("main", SystemClock(), NoCapture(), NoSecrets()))
    request = provider.build_request(MAIL)
    headers = {"Authorization": f"Bearer {_KEY}", "Content-Type": request.content_type, **request.headers}
    limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
    client = await clients.enter_async_context(httpx.AsyncClient(limits=limits, trust_env=False))
    clients.push_async_callback(provider.aclose)

    async def post() -> None:
        response = await client.post(endpoint + request.path, content=request.body, headers=headers)
        assert response.json()["id"]

    async def send() -> None:
        assert (await provider.send(MAIL)).provider_message_id

    return send, post
