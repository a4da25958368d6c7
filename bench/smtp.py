"""Row b: the SMTP provider sending ready-made mails over 16 connections, against a bare aiosmtplib loop on 16.

Both clients are this process, pinned to one core; the server is another, pinned to another. On a busy machine the rates
waver: the CPU of this process says what a client costs. The last rows wait 20 ms for every reply.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Final, TypeAlias

import aiosmtplib
import uvloop
from msgspec.structs import replace

from bench.figures import Figure, Measure, interleaved, send_concurrently
from bench.http_providers import MAIL, NoCapture, NoSecrets
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
Clients: TypeAlias = dict[str, tuple[Sink, float]]
"""By name: the server that a client of ours sends to, and how many times the bare loop's rate it must reach."""


def measure(rounds: int, mails: int = _MAILS) -> list[Figure]:
    """Return the row's figures: plain, with STARTTLS, and with a slow server."""
    os.sched_setaffinity(0, {SERVER_CORE})
    delay = ("--delay", str(_DELAY_SECONDS))
    with (
        Sink() as pipelining,
        Sink("--no-pipelining") as sequential,
        Sink(*delay) as slow,
        Sink(*delay, "--chunking") as slow_chunking,
    ):
        fast: Clients = {_SEQUENTIAL: (sequential, 0.9), _PIPELINED: (pipelining, 3.0)}
        waiting: Clients = {
            _PIPELINED: (slow, 2.0),
            _CHUNKED: (slow_chunking, 3.8),
        }  # two waits instead of four, and one
        return [
            *_compare("plain", pipelining, fast, rounds=rounds, mails=mails),
            *_compare("STARTTLS", pipelining, fast, rounds=rounds, mails=mails, is_encrypted=True),
            *_compare(f"{_DELAY_SECONDS * 1e3:g} ms a reply", slow, waiting, rounds=rounds, mails=_SLOW_MAILS),
        ]


def _compare(
    circumstances: str, bare_sink: Sink, clients: Clients, *, rounds: int, mails: int, is_encrypted: bool = False
) -> list[Figure]:
    """Compare clients of ours with the bare loop: the rates, and what a mail costs this process."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        opened = AsyncExitStack()

        def side(senders: Senders) -> Measure:
            runner.run(send_concurrently(senders, 10 * _CONNECTIONS))  # it connects
            return lambda: runner.run(send_concurrently(senders, mails))

        bare, *ours = interleaved(
            rounds,
            side(runner.run(_open_bare(opened, bare_sink, is_encrypted))),
            *(side(_open_provider(opened, sink, is_encrypted)) for sink, _ in clients.values()),
        )
        runner.run(opened.aclose())
    figures = []
    for (name, (_, aim)), figure in zip(clients.items(), ours, strict=True):
        what = f"SMTP, {name}, {circumstances}"
        rates = figure["per_second"], bare["per_second"]
        figures += [
            Figure("b", f"{what}: mails/s against a bare aiosmtplib loop", "/s", *rates, at_least=aim),
            Figure("b", f"{what}: CPU a mail", "µs", figure["cpu_us"], bare["cpu_us"]),
        ]
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


async def _open_bare(opened: AsyncExitStack, sink: Sink, is_encrypted: bool) -> Senders:  # noqa: FBT001 - private
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
        opened.push_async_callback(client.quit)
        senders.append(partial(client.sendmail, mail.sender.email, mail.recipient, mail.raw))
    return senders


def _open_provider(opened: AsyncExitStack, sink: Sink, is_encrypted: bool) -> Senders:  # noqa: FBT001 - private
    """Return senders that share the provider as the courier does."""
    settings = Settings(
        host="127.0.0.1",
        port=sink.port,
        tls="starttls" if is_encrypted else "none",
        ca_file=sink.ca_file if is_encrypted else None,
        concurrency=_CONNECTIONS,
        mails_per_connection=1_000_000,
    )
    provider = connect(settings, ProviderContext("bench", SystemClock(), NoCapture(), NoSecrets()))
    opened.push_async_callback(provider.aclose)
    return [partial(provider.send, _mail())] * _CONNECTIONS
