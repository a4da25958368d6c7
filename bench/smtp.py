"""Row b: the SMTP provider sending ready-made mails over 16 connections, against a bare aiosmtplib loop on 16.

`python -m bench.smtp`. Both clients are this process, pinned to one core; the sink is another, pinned to another. On a
machine that does other things the rates waver: the CPU of this process says what a client costs. The last rows talk to
a sink that takes 20 ms for every reply.
"""

import argparse
import asyncio
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import aiosmtplib
import uvloop

from bench.figures import Figure
from bench.sink import HOST
from mailroom.clock import SystemClock
from mailroom.message import Address, Email
from mailroom.providers import ProviderContext
from mailroom.providers.smtp.smtp_provider import Settings, connect

CONNECTIONS: Final = 16
OCTETS: Final = 6 * 1024
ROUNDS: Final = 5
MAILS: Final = 4000
DELAY_SECONDS: Final = 0.02
SLOW_MAILS: Final = 10 * CONNECTIONS
BARE: Final = "bare aiosmtplib"
PIPELINED: Final = "Mailroom, pipelined"
CHUNKED: Final = "Mailroom, pipelined, with CHUNKING"
SEQUENTIAL: Final = "Mailroom, no PIPELINING offered"
AIMS: Final = {SEQUENTIAL: 0.9, PIPELINED: 3.0}

Tls = Literal["none", "starttls"]
WAYS: Final[Mapping[Tls, str]] = {"none": "plain", "starttls": "STARTTLS"}


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    what: str
    mails_per_second: float
    ratio: float
    """To the bare loop of the same encryption."""
    cpu_microseconds: float
    """What a mail costs this process; hardly changed by what else the machine does."""
    cpu_ratio: float
    """How many times that the bare loop costs."""
    aim: float | None

    @property
    def verdict(self) -> str:
        """Whether the aim was met: by the rate, or by the CPU where the machine was busy."""
        if self.aim is None:
            return ""
        met = "met" if round(self.ratio, 1) >= self.aim else "met in CPU" if self.cpu_ratio >= self.aim else "MISSED"
        return f"  aim {self.aim:g}: {met}"


@dataclass(frozen=True, slots=True)
class Sink:
    """A running sink."""

    port: int
    ca_file: Path


def mail() -> Email:
    """Return a mail of 6 KiB as the renderer makes them: 7bit, lines of 76, CRLF."""
    head = (
        b"From: Acme <no-reply@acme.example>\r\nTo: ada@reader.example\r\nSubject: Your code\r\n"
        b"Date: Sat, 21 Nov 2026 12:00:00 +0000\r\nMessage-ID: <0@acme.example>\r\nMIME-Version: 1.0\r\n"
        b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    )
    line = b"TWFpbHJvb20g" * 6 + b"TWFp\r\n"
    raw = head + line * ((OCTETS - len(head)) // len(line))
    return Email(
        id="0",
        message_id="<0@acme.example>",
        sender=Address("no-reply@acme.example", "Acme"),
        recipient="ada@reader.example",
        reply_to=None,
        subject="Your code",
        html="",
        text="",
        headers=(),
        language="en",
        template="SignIn",
        raw=raw,
    )


class NoCatcher:
    """Nothing is caught here."""

    async def keep(self, email: Email) -> None:
        """Refuse."""
        raise NotImplementedError(email.id)


@contextlib.contextmanager
def sink(core: int, *options: str) -> Iterator[Sink]:
    """Run a sink on that core."""
    with tempfile.TemporaryDirectory() as folder:
        ca_file = Path(folder) / "ca.pem"
        command = [sys.executable, "-m", "bench.sink", *options, "--starttls", str(ca_file)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            os.sched_setaffinity(process.pid, {core})
            assert process.stdout is not None
            try:
                yield Sink(int(process.stdout.readline()), ca_file)
            finally:
                process.terminate()


@contextlib.asynccontextmanager
async def bare(where: Sink, tls: Tls) -> AsyncIterator[Callable[[int], Awaitable[None]]]:
    """Give a loop over 16 connected aiosmtplib clients, each sending bytes."""
    ready = mail()
    clients = [
        aiosmtplib.SMTP(
            hostname=HOST,
            port=where.port,
            start_tls=tls == "starttls",
            cert_bundle=str(where.ca_file),
            local_hostname="bench.test",
        )
        for _ in range(CONNECTIONS)
    ]
    for client in clients:
        await client.connect()

    async def send(number: int) -> None:
        async def one(client: aiosmtplib.SMTP) -> None:
            for _ in range(number // CONNECTIONS):
                await client.sendmail(ready.sender.email, ready.recipient, ready.raw)

        await asyncio.gather(*map(one, clients))

    yield send
    for client in clients:
        await client.quit()


@contextlib.asynccontextmanager
async def ours(where: Sink, tls: Tls) -> AsyncIterator[Callable[[int], Awaitable[None]]]:
    """Give a loop over 16 senders that share the provider as the courier does."""
    settings = Settings(
        host=HOST,
        port=where.port,
        tls=tls,
        ca_file=where.ca_file if tls == "starttls" else None,
        concurrency=CONNECTIONS,
        mails_per_connection=1_000_000,
    )
    provider = connect(settings, ProviderContext("bench", SystemClock(), NoCatcher()))
    ready = mail()

    async def send(number: int) -> None:
        async def one() -> None:
            for _ in range(number // CONNECTIONS):
                await provider.send(ready)

        await asyncio.gather(*(one() for _ in range(CONNECTIONS)))

    yield send
    await provider.aclose()


async def measure(rounds: int, mails: int) -> list[Row]:
    """Return the rows: bare, ours without and with pipelining; plain and encrypted, and with a slow server."""
    mine, other = _cores()
    os.sched_setaffinity(0, {mine})
    async with contextlib.AsyncExitStack() as stack:
        pipelining = stack.enter_context(sink(other))
        sequential = stack.enter_context(sink(other, "--no-pipelining"))
        slow = stack.enter_context(sink(other, "--delay", str(DELAY_SECONDS)))
        slow_chunking = stack.enter_context(sink(other, "--delay", str(DELAY_SECONDS), "--chunking"))
        rows: list[Row] = []
        for tls, name in WAYS.items():
            contenders = {
                BARE: await stack.enter_async_context(bare(pipelining, tls)),
                SEQUENTIAL: await stack.enter_async_context(ours(sequential, tls)),
                PIPELINED: await stack.enter_async_context(ours(pipelining, tls)),
            }
            rows += await _compare(contenders, name, AIMS, rounds, mails)
        contenders = {
            BARE: await stack.enter_async_context(bare(slow, "none")),
            PIPELINED: await stack.enter_async_context(ours(slow, "none")),
            CHUNKED: await stack.enter_async_context(ours(slow_chunking, "none")),
        }
        aims = {PIPELINED: 2.0, CHUNKED: 3.8}  # two waits instead of four, and one
        rows += await _compare(contenders, f"{DELAY_SECONDS * 1e3:g} ms a reply", aims, rounds, SLOW_MAILS)
    return rows


async def _compare(
    contenders: Mapping[str, Callable[[int], Awaitable[None]]],
    circumstances: str,
    aims: Mapping[str, float],
    rounds: int,
    mails: int,
) -> list[Row]:
    """Let them take turns; the first is the measure of the others."""
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    costs: dict[str, list[float]] = {name: [] for name in contenders}
    for send in contenders.values():
        await send(10 * CONNECTIONS)  # connect, warm up
    for _ in range(rounds):
        for name, send in contenders.items():
            started, cpu_started = time.perf_counter(), time.process_time()
            await send(mails)
            rates[name].append(mails / (time.perf_counter() - started))
            costs[name].append((time.process_time() - cpu_started) / mails * 1e6)
    rate = {name: statistics.median(measured) for name, measured in rates.items()}
    cost = {name: statistics.median(measured) for name, measured in costs.items()}
    first = next(iter(contenders))
    return [
        Row(
            what=f"{name}, {circumstances}",
            mails_per_second=rate[name],
            ratio=rate[name] / rate[first],
            cpu_microseconds=cost[name],
            cpu_ratio=cost[first] / cost[name],
            aim=aims.get(name),
        )
        for name in contenders
    ]


def figures(rounds: int) -> list[Figure]:
    """Return row b, in the one table's form: the rates, and what a mail costs this process."""
    found = []
    for row in uvloop.run(measure(rounds, MAILS)):
        found.append(
            Figure(
                "b",
                f"SMTP, {row.what}: mails/s against a bare aiosmtplib loop",
                f"{row.mails_per_second:,.0f}/s",
                f"{row.mails_per_second / row.ratio:,.0f}/s",
                row.ratio,
                "" if row.aim is None else f"≥ {row.aim:g}",
                met=None if row.aim is None else row.ratio >= row.aim,
            )
        )
        ours, theirs = row.cpu_microseconds, row.cpu_microseconds * row.cpu_ratio
        sides = (f"{ours:.1f} µs", f"{theirs:.1f} µs")
        found.append(Figure("b", f"SMTP, {row.what}: CPU a mail", *sides, ours / theirs, "", met=None))
    return found


def _cores() -> tuple[int, int]:
    cores = sorted(os.sched_getaffinity(0))
    return cores[0], cores[-1]


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--mails", type=int, default=MAILS, help="a round")
    given = parser.parse_args()
    rows = uvloop.run(measure(given.rounds, given.mails))
    print(f"b  SMTP, {OCTETS // 1024} KiB, {CONNECTIONS} connections, median of {given.rounds} rounds")
    for row in rows:
        rate = f"{row.mails_per_second:7,.0f}/s, ratio {row.ratio:.2f}"
        cost = f"{row.cpu_microseconds:5.0f} µs CPU, {row.cpu_ratio:.2f} times less"
        print(f"   {row.what:43}{rate}{cost}{row.verdict}")


if __name__ == "__main__":
    main()
