r"""One connection: sends commands, returns replies.

connection.send(b"MAIL FROM:<a@acme.example>\r\n", b"RCPT TO:<b@reader.example>\r\n")
reply = await connection.read_reply(Command.MAIL)
reply = await connection.read_reply(Command.RCPT)
"""

import asyncio
import re
import ssl
from collections import deque
from ipaddress import ip_address
from typing import Final, cast

from mailroom.smtpclient.exceptions import ConnectionLost
from mailroom.smtpclient.reply import Command, Reply
from mailroom.smtpclient.sockets import has_unread_data

_LONGEST_REPLY: Final = 32 * 1024
"""Octets."""
_MOST_LINES: Final = 1000
"""Of a reply."""
_ENDLESS: Final = "the server's reply has no end"
_LINE: Final = re.compile(rb"([2-5][0-9]{2})(?:([ -])(.*))?", re.DOTALL)


class Connection(asyncio.Protocol):
    """An asyncio protocol that returns a server's replies in the order of the commands."""

    _transport: asyncio.Transport

    def __init__(self) -> None:
        """Expect one reply: the server's greeting."""
        self._unread = b""
        self._lines: list[str] = []
        self._replies: deque[Reply] = deque()
        self.expected_replies = 1
        """How many replies have not arrived yet."""
        self._waiter: asyncio.Future[None] | None = None
        self._end: str | None = None
        """Why the connection cannot be used any more."""
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the transport is closed."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are no subclasses

    def take_over(self, transport: asyncio.Transport, received: bytes) -> None:
        """Use an open transport, over which the server has already sent these octets."""
        self._transport = transport
        transport.set_protocol(self)
        if received:
            self.data_received(received)

    async def start_tls(self, context: ssl.SSLContext, server_name: str) -> None:
        """Encrypt. Raises ConnectionLost, OSError.

        Replies that came in clear may be an attacker's (RFC 3207 §6): they count as a lost connection.
        """
        if self._unread or self._lines or self._replies or not self.is_open:
            raise ConnectionLost(Command.STARTTLS, self._end or "the server spoke out of turn")
        loop = asyncio.get_running_loop()
        transport = await loop.start_tls(self._transport, self, context, server_hostname=server_name)
        if transport is None:
            raise ConnectionLost(Command.STARTTLS, "the server closed the connection")
        self._transport = transport

    @property
    def local_address(self) -> str:
        """The IP address of our end."""
        return str(self._transport.get_extra_info("sockname")[0])

    @property
    def is_private(self) -> bool:
        """Whether what is sent cannot be read on a network: it is encrypted, or stays on this machine."""
        if self._transport.get_extra_info("ssl_object") is not None:
            return True
        peer = str(self._transport.get_extra_info("peername")[0]).partition("%")[0]
        return ip_address(peer).is_loopback

    @property
    def is_open(self) -> bool:
        """Whether neither side has closed it, as far as the event loop knows."""
        return self._end is None and not self._transport.is_closing()

    @property
    def is_quiet(self) -> bool:
        """Whether it is open and nothing waits to be read: also no FIN that the event loop has not seen yet."""
        return self.is_open and not has_unread_data(self._transport)

    @property
    def unsent_octets(self) -> int:
        """How much of what was sent is still buffered in this process."""
        return self._transport.get_write_buffer_size()

    def send(self, *commands: bytes) -> None:
        """Write commands at once, line ends included; each expects a reply."""
        self.expected_replies += len(commands)
        if self._end is None:
            self._transport.write(b"".join(commands))

    async def send_command(self, command: Command, line: str) -> Reply:
        """Write one command, without its line end, and return its reply. Raises ConnectionLost."""
        self.send(f"{line}\r\n".encode("ascii"))
        return await self.read_reply(command)

    async def read_reply(self, command: Command) -> Reply:
        """Return the next reply. Raises ConnectionLost, of that command, when there will be none."""
        while not self._replies:
            if self._end is not None:
                raise ConnectionLost(command, self._end)
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return self._replies.popleft()

    def quit(self) -> None:
        """Send QUIT and close without waiting for the reply."""
        if self.is_open:
            self._transport.write(b"QUIT\r\n")
        self._set_end("closed by us")
        self._transport.close()

    def abort(self, reason: str = "closed by us") -> None:
        """Close at once; what is unsent stays unsent."""
        self._set_end(reason)
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Parse replies."""
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            match = _LINE.fullmatch(line.removesuffix(b"\r"))
            if match is None:
                if not line.strip():
                    continue  # some servers send an empty line between replies
                self.abort("the server answered something that is not SMTP")
                return
            code, separator, text = match.groups(b"")
            self._lines.append(text.decode("utf-8", "replace"))
            if separator != b"-":
                self.expected_replies -= 1
                self._replies.append(reply := Reply(int(code), tuple(self._lines)))
                self._lines.clear()
                if reply.closes_connection:
                    self._set_end("the server closed the connection")
            elif len(self._lines) > _MOST_LINES:
                self.abort(_ENDLESS)
                return
        if self.expected_replies < 0:
            # Sent while the connection was idle, usually "421 timeout": it must not be read as the next mail's reply.
            self.abort("the server spoke out of turn")
        elif len(self._unread) + sum(map(len, self._lines)) > _LONGEST_REPLY:
            self.abort(_ENDLESS)
        else:
            self._wake()

    def eof_received(self) -> None:
        """Note that the server closed the connection; the transport closes itself."""
        self._set_end("the server closed the connection")

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the transport is closed."""
        self._set_end(f"the connection broke: {exc}" if exc else "the server closed the connection")
        if not self.closed.done():
            self.closed.set_result(None)

    def _set_end(self, reason: str) -> None:
        if self._end is None:
            self._end = reason
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
