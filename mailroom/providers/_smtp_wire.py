"""Commands out, replies in: one SMTP connection."""

import asyncio
import re
import select
import ssl
from collections import deque
from typing import Final, cast

from mailroom.providers._smtp_replies import Reply

_LONGEST_REPLY: Final = 32 * 1024
_LINE: Final = re.compile(rb"([2-5][0-9]{2})(?:([ -])(.*))?", re.DOTALL)


class Lost(Exception):
    """The connection ended, or makes no sense any more."""

    def __init__(self, words: str, *, code: str = "") -> None:
        super().__init__(words)
        self.words = words
        self.code = code


class Wire(asyncio.Protocol):
    """Reads a server's replies in the order of the commands."""

    _transport: asyncio.Transport

    def __init__(self) -> None:
        """Begin without a connection; the server owes us its greeting."""
        self._unread = b""
        self._lines: list[str] = []
        self._replies: deque[Reply] = deque()
        self._owed = 1
        self._waiter: asyncio.Future[None] | None = None
        self._ended: str | None = None
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the transport is gone."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are none by inheritance

    def take_over(self, transport: asyncio.Transport, already_read: bytes) -> None:
        """Begin with somebody else's connection and what came over it."""
        self._transport = transport
        transport.set_protocol(self)
        if already_read:
            self.data_received(already_read)

    async def encrypt(self, context: ssl.SSLContext, name: str) -> None:
        """Speak TLS from here on. Raises Lost, OSError.

        What came in clear behind the reply to STARTTLS may be somebody else's (RFC 3207 §6): then there is no session.
        """
        if self._unread or self._lines or self._replies or not self.alive:
            raise Lost(self._ended or "the server spoke out of turn")
        loop = asyncio.get_running_loop()
        encrypted = await loop.start_tls(self._transport, self, context, server_hostname=name)
        if encrypted is None:
            raise Lost("the server closed the connection")
        self._transport = encrypted

    @property
    def our_address(self) -> str:
        """The address that we speak from."""
        return str(self._transport.get_extra_info("sockname")[0])

    @property
    def alive(self) -> bool:
        """Whether nobody hung up, as far as is known."""
        return self._ended is None and not self._transport.is_closing()

    @property
    def silent(self) -> bool:
        """Whether nothing has come that was not read yet: no word, no end. What ended before a write took nothing."""
        if not self.alive:
            return False
        arrivals = select.poll()
        arrivals.register(self._transport.get_extra_info("socket"), select.POLLIN)
        return not arrivals.poll(0)

    @property
    def unsent(self) -> int:
        """How many octets have not left us."""
        return self._transport.get_write_buffer_size()

    def write(self, *commands: bytes) -> None:
        """Send commands at once; each is owed a reply."""
        self._owed += len(commands)
        if self._ended is None:
            self._transport.write(b"".join(commands))

    async def reply(self) -> Reply:
        """Return the next reply. Raises Lost when none will come."""
        while not self._replies:
            if self._ended is not None:
                raise Lost(self._ended)
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return self._replies.popleft()

    def quit(self) -> None:
        """Say good-bye without waiting for the answer."""
        if self.alive:
            self._transport.write(b"QUIT\r\n")
        self._end("closed by us")
        self._transport.close()

    def abort(self, why: str = "closed by us") -> None:
        """Hang up; what was not sent yet never will be."""
        self._end(why)
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Cut what came into replies."""
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            found = _LINE.fullmatch(line.removesuffix(b"\r"))
            if found is None:
                self.abort("the server answered something that is not SMTP")
                return
            code, separator, text = found.groups(b"")
            self._lines.append(text.decode("utf-8", "replace"))
            if separator != b"-":
                self._owed -= 1
                self._replies.append(Reply(int(code), tuple(self._lines)))
                self._lines.clear()
        if self._owed < 0:
            # Said while it was idle, usually "421 timeout"; taking it for the next mail's reply would be fatal.
            self.abort("the server spoke out of turn")
        elif len(self._unread) + sum(map(len, self._lines)) > _LONGEST_REPLY:
            self.abort("the server's reply has no end")
        else:
            self._wake()

    def eof_received(self) -> None:
        """Let the transport close: the server hung up."""
        self._end("the server closed the connection")

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever waits that nothing more will come."""
        self._end(f"the connection broke: {exc}" if exc else "the server closed the connection")
        if not self.closed.done():
            self.closed.set_result(None)

    def _end(self, why: str) -> None:
        if self._ended is None:
            self._ended = why
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
