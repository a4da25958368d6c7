"""An SMTP server that takes pipelines and chunks honestly, remembers each write, and answers as scripted."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Final, cast

EHLO: Final = ("250-wire.test", "250-PIPELINING", "250-SIZE 1000000", "250-SMTPUTF8", "250 ENHANCEDSTATUSCODES")

CHUNKING: Final = {"EHLO": "\r\n".join((*EHLO[:-1], "250-CHUNKING", EHLO[-1]))}
"""Answers of a server that takes BDAT."""

USUAL: Final = {
    "GREETING": "220 wire.test ESMTP",
    "EHLO": "\r\n".join(EHLO),
    "RSET": "250 2.0.0 Ok",
    "NOOP": "250 2.0.0 Ok",
    "MAIL": "250 2.1.0 Ok",
    "RCPT": "250 2.1.5 Ok",
    "DATA": "354 go ahead",
    "CONTENT": "250 2.0.0 Ok: queued as WIRE01",
    "QUIT": "221 2.0.0 Bye",
}

HANG_UP: Final = ""
"""Answer for: close the connection instead."""


class WireServer:
    """What came over the wire."""

    host = "127.0.0.1"

    def __init__(self, answers: Mapping[str, str], *, piecemeal: bool) -> None:
        self.port = 0
        self.answers = {**USUAL, **answers}
        self.once: dict[str, str] = {}
        """Answers that are given one time, before the usual ones."""
        self.piecemeal = piecemeal
        self.writes: list[bytes] = []
        """Each chunk as it was read: small writes arrive in one piece on the loopback interface."""
        self.lines: list[bytes] = []
        """Each command line, and the content of mails as one item."""
        self.connections = 0
        self.live: set[_Connection] = set()
        self._news = asyncio.Event()

    def answer(self, verb: str) -> str:
        """Return what a command is answered by."""
        return self.once.pop(verb, self.answers.get(verb, "500 5.5.2 what?"))

    async def until(self, holds: Callable[[], bool], *, within: float = 10) -> None:
        """Wait until it holds; fail the test when it never does."""
        try:
            async with asyncio.timeout(within):
                while not holds():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"waited {within} s; the server has seen {self.verbs}") from None

    def tell(self) -> None:
        """Wake those who wait for something to happen."""
        self._news.set()

    @property
    def verbs(self) -> list[str]:
        """The commands without what they say; `CONTENT` for a mail."""
        return [_verb(line) for line in self.lines]


class _Connection(asyncio.Protocol):
    def __init__(self, server: WireServer) -> None:
        self._server = server
        self._unread = b""
        self._wants_content = False
        self._wants_octets = 0
        self._has_sender = False
        self._has_recipient = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's are no subclasses
        self._server.connections += 1
        self._server.live.add(self)
        self._server.tell()
        self._answer("GREETING")

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.live.discard(self)
        self._server.tell()

    def data_received(self, data: bytes) -> None:
        self._server.writes.append(data)
        self._unread += data
        while not self.transport.is_closing():
            # RFC 2920 §3.1: a lone dot right after the 354 ends an empty content
            content = b"\r\n" + self._unread if self._wants_content else b""
            if self._wants_octets:
                if len(self._unread) < self._wants_octets:
                    return
                self._take_content(self._wants_octets)
            elif self._wants_content and b"\r\n.\r\n" in content:
                end = content.index(b"\r\n.\r\n") + 3
                self._take_content(end)
            elif not self._wants_content and b"\r\n" in self._unread:
                line, _, self._unread = self._unread.partition(b"\r\n")
                self._take_command(line)
            else:
                return

    def _take_content(self, end: int) -> None:
        self._server.lines.append(self._unread[:end])
        self._server.tell()
        self._unread = self._unread[end:]
        self._wants_content, self._wants_octets = False, 0
        if self._has_recipient:
            self._answer("CONTENT")
        else:
            self._write("554 5.5.1 no valid recipients")
        self._has_recipient = False

    def _take_command(self, line: bytes) -> None:
        self._server.lines.append(line)
        self._server.tell()
        verb = _verb(line)
        if verb == "BDAT" and "BDAT" not in self._server.answers:
            self._wants_octets = int(line.split()[1])
            return
        answer = self._server.answer(verb)
        if verb == "RCPT" and not self._has_sender:
            answer = "503 5.5.1 need MAIL"
        elif verb == "DATA" and not self._has_recipient and answer == USUAL["DATA"]:
            answer = "554 5.5.1 no valid recipients"
        accepted = answer.startswith("2")
        self._has_recipient = (verb == "RCPT" and accepted) or (verb == "DATA" and self._has_recipient)
        self._has_sender = (verb == "MAIL" and accepted) or (verb in ("RCPT", "DATA") and self._has_sender)
        self._wants_content = verb == "DATA" and answer.startswith("354")
        self._write(answer)

    def _answer(self, verb: str) -> None:
        self._write(self._server.answer(verb))

    def _write(self, answer: str) -> None:
        if answer == HANG_UP:
            self.transport.close()
        elif self._server.piecemeal:
            for octet in f"{answer}\r\n".encode():
                self.transport.write(bytes((octet,)))
        else:
            self.transport.write(f"{answer}\r\n".encode())


def _verb(line: bytes) -> str:
    return "CONTENT" if b"\n" in line else line[:4].decode("ascii", "replace").upper()


@contextlib.asynccontextmanager
async def wire_server(
    answers: Mapping[str, str] | None = None, *, piecemeal: bool = False
) -> AsyncIterator[WireServer]:
    """Run a server that answers commands by their verb; what `answers` does not name is accepted.

    `piecemeal` sends replies octet by octet. Without a sender there is no recipient, without one of those no
    content, as with any server, unless `answers` has another text for DATA.
    """
    server = WireServer(answers or {}, piecemeal=piecemeal)
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(lambda: _Connection(server), server.host, 0)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        for connection in server.live:
            connection.transport.abort()
        await listener.wait_closed()
