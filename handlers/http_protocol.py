"""uvicorn's HTTP/1.1 with bounds on what a client may send before and after a request is parsed.

uvicorn parses with httptools (llhttp). That buffers a header line of any length, reports trailers as headers, and stops
at an `Upgrade` without reading the body. So this class
- counts the octets and lines of a message that are not its body (431, 414),
- drops trailers (RFC 9110 §6.5.1),
- ignores an offer to upgrade and reads the body (RFC 9110 §7.8),
- stops parsing a connection when a request on it was refused here.
"""

from typing import Any, Final

import httptools

from handlers.connection_table import ConnectionTable
from handlers.http_connection import TrackedConnection
from handlers.responses import ErrorResponse

LARGEST_HEAD: Final = 32 * 1024
"""Octets of a message that are not its body: empty lines before it, request line, header lines, chunk sizes and
extensions, trailers (RFC 9112 §2.2, §3, §5, §7.1). Counted per read, so pipelined requests may have twice as many."""
MOST_LINES: Final = 100
"""Header and trailer lines of a message."""
_CHUNK_OVERHEAD: Final = 12
"""Octets of a chunk's size and line ends that are not counted (RFC 9112 §7.1)."""
_MOST_DISCARDED: Final = 4 * 1024 * 1024
"""Octets of a request that are read after its response was sent."""

_MALFORMED: Final = ErrorResponse(400, "The request is not valid HTTP.")
_TARGET_TOO_LONG: Final = ErrorResponse(414, "The address of the request is too long.")
_HEAD_TOO_LARGE: Final = ErrorResponse(431, "The headers of the request are too large.")


class _HeadTooLarge(Exception):
    """Raised in a callback of the parser."""


class BoundedHttpProtocol(TrackedConnection):
    """One connection; uvicorn makes one for each."""

    def __init__(self, table: ConnectionTable, **options: Any) -> None:
        super().__init__(table, **options)
        self._head_lines = 0
        self._is_replaying = False

    def data_received(self, data: bytes) -> None:
        """Parse, in pieces of at most `LARGEST_HEAD` octets."""
        if self._stage is self._table.closing:
            self._discarded += len(data)
            if self._discarded > _MOST_DISCARDED:
                self.flow.pause_reading()  # until it is closed
        if len(data) <= LARGEST_HEAD:
            self._parse(data)
            return
        for begin in range(0, len(data), LARGEST_HEAD):
            self._parse(memoryview(data)[begin : begin + LARGEST_HEAD])

    def on_message_begin(self) -> None:
        """Begin to read a head."""
        if not self._is_replaying:
            super().on_message_begin()
            self._stage = self._table.heads

    def on_headers_complete(self) -> None:
        """Start the request. Headers reported after this are trailers: they are dropped."""
        if not self._is_replaying:
            self._head_lines = len(self.headers)
            if self._head_lines > MOST_LINES or (self._framing > LARGEST_HEAD and self._head_size() > LARGEST_HEAD):
                raise _HeadTooLarge
            if self.parser.should_upgrade() and self.parser.get_method() == b"CONNECT":
                raise httptools.HttpParserError  # there are no tunnels here (RFC 9110 §9.3.6)
            super().on_headers_complete()
            self._stage = self._table.bodies
        self._is_replaying = False
        self.headers = []

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self._framing -= len(body)
        if not self.cycle.response_complete:
            self._body += len(body)
            super().on_body(body)

    def on_chunk_complete(self) -> None:
        """Do not count the octets that every chunk needs."""
        self._framing -= min(self._framing, _CHUNK_OVERHEAD)

    def on_message_complete(self) -> None:
        """Complete the request, unless the parser only stops at an offer to upgrade."""
        if self.parser.should_upgrade():
            return
        if self._head_lines + len(self.headers) > MOST_LINES:
            raise _HeadTooLarge
        self._framing = 0
        self._stage = self._table.idle if self.cycle.response_complete else None
        super().on_message_complete()

    def _parse(self, data: bytes | memoryview) -> None:
        if not self._is_parsing:
            return
        self._framing += len(data)
        while True:
            try:
                self.parser.feed_data(data)
                break
            except httptools.HttpParserUpgrade as offer:
                data = b"".join((self._replay_head(), data[offer.args[0] :]))
            except httptools.HttpParserError as error:
                too_large = isinstance(error.__context__, _HeadTooLarge)
                self._refuse(self._too_large() if too_large else _MALFORMED)
                return
        if self._framing > LARGEST_HEAD or len(self.headers) > MOST_LINES:
            self._refuse(self._too_large())
            return
        if self._stage is not self._waiting:
            self._update_waiting()
        if self._stage is not None or self.pipeline:
            self._hold()

    def _replay_head(self) -> bytes:
        """Replace the parser, which cannot continue after an offer to upgrade; return the head that the new one needs.

        It has only the headers that say where the body ends (RFC 9112 §6, §9.3); the request has been started.
        """
        framing = (b"connection", b"content-length", b"transfer-encoding")
        lines = [b"%b: %b\r\n" % line for line in self.scope["headers"] if line[0] in framing]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
        self._is_replaying = True
        return b"POST / HTTP/%b\r\n%b\r\n" % (self.scope["http_version"].encode(), b"".join(lines))

    def _head_size(self) -> int:
        """Return the octets of the head that was parsed; `_framing` may include what follows it."""
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _too_large(self) -> ErrorResponse:
        if self._stage is self._table.heads and 2 * len(self.url) > self._framing:
            return _TARGET_TOO_LONG
        return _HEAD_TOO_LARGE
