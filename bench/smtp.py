"""Row b: the SMTP provider sending ready-made mails over 16 connections, against a bare aiosmtplib loop on 16.

Both clients are this process, pinned to one core; the server is another, pinned to another. On a busy machine the rates
waver: the CPU of this process says what a client costs. The last rows wait 20 ms for every reply.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, ExitStack
from functools import partial
from typing import Final, TypeAlias

import aiosmtplib
import uvloop
from msgspec.structs import replace

from bench.figures import Figure, Measure, interleaved, send_concurrently
from bench.http_providers import MAIL, NoCapture
from bench.processes import SERVER_CORE, Sink
from mailroom.clock import SystemClock
from mailroom.message import Email
from mailroom.providers import ProviderContext
from mailroom.providers.smtp.smtp_provider import Settings, connect

_CONNECTIONS: Final = 16
_OCTETS: Final = 6 * 1024
_MAILS: Final = 4000
_DELAY_SECONDS: Final = 0.02
_SLOW_MAILS: Final = 10 * _CONNECTIONS
_PIPELINED: Final = "Mailroom, pipelined"
_CHUNKED: Final = "Mailroom, pipelined, with CHUNKING"
_SEQUENTIAL: Final = "Mailroom, no PIPELINING offered"

Senders: TypeAlias = Sequence[Callable[[], Awaitable[object]]]
"""One for each mail that is sent at the same time."""


def measure(rounds: int, mails: int = _MAILS) -> list[Figure]:
    """Return the row's figures: plain, with STARTTLS, and with a slow server."""
    os.sched_setaffinity(0, {SERVER_CORE})
    delay = ("--delay", str(_DELAY_SECONDS))
    with ExitStack() as sinks, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        pipelining, sequential, slow, slow_chunking = (
            sinks.enter_context(Sink(*options)) for options in ((), ("--no-pipelining",), delay, (*delay, "--chunking"))
        )
        clients = AsyncExitStack()

        def side(senders: Senders, mails: int) -> Measure:
            runner.run(send_concurrently(senders, 10 * _CONNECTIONS))  # it connects
            return lambda: runner.run(send_concurrently(senders, mails))

        figures = []
        for circumstances, is_encrypted, number, peer, ours in (
            ("plain", False, mails, pipelining, {_SEQUENTIAL: (sequential, 0.9), _PIPELINED: (pipelining, 3.0)}),
            ("STARTTLS", True, mails, pipelining, {_SEQUENTIAL: (sequential, 0.9), _PIPELINED: (pipelining, 3.0)}),
            # Two waits instead of four, and one.
            ("20 ms a reply", False, _SLOW_MAILS, slow, {_PIPELINED: (slow, 2.0), _CHUNKED: (slow_chunking, 3.8)}),
        ):
            sides = [side(runner.run(_open_bare(clients, peer, is_encrypted)), number)]
            sides += [side(_open_provider(clients, sink, is_encrypted), number) for sink, _ in ours.values()]
            bare, *measured = interleaved(rounds, *sides)
            for (name, (_, aim)), figure in zip(ours.items(), measured, strict=True):
                what = f"SMTP, {name}, {circumstances}"
                rates = figure["per_second"], bare["per_second"]
                figures += [
                    Figure("b", f"{what}: mails/s against a bare aiosmtplib loop", "/s", *rates, at_least=aim),
                    Figure("b", f"{what}: CPU a mail", "µs", figure["cpu_us"], bare["cpu_us"]),
                ]
        runner.run(clients.aclose())
    return figures


def _mail() -> Email:
    """Return a mail of 6 KiB as the renderer makes them: 7bit, lines of 76, CRLF."""
    head = (
        b"From: Acme <no-reply@acme.example>\r\nTo: ada@reader.example\r\nSubject: Your code\r\n"
        b"Date: Sat, 21 Nov 2026 12:00:00 +0000\r\nMessage-ID: <0@acme.example>\r\nMIME-Version: 1.0\r\n"
        b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    )
    line = b"TWFpbHJvb20g" * 6 + b"TWFp\r\n"
    return replace(MAIL, raw=head + line * ((_OCTETS - len(head)) // len(line)))


async def _open_bare(clients: AsyncExitStack, sink: Sink, is_encrypted: bool) -> Senders:  # noqa: FBT001 - private
    """Connect aiosmtplib clients, each of which sends bytes."""
    mail = _mail()
    senders = []
    for _ in range(_CONNECTIONS):
        client = aiosmtplib.SMTP(
            hostname="127.0.0.1",
            port=sink.port,
            start_tls=is_encrypted,
            cert_bundle=str(sink.ca_file),
            local_hostname="bench.test",
        )
        await client.connect()
        clients.push_async_callback(client.quit)
        senders.append(partial(client.sendmail, mail.sender.email, mail.recipient, mail.raw))
    return senders


def _open_provider(clients: AsyncExitStack, sink: Sink, is_encrypted: bool) -> Senders:  # noqa: FBT001 - private
    """Return senders that share the provider as the courier does."""
    settings = Settings(
        host="127.0.0.1",
        port=sink.port,
        tls="starttls" if is_encrypted else "none",
        ca_file=sink.ca_file if is_encrypted else None,
        concurrency=_CONNECTIONS,
        mails_per_connection=1_000_000,
    )
    provider = connect(settings, ProviderContext("bench", SystemClock(), NoCapture()))
    clients.push_async_callback(provider.aclose)
    return [partial(provider.send, _mail())] * _CONNECTIONS
