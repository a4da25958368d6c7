"""A load as Logto's: keep-alive connections that post SignIn codes, each with its own code and recipient.

As a program it prints one JSON line: `python -m bench.programs.load URL [--connections N] [--count N] [--rate R]`.
With `--again N` each Nth code is for the recipient of the one 41 before it.
"""

import argparse
import asyncio
import json
import time
from collections import deque
from pathlib import Path
from typing import Final, cast
from urllib.parse import urlsplit

import uvloop

AUTHORIZATION: Final = "Bearer bench-authorization"
_BODY: Final = (
    '{"to":"user-%d@example.com","type":"SignIn","payload":{"code":"%06d","locale":"en","application":{"id":"app",'
    '"name":"Harbor Portal","branding":{"logoUrl":"https://cdn.example.com/harbor/logo.png"},"displayName":"Harbor"},'
    '"note":"' + "x" * 400 + '"},"ip":"203.0.113.7"}'
)
_AGAIN_AFTER: Final = 41
"""A prime: that code was for a recipient of its own."""
_HEAD: Final = (
    "POST %s HTTP/1.1\r\nuser-agent: got (https://github.com/sindresorhus/got)\r\nauthorization: %s\r\n"
    "content-type: application/json\r\ncontent-length: %d\r\naccept-encoding: gzip, deflate, br\r\nHost: %s\r\n"
    "Connection: keep-alive\r\n\r\n"
)


class Load:
    """What is sent, and how it was answered."""

    def __init__(self, url: str, *, first: int, most: int, again: int = 0) -> None:
        parts = urlsplit(url)
        assert parts.hostname
        self.host, self.port, self._path = parts.hostname, parts.port or 80, parts.path
        self._numbers = iter(range(first, first + most))
        self.most = most
        self._again = again
        self.seconds: list[float] = []
        """From the request's last byte written to its response's last byte read."""
        self.posted_at: dict[str, float] = {}
        """By the id in the response: when its request was written, in monotonic seconds."""
        self.refused: list[str] = []

    def next_request(self) -> bytes | None:
        """Return the next request; None: enough were sent."""
        number = next(self._numbers, None)
        if number is None:
            return None
        user = number - _AGAIN_AFTER if self._again and number % self._again == 0 else number
        body = _BODY % (user, number % 1_000_000)
        return (_HEAD % (self._path, AUTHORIZATION, len(body), self.host) + body).encode()

    def add_response(self, response: bytes, body: bytes, sent_at: float) -> None:
        """Count a response."""
        self.seconds.append(time.monotonic() - sent_at)
        if response.startswith(b"HTTP/1.1 200"):
            self.posted_at[json.loads(body)["id"]] = sent_at
        else:
            self.refused.append(response.decode(errors="replace")[:300])

    async def connect(self, connections: int, idle: deque["Connection"] | None = None) -> list["Connection"]:
        """Open so many connections."""
        loop = asyncio.get_running_loop()
        return [
            (await loop.create_connection(lambda: Connection(self, idle), self.host, self.port))[1]
            for _ in range(connections)
        ]


class Connection(asyncio.Protocol):
    """One connection: one request after another."""

    def __init__(self, load: Load, idle: deque["Connection"] | None) -> None:
        self._load = load
        self._idle = idle
        """The connections that wait for `post` to be called; None: each posts again by itself."""
        self._sent_at = 0.0
        self._unread = b""
        self.closed = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request, or wait for it."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's inherits from nothing
        self._post_or_wait()

    def post(self) -> None:
        """Write a request, or close the connection if enough were sent."""
        request = self._load.next_request()
        self._sent_at = time.monotonic()
        if request is None:
            self.close()
        else:
            self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Read a response; head and body may come apart."""
        self._unread += data
        head, complete, body = self._unread.partition(b"\r\n\r\n")
        if not complete or len(body) < _content_length(head):
            return
        response, self._unread = self._unread, b""
        self._load.add_response(response, body, self._sent_at)
        self._post_or_wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Record the end."""
        if exc is not None:
            self._load.refused.append(repr(exc))
        self.closed.set_result(None)

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()

    def _post_or_wait(self) -> None:
        if self._idle is not None:
            self._idle.append(self)
        else:
            self.post()


def _content_length(head: bytes) -> int:
    _, is_given, rest = head.lower().partition(b"\r\ncontent-length:")
    return int(rest.partition(b"\r\n")[0]) if is_given else 0


async def closed_loop(load: Load, connections: int) -> float:
    """Keep so many requests under way until enough are answered; return the seconds that it took."""
    started = time.monotonic()
    opened = await load.connect(connections)
    await asyncio.gather(*(connection.closed for connection in opened))
    return time.monotonic() - started


async def open_loop(load: Load, rate: float, connections: int) -> float:
    """Post at a fixed rate whatever the responses do, as end users come; return the seconds that it took."""
    idle: deque[Connection] = deque()
    opened = await load.connect(connections, idle)
    started = time.monotonic()
    for number in range(load.most):
        delay = started + number / rate - time.monotonic()
        if delay > 0:
            await asyncio.sleep(delay)
        if idle:
            idle.popleft().post()
        else:
            load.refused.append("no idle connection")
    seconds = time.monotonic() - started
    while len(idle) < connections:  # noqa: ASYNC110 - nothing is measured any more
        await asyncio.sleep(0.005)
    for connection in opened:
        connection.close()
    await asyncio.gather(*(connection.closed for connection in opened))
    return seconds


def quantile(values: list[float], share: float) -> float:
    """Return the value below which this share of them lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


async def run(load: Load, *, rate: float | None, connections: int) -> dict[str, object]:
    """Send the load and return the figures."""
    seconds = await (open_loop(load, rate, connections) if rate else closed_loop(load, connections))
    return {
        "answered": len(load.seconds),
        "per_second": len(load.seconds) / seconds,
        "p50_ms": quantile(load.seconds, 0.5) * 1000,
        "p99_ms": quantile(load.seconds, 0.99) * 1000,
        "refused": load.refused,
    }


def main() -> None:
    """Run as a program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--count", type=int, default=20_000, help="stop after so many responses")
    parser.add_argument("--rate", type=float, help="requests a second, open loop; without it as fast as answered")
    parser.add_argument("--first", type=int, default=0, help="the first request's number")
    parser.add_argument("--again", type=int, default=0, help="one code in so many is for a recipient of before")
    parser.add_argument("--times", type=Path, help="write when each request was posted to this file")
    given = parser.parse_args()
    load = Load(given.url, first=given.first, most=given.count, again=given.again)
    print(json.dumps(uvloop.run(run(load, rate=given.rate, connections=given.connections))))
    if given.times:
        given.times.write_text(json.dumps(load.posted_at))


if __name__ == "__main__":
    main()
