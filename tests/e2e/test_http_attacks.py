"""Attacks on a real server: Logto's requests are answered meanwhile, and memory stays bounded."""

import asyncio
import os
import resource
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.e2e import node
from tests.e2e.harness import AUTHORIZATION, POLL_SECONDS, Server, configuration, unless

MAIL = {"to": "ada@example.com", "type": "SignIn", "payload": {"code": "329452"}, "ip": "203.0.113.7"}
MIB = 1024 * 1024
MOST_MEMORY = 30 * MIB
"""More than before the attack."""
LONGEST_WAIT = 0.5
"""Seconds until /livez answers, without those in which other programs had the cores."""
CROWD = 1100
MIXED = (b"", b"GET /livez HTTP/1.1\r\nHost: a\r\n", b"\r\n", b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
"""Silent, half a head, an empty line, and a request after which the connection idles."""


@pytest.fixture(autouse=True)
def _many_open_files() -> Iterator[None]:
    """Give the tests themselves more descriptors than the server has."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@dataclass(slots=True)
class Attacked:
    """A server, and the longest wait that was measured."""

    server: Server
    longest_wait: float = 0.0

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a connection."""
        return await asyncio.open_connection("127.0.0.1", self.server.port)

    async def crowd(self, stack: AsyncExitStack, pieces: tuple[bytes, ...], count: int = CROWD) -> None:
        """Open connections that stay until the stack ends, and send a piece on each."""
        for number in range(count):
            _, writer = await self.connect()
            stack.callback(writer.close)
            writer.write(pieces[number % len(pieces)])


def seconds_without_core(pid: int) -> float:
    """Return how long the main threads of that process and of ours have waited for a core: proc_pid_schedstat(5)."""
    return sum(int(Path(f"/proc/{one}/schedstat").read_text().split()[1]) for one in (pid, os.getpid())) / 1e9


@asynccontextmanager
async def attacked(directory: Path, *, open_files: int | None = None) -> AsyncIterator[Attacked]:
    """Run a server; fail if it takes too much memory or answers too late within the context."""
    async with Server(directory, configuration('type = "capture"'), open_files=open_files) as server:
        async with httpx.AsyncClient(base_url=server.url, trust_env=False) as logto:
            for number in range(50):
                mail = MAIL | {"to": f"u{number}@example.com"}
                await logto.post("/email", json=mail, headers={"authorization": AUTHORIZATION})
        target = Attacked(server)
        before, most = server.resident_octets(), 0
        is_over = asyncio.Event()

        async def watch() -> None:
            nonlocal most
            while not is_over.is_set():
                began = time.monotonic() - seconds_without_core(server.pid)
                reader, writer = await target.connect()
                writer.write(b"GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
                writer.close()
                ended = time.monotonic() - seconds_without_core(server.pid)
                target.longest_wait = max(target.longest_wait, ended - began)
                most = max(most, server.resident_octets())
                await asyncio.sleep(POLL_SECONDS)

        watching = asyncio.create_task(watch())
        try:
            yield target
        finally:
            is_over.set()
            await watching
        assert most - before <= MOST_MEMORY, f"{(most - before) / MIB:.0f} MiB more"
        assert target.longest_wait <= LONGEST_WAIT
        assert "Traceback" not in server.log()


async def send(server: Server, client: httpx.AsyncClient, number: int) -> int:
    """Post a mail as Logto does; return the status."""
    mail = MAIL | {"to": f"v{number}@example.com"}
    answer = await client.post(f"{server.url}/email", json=mail, headers={"authorization": AUTHORIZATION})
    return answer.status_code


@unless(node.missing())
async def test_logtos_connector_sees_no_reset_beside_1100_connections(tmp_path: Path) -> None:
    """Under a limit of 1,024 open files; a reset would show the code and our authorization to the end user."""
    async with attacked(tmp_path, open_files=1024) as target, node.connector() as logto, AsyncExitStack() as stack:
        await target.crowd(stack, MIXED)
        crowding = asyncio.create_task(target.crowd(stack, MIXED))
        answers = []
        for batch in range(20):
            mails = [MAIL | {"to": f"w{batch}.{number}@example.com"} for number in range(10)]
            endpoint = f"{target.server.url}/email"
            answers += await asyncio.gather(*(logto.send(endpoint, AUTHORIZATION, mail) for mail in mails))
        await crowding
        assert [(answer.status, answer.dropped) for answer in answers] == [(200, "")] * 200
        async with httpx.AsyncClient(base_url=target.server.url, trust_env=False) as prometheus:
            metrics = (await prometheus.get("/metrics")).text
        values = dict(line.rsplit(" ", 1) for line in metrics.splitlines() if not line.startswith("#"))
        assert 700 <= float(values["mailroom_connections"]) <= 768
        assert float(values['mailroom_connections_evicted_total{reason="descriptors"}']) > CROWD
        assert 1 <= target.server.log().count("connections.evicted") <= 2


async def test_with_few_descriptors_the_outbox_and_new_connections_still_have_some(tmp_path: Path) -> None:
    """A quarter is reserved; whoever connects is answered, and nothing of ours fails to open a file."""
    async with (
        attacked(tmp_path, open_files=128) as target,
        httpx.AsyncClient(trust_env=False) as logto,
        AsyncExitStack() as stack,
    ):
        for number in range(10):
            await target.crowd(stack, MIXED, 60)
            assert await send(target.server, logto, number) == httpx.codes.OK
        assert "Too many open files" not in target.server.log()


CHUNKED = b"POST /webhook HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("begin", "rest", "status"),
    [
        pytest.param(b"GET /livez HTTP/1.1\r\n", b"X: y\r\n", 431, id="header lines"),
        pytest.param(b"GET /livez HTTP/1.1\r\nX: ", b"y", 431, id="one header"),
        pytest.param(b"GET /", b"x", 414, id="URL"),
        pytest.param(CHUNKED + b"5;a=", b"b", 431, id="chunk extension"),
        pytest.param(CHUNKED + b"0\r\nX: ", b"y", 431, id="trailer"),
        pytest.param(CHUNKED + b"0\r\n", b"X: y\r\n", 431, id="trailer lines"),
    ],
)
async def test_an_endless_head_chunk_or_trailer_is_refused(
    begin: bytes, rest: bytes, status: int, tmp_path: Path
) -> None:
    """A client that would send 256 MiB gets the response before it has sent 32."""
    async with attacked(tmp_path) as target:

        async def flood() -> tuple[bytes, int]:
            reader, writer = await target.connect()
            writer.write(begin)
            piece, sent = rest * (MIB // len(rest)), 0

            async def write() -> None:
                nonlocal sent
                while sent < 256:
                    writer.write(piece)
                    await writer.drain()
                    sent += 1

            writing = asyncio.create_task(write())
            head = await reader.readuntil(b"\r\n\r\n")
            writing.cancel()
            writer.transport.abort()
            return head, sent

        for head, sent in await asyncio.gather(*(flood() for _ in range(10))):
            assert head.startswith(b"HTTP/1.1 %d " % status)
            assert sent < 32


HALF_BODY = b"POST /%b HTTP/1.1\r\nHost: a\r\nContent-Length: 1048576\r\n\r\n" + b"x" * 1_000_000


async def test_half_sent_bodies_use_little_memory_and_block_no_mail(tmp_path: Path) -> None:
    """300 of nearly 1 MiB each, to both endpoints: the oldest get a 503, and Logto's requests are answered."""
    async with attacked(tmp_path) as target, httpx.AsyncClient(trust_env=False) as logto, AsyncExitStack() as stack:
        readers = []
        for number in range(300):
            reader, writer = await target.connect()
            stack.callback(writer.close)
            readers.append(reader)
            writer.write(HALF_BODY % (b"email" if number % 3 else b"webhook"))
            await writer.drain()
            if number % 10 == 0:
                assert await send(target.server, logto, number) == httpx.codes.OK
                assert (await logto.post(f"{target.server.url}/webhook", content=b"{}")).status_code == 401
        refusal = await asyncio.wait_for(readers[0].read(4096), 5)
        assert refusal.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nretry-after: 5\r\n" in refusal
        assert refusal.endswith(b"\r\n\r\nThe mail server is busy. Please try again.")


async def test_64_large_mails_at_once_are_accepted_beside_half_sent_bodies(tmp_path: Path) -> None:
    """300 kB each; the bodies of clients without authorization are dropped for them."""
    large = MAIL | {"payload": {"code": "329452", "context": "x" * 300_000}}
    async with Server(tmp_path, configuration('type = "capture"')) as server, AsyncExitStack() as stack:
        logto = await stack.enter_async_context(httpx.AsyncClient(trust_env=False, timeout=30))
        for _ in range(30):
            _, writer = await asyncio.open_connection("127.0.0.1", server.port)
            stack.callback(writer.close)
            writer.write(HALF_BODY % b"webhook")
            await writer.drain()
        headers = {"authorization": AUTHORIZATION}
        mails = [large | {"to": f"x{number}@example.com"} for number in range(64)]
        answers = await asyncio.gather(
            *(logto.post(f"{server.url}/email", json=mail, headers=headers) for mail in mails)
        )
        assert [answer.status_code for answer in answers] == [httpx.codes.OK] * 64


async def test_slow_heads_and_bodies_are_cut_off_after_10_seconds(tmp_path: Path) -> None:
    """A head, of which nothing or a byte now and then is sent, and the rest of a body that was answered early."""
    cases = (
        (b"", b"", b""),
        (b"GET /livez HTTP/1.1\r\nHost: a\r\n", b"X: y\r\n", b"HTTP/1.1 408 "),
        (b"POST /livez HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n", b"x", b"HTTP/1.1 405 "),
    )
    async with attacked(tmp_path) as target:

        async def drip(begin: bytes, rest: bytes, expected: bytes) -> None:
            reader, writer = await target.connect()
            began = time.monotonic()
            writer.write(begin)
            reading = asyncio.create_task(reader.read())
            while not (await asyncio.wait({reading}, timeout=0.5))[0]:
                writer.write(rest)
            assert 9 <= time.monotonic() - began <= 13
            assert (await reading).startswith(expected)
            writer.close()

        await asyncio.gather(*(drip(*case) for case in cases))
