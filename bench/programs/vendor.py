"""A mail vendor's API that accepts every mail at once: `python -m bench.programs.vendor PORT`. Row h's peer.

It reads of a request no more than its length. A GET is answered by the number of mails so far.
"""

import asyncio
import sys
import urllib.request
from typing import Final, cast

import uvloop

_ACCEPTED: Final = b'{"id":"49a3999c-0ce1-4ea6-ab68-afcd6dc2e794"}'


class Vendor(asyncio.Protocol):
    """One connection."""

    mails = 0
    """Accepted over all connections."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)
        self._unread = b""

    def data_received(self, data: bytes) -> None:
        """Answer each complete request."""
        self._unread += data
        while (end := self._unread.find(b"\r\n\r\n")) >= 0:
            head = self._unread[:end].lower()
            length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
            if len(self._unread) < end + 4 + length:
                return
            self._unread = self._unread[end + 4 + length :]
            if head.startswith(b"get "):
                body = b"%d" % Vendor.mails
            else:
                body = _ACCEPTED
                Vendor.mails += 1
            self._transport.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: Sat, 21 Nov 2026 12:00:00 GMT\r\n"
                b"Server: vendor\r\nX-Request-Id: 49a3999c\r\nRatelimit-Limit: 10\r\nRatelimit-Remaining: 9\r\n"
                b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
            )


def accepted_mails(url: str) -> int:
    """Return how many mails the vendor at this address has accepted."""
    with urllib.request.urlopen(url) as response:
        return int(response.read())


async def serve(port: int) -> None:
    """Serve until killed."""
    server = await asyncio.get_running_loop().create_server(Vendor, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
