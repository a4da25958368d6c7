"""Posts signed `User.Created` events as fast as they are answered, over many connections.

    python -m tests.e2e.flood PORT EVENTS CONNECTIONS

Prints `begun` once all connections are open, and at the end how many answers had which status, as JSON.
"""

import asyncio
import hmac
import json
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime

from tests.e2e.harness import SIGNING_KEY


def request(number: int, created_at: str) -> bytes:
    """Return a signed request; each is about another user."""
    event = {
        "event": "User.Created",
        "createdAt": created_at,
        "interactionEvent": "Register",
        "data": {"id": f"user{number}", "primaryEmail": f"user{number}@example.com", "name": "Ada", "profile": {}},
        "hookId": "eup12iqgdh5b58v5chpf1",
    }
    body = json.dumps(event).encode()
    signature = hmac.new(SIGNING_KEY.encode(), body, "sha256").hexdigest()
    head = f"logto-signature-sha-256: {signature}\r\ncontent-length: {len(body)}\r\n"
    return f"POST /webhook HTTP/1.1\r\nhost: localhost\r\n{head}\r\n".encode() + body


async def post(port: int, requests: Iterator[bytes], begun: asyncio.Barrier) -> Counter[int]:
    """Post over one connection; return how many answers had which status."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    statuses: Counter[int] = Counter()
    await begun.wait()
    for one in requests:
        writer.write(one)
        head = await reader.readuntil(b"\r\n\r\n")
        _, _, rest = head.lower().partition(b"\r\ncontent-length:")
        await reader.readexactly(int(rest.partition(b"\r\n")[0]))
        statuses[int(head.split(b" ", 2)[1])] += 1
    writer.close()
    return statuses


async def main(port: int, events: int, connections: int) -> None:
    """Post all events, and print the statuses."""
    created_at = datetime.now(UTC).isoformat()
    requests = iter([request(number, created_at) for number in range(events)])
    begun = asyncio.Barrier(connections + 1)
    posting = [asyncio.create_task(post(port, requests, begun)) for _ in range(connections)]
    await begun.wait()
    sys.stdout.write("begun\n")
    sys.stdout.flush()
    statuses: Counter[int] = sum(await asyncio.gather(*posting), Counter())
    sys.stdout.write(json.dumps(statuses) + "\n")


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:])))
