"""A Logto-like load: keep-alive connections that post SignIn codes, each with its own code and recipient.

As a program it prints one JSON line: `python -m bench.load URL [--connections N] [--seconds S | --count N] [--rate R]`.
"""

import argparse
import asyncio
import json
import time
from collections import deque
from itertools import count
from typing import cast
from urllib.parse import urlsplit

import uvloop

_PADDING = "x" * 400
_BODY = (
    '{"to":"user-%d@example.com","type":"SignIn","payload":{"code":"%06d","locale":"en","application":{"id":"app",'
    '"name":"Harbor Portal","branding":{"logoUrl":"https://cdn.example.com/harbor/logo.png"},"displayName":"Harbor"},'
    '"note":"' + _PADDING + '"},"ip":"203.0.113.7"}'
)
_HEAD = (
    "POST %s HTTP/1.1\r\nuser-agent: got (https://github.com/sindresorhus/got)\r\nauthorization: %s\r\n"
    "content-type: application/json\r\ncontent-length: %d\r\naccept-encoding: gzip, deflate, br\r\nHost: %s\r\n"
    "Connection: keep-alive\r\n\r\n"
)


class Load:
    """What was sent and how it was answered."""

    def __init__(self, url: str, authorization: str, *, first: int = 0) -> None:
        parts = urlsplit(url)
        assert parts.hostname
        self.host, self.port, self.path = parts.hostname, parts.port or 80, parts.path
        self.authorization = authorization
        self.numbers = count(first)
        self.seconds: list[float] = []
        """From the request's last byte written to its answer's first byte read."""
        self.posted_at: dict[str, float] = {}
        """By the id in the answer: when its request was written, in monotonic seconds."""
        self.keep_times = False
        self.refused: list[bytes] = []
        self.stop_at = float("inf")
        self.most = 1 << 62

    def request(self) -> bytes:
        """Return the next request."""
        number = next(self.numbers)
        body = _BODY % (number, number % 1_000_000)
        return (_HEAD % (self.path, self.authorization, len(body), self.host) + body).encode()

    @property
    def over(self) -> bool:
        """Whether enough was sent."""
        return time.monotonic() >= self.stop_at or len(self.seconds) >= self.most


class Connection(asyncio.Protocol):
    """One connection: one request after another."""

    def __init__(self, load: Load, idle: deque["Connection"] | None = None) -> None:
        self._load = load
        self._idle = idle
        self._transport: asyncio.Transport | None = None
        self._sent_at = 0.0
        self._answer = b""
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request, or wait to be asked."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's inherits from nothing
        if self._idle is None:
            self.post()
        else:
            self._idle.append(self)

    def post(self) -> None:
        """Write a request."""
        assert self._transport
        request = self._load.request()
        self._sent_at = time.monotonic()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Read an answer; head and body may come apart."""
        self._answer += data
        head, found, body = self._answer.partition(b"\r\n\r\n")
        if not found or len(body) < _content_length(head):
            return
        data, self._answer = self._answer, b""
        self._load.seconds.append(time.monotonic() - self._sent_at)
        if not data.startswith(b"HTTP/1.1 200"):
            self._load.refused.append(data)
        elif self._load.keep_times:
            self._load.posted_at[json.loads(body)["id"]] = self._sent_at
        if self._idle is not None:
            self._idle.append(self)
        elif self._load.over:
            self.close()
        else:
            self.post()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note the end."""
        if exc is not None:
            self._load.refused.append(repr(exc).encode())
        if not self.done.done():
            self.done.set_result(None)

    def close(self) -> None:
        """Hang up."""
        assert self._transport
        self._transport.close()


def _content_length(head: bytes) -> int:
    _, found, rest = head.lower().partition(b"\r\ncontent-length:")
    return int(rest.partition(b"\r\n")[0]) if found else 0


async def closed_loop(load: Load, connections: int) -> float:
    """Keep so many requests under way until the load is over; return the seconds that it took."""
    loop = asyncio.get_running_loop()
    started = time.monotonic()
    opened = [
        (await loop.create_connection(lambda: Connection(load), load.host, load.port))[1] for _ in range(connections)
    ]
    await asyncio.gather(*(connection.done for connection in opened))
    return time.monotonic() - started


async def open_loop(load: Load, rate: float, connections: int) -> float:
    """Post at a fixed rate whatever the answers do, as end users come; return the seconds that it took."""
    loop = asyncio.get_running_loop()
    idle: deque[Connection] = deque()
    opened = [
        (await loop.create_connection(lambda: Connection(load, idle), load.host, load.port))[1]
        for _ in range(connections)
    ]
    started = time.monotonic()
    for turn in count():
        due = started + turn / rate
        delay = due - time.monotonic()
        if delay > 0:
            await asyncio.sleep(delay)
        if time.monotonic() >= load.stop_at or turn >= load.most:
            break
        if idle:
            idle.popleft().post()
        else:
            load.refused.append(b"no idle connection")
    seconds = time.monotonic() - started
    while len(idle) < connections:  # noqa: ASYNC110 - nothing is measured any more
        await asyncio.sleep(0.005)
    for connection in opened:
        connection.close()
    await asyncio.gather(*(connection.done for connection in opened))
    return seconds


def quantile(values: list[float], share: float) -> float:
    """Return the value below which this share of them lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


async def run(arguments: argparse.Namespace) -> dict[str, object]:
    """Load as told and return the figures."""
    load = Load(arguments.url, arguments.authorization, first=arguments.first)
    load.keep_times = bool(arguments.times)
    if arguments.count:
        load.most = arguments.count
    else:
        load.stop_at = time.monotonic() + arguments.seconds
    if arguments.rate:
        seconds = await open_loop(load, arguments.rate, arguments.connections)
    else:
        seconds = await closed_loop(load, arguments.connections)
    if arguments.times:
        with open(arguments.times, "w") as file:  # noqa: PTH123, ASYNC230 - the measuring is over
            json.dump(load.posted_at, file)
    return {
        "answered": len(load.seconds),
        "per_second": len(load.seconds) / seconds,
        "p50_ms": quantile(load.seconds, 0.5) * 1000,
        "p99_ms": quantile(load.seconds, 0.99) * 1000,
        "refused": len(load.refused),
        "first_refusal": load.refused[0].decode(errors="replace")[:300] if load.refused else None,
    }


def main() -> None:
    """Run as a program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--authorization", default="Bearer bench-authorization")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--count", type=int, help="stop after so many answers instead")
    parser.add_argument("--rate", type=float, help="requests a second, open loop; without it as fast as answered")
    parser.add_argument("--first", type=int, default=0, help="the first request's number")
    parser.add_argument("--times", help="write when each request was posted to this file")
    print(json.dumps(uvloop.run(run(parser.parse_args()))))


if __name__ == "__main__":
    main()
