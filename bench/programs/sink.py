"""A fast SMTP server that accepts every mail and stores none: `python -m bench.programs.sink`.

It prints its port as its first line. Beside SMTP it has a command `STAT`, answered by `250 <mails so far>`. With
`--journal FILE` it writes, at each `STAT` and when it is terminated, a line for each mail: the arrival's
`time.monotonic_ns()`, the same clock in every process of this machine, and the mail's Message-ID.
"""

import argparse
import asyncio
import contextlib
import re
import signal
import ssl
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, cast

import trustme
import uvloop

HOST: Final = "127.0.0.1"
END: Final = b"\r\n.\r\n"
REPLIES: Final = {
    b"MAIL": b"250 2.1.0 Ok\r\n",
    b"RCPT": b"250 2.1.5 Ok\r\n",
    b"DATA": b"354 End data with <CR><LF>.<CR><LF>\r\n",
    **dict.fromkeys((b"NOOP", b"RSET", b"HELO"), b"250 2.0.0 Ok\r\n"),
}
_MESSAGE_ID: Final = re.compile(rb"^message-id:\s*(\S+)", re.IGNORECASE | re.MULTILINE)


@dataclass(slots=True)
class Arrivals:
    """The mails of all connections, and what each connection offers."""

    offers: tuple[str, ...]
    tls: ssl.SSLContext | None
    delay_seconds: float
    journal: Path | None
    mails: int = 0
    pending: list[tuple[int, bytes]] = field(default_factory=list)

    def add(self, content: bytes) -> None:
        """Count a mail, and record when it arrived."""
        self.mails += 1
        if self.journal is not None:
            match = _MESSAGE_ID.search(content)
            self.pending.append((time.monotonic_ns(), match[1] if match else b""))

    def append_to_journal(self) -> None:
        """Append the arrivals since the last call to the journal."""
        if self.journal is not None:
            with self.journal.open("ab") as journal:
                journal.writelines(b"%d %s\n" % arrival for arrival in self.pending)
            self.pending.clear()


class Connection(asyncio.Protocol):
    """Parses commands and content; answers each read by one write."""

    def __init__(self, arrivals: Arrivals) -> None:
        self._arrivals = arrivals
        self._unread = b""
        self._in_content = False
        self._chunk = 0
        self._encrypted = False
        self._handshake: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet, unless this is the same connection, encrypted now."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are no subclasses
        if not self._encrypted:
            self._write(b"220 sink.test ESMTP\r\n")

    def data_received(self, data: bytes) -> None:
        """Answer every complete command and content."""
        self._unread = unread = self._unread + data if self._unread else data
        replies: list[bytes] = []
        while unread:
            if end := self._chunk:
                if len(unread) < end:
                    break
                self._arrivals.add(unread[:end])
                self._chunk = 0
                replies.append(b"250 2.0.0 Ok: queued as %08d\r\n" % self._arrivals.mails)
            elif self._in_content:
                end = 3 if unread.startswith(b".\r\n") else unread.find(END) + len(END)
                if end < len(END) and end != 3:  # noqa: PLR2004  # a lone dot
                    break
                self._arrivals.add(unread[:end])
                self._in_content = False
                replies.append(b"250 2.0.0 Ok: queued as %08d\r\n" % self._arrivals.mails)
            else:
                end = unread.find(b"\r\n") + 2
                if end < 2:  # noqa: PLR2004  # no line end
                    break
                if unread.startswith(b"BDAT "):
                    self._chunk = int(unread[5 : unread.index(b" ", 5)])
                    unread = unread[end:]
                    continue
                reply = self._reply(unread[:4].upper())
                if not reply:
                    self._unread = b""
                    return
                replies.append(reply)
            unread = unread[end:]
        self._unread = unread
        if replies:
            self._write(b"".join(replies))

    def _reply(self, verb: bytes) -> bytes:
        """Return the reply, or nothing if the rest of the data is not SMTP in this connection."""
        if verb == b"DATA":
            self._in_content = True
        elif verb == b"EHLO":
            return self._offers()
        elif verb == b"STAT":
            self._arrivals.append_to_journal()
            return b"250 %d\r\n" % self._arrivals.mails
        elif verb == b"STAR" and self._arrivals.tls is not None:
            self._transport.write(b"220 2.0.0 go\r\n")
            self._transport.pause_reading()
            self._handshake = asyncio.ensure_future(self._encrypt(self._arrivals.tls))
            return b""
        elif verb == b"QUIT":
            self._transport.write(b"221 2.0.0 Bye\r\n")
            self._transport.close()
            return b""
        return REPLIES.get(verb, b"500 5.5.2 what?\r\n")

    def _offers(self) -> bytes:
        offers = [b"sink.test", b"SIZE 33554432", b"SMTPUTF8", b"8BITMIME"]
        offers += (offer.encode() for offer in self._arrivals.offers)
        if self._arrivals.tls is not None and not self._encrypted:
            offers.append(b"STARTTLS")
        return b"".join(b"250-%s\r\n" % offer for offer in offers) + b"250 ENHANCEDSTATUSCODES\r\n"

    def _write(self, replies: bytes) -> None:
        if self._arrivals.delay_seconds:
            asyncio.get_running_loop().call_later(self._arrivals.delay_seconds, self._transport.write, replies)
        else:
            self._transport.write(replies)

    async def _encrypt(self, context: ssl.SSLContext) -> None:
        self._encrypted = True
        with contextlib.suppress(OSError):
            transport = await asyncio.get_running_loop().start_tls(self._transport, self, context, server_side=True)
            assert transport is not None
            self._transport = transport


async def serve(arrivals: Arrivals) -> None:
    """Serve until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)
    server = await loop.create_server(lambda: Connection(arrivals), HOST, 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await stop.wait()
    server.close()
    arrivals.append_to_journal()


def main() -> None:
    """Read the arguments and serve."""
    parser = argparse.ArgumentParser(description="a fast SMTP server that accepts every mail and stores none")
    parser.add_argument("--no-pipelining", action="store_true", help="do not offer PIPELINING")
    parser.add_argument("--chunking", action="store_true", help="offer CHUNKING")
    parser.add_argument("--starttls", type=Path, metavar="CA_FILE", help="offer STARTTLS; write the authority there")
    parser.add_argument("--delay", type=float, default=0, metavar="SECONDS", help="wait before each reply")
    parser.add_argument("--journal", type=Path, metavar="FILE", help="record each mail's arrival")
    given = parser.parse_args()
    context = None
    if given.starttls is not None:
        authority = trustme.CA()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(HOST, "localhost").configure_cert(context)
        authority.cert_pem.write_to_path(given.starttls)
    offers = (*(() if given.no_pipelining else ("PIPELINING",)), *(("CHUNKING",) if given.chunking else ()))
    uvloop.run(serve(Arrivals(offers, context, given.delay, given.journal)))


if __name__ == "__main__":
    main()
