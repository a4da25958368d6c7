"""uvicorn's HTTP/1.1 with bounds on what a client may send before a request is understood, and after it.

uvicorn parses with httptools (llhttp). That gathers a header line for as long as it comes, reports trailers as
headers, and stops at an `Upgrade` without reading the body. So this class
- counts the octets and lines of a message that are not its body (431, 414),
- drops trailers (RFC 9110 §6.5.1),
- ignores an offer to upgrade and reads the body (RFC 9110 §7.8),
- keeps every connection in the list of a `ConnectionTable` that says what it is waited for,
- closes after the client could read the response (RFC 9112 §9.6),
- parses nothing more of a connection once a request on it was refused here.
"""

import asyncio
from http import HTTPStatus
from typing import Any, Final

import httptools

from handlers.authorizing import AUTHORIZED
from handlers.connection_table import Account, ConnectionTable, WaitingList
from handlers.whole_answers import WholeAnswers

LARGEST_HEAD: Final = 32 * 1024
"""Octets of a message that are not its body: empty lines before it, request line, header lines, chunk sizes and
extensions, trailers (RFC 9112 §2.2, §3, §5, §7.1). Counted per read: of pipelined requests twice as many may pass."""
MOST_LINES: Final = 100
"""Header and trailer lines of a message."""
_CHUNK_OVERHEAD: Final = 12
"""Octets of a chunk's size and line ends that are not counted (RFC 9112 §7.1)."""
_MOST_DISCARDED: Final = 4 * 1024 * 1024
"""Octets of a request that are read after its response was sent."""
_REQUEST_OVERHEAD: Final = 12 * 1024
"""Octets that an unfinished request takes beside its body: uvicorn's objects, a task, a timer."""
_WRITE_BUFFER: Final = 16 * 1024
"""Octets of responses that wait in this process for a client which does not read."""

_SENTENCES: Final = {
    HTTPStatus.BAD_REQUEST: "The request is not valid HTTP.",
    HTTPStatus.REQUEST_TIMEOUT: "The request took too long.",
    HTTPStatus.REQUEST_URI_TOO_LONG: "The address of the request is too long.",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: "The headers of the request are too large.",
    HTTPStatus.SERVICE_UNAVAILABLE: "The mail server is busy. Please try again.",
}
"""Logto shows them to its end users."""


class _HeadTooLarge(Exception):
    """Raised within a callback of the parser."""


class BoundedHttpProtocol(WholeAnswers):
    """One connection."""

    def __init__(self, table: ConnectionTable, **given: Any) -> None:
        super().__init__(**given)
        self._table = table
        self.held = 0
        self.account: Account | None = None
        # uvicorn has none before the first request.
        self.url, self.headers = b"", []
        self.scope = {}  # type: ignore[typeddict-item]
        self._stage: WaitingList | None = table.heads
        """What the connection is waited for; None: a response of ours."""
        self._waiting: WaitingList | None = None
        """The list that it stands in: that of its stage, or `blocked`."""
        self._framing = 0
        """Octets since the end of the last message that are no body."""
        self._head_lines = 0
        self._body = 0
        """Octets of bodies without a response."""
        self._discarded = 0
        self._is_parsing = True
        self._is_replaying = False
        self._refusal = b""
        """The last response of this connection, once those before it are sent."""

    @property
    def is_authorized(self) -> bool:
        """Whether the request under way has shown Logto's authorization."""
        return AUTHORIZED in self.scope

    # From the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; evict another connection if there are too many."""
        has_room = self._table.make_room(len(self.connections))
        super().connection_made(transport)
        self._unjoined.set_write_buffer_limits(high=_WRITE_BUFFER)
        self._update_waiting()
        if not has_room:
            self.refuse(HTTPStatus.SERVICE_UNAVAILABLE)
            self._unjoined.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        super().connection_lost(exc)
        self._leave(None)

    def data_received(self, data: bytes) -> None:
        """Parse, in pieces no larger than a head may be."""
        if self._stage is self._table.closing:
            self._discarded += len(data)
            if self._discarded > _MOST_DISCARDED:
                self.flow.pause_reading()  # until it is closed
        if len(data) <= LARGEST_HEAD:
            self._parse(data)
            return
        for begin in range(0, len(data), LARGEST_HEAD):
            self._parse(memoryview(data)[begin : begin + LARGEST_HEAD])

    def pause_writing(self) -> None:
        """Wait for a client that does not read."""
        super().pause_writing()
        self._update_waiting()

    def resume_writing(self) -> None:
        """Go on."""
        super().resume_writing()
        self._update_waiting()

    def close_transport(self) -> None:
        """Close, but read on while a request has not arrived in full: a close would reset it (RFC 9112 §9.6)."""
        transport = self._unjoined
        if transport.is_closing():
            return
        if self._stage is self._table.bodies:
            self._half_close()
        else:
            transport.close()
            self._leave(self._table.closing)  # aborted later if its buffer cannot be written

    # From the table

    def expire(self, status: HTTPStatus) -> None:
        """End the wait: refuse an unfinished request with this status, close an idle connection."""
        table, waiting = self._table, self._waiting
        if waiting is table.closing or waiting is table.blocked:
            self._abort()
        elif waiting is table.idle or not (self._framing or self.cycle is not None):
            self.close_transport()
        elif status is HTTPStatus.REQUEST_TIMEOUT and self.flow.read_paused:
            self._wait_in(waiting)  # it is us who do not read
        else:
            self.refuse(status)

    def evict(self) -> None:
        """Expire, and give the descriptor back at once."""
        self.expire(HTTPStatus.SERVICE_UNAVAILABLE)
        self._unjoined.close()

    # From the parser

    def on_message_begin(self) -> None:
        """Begin to read a head."""
        if not self._is_replaying:
            super().on_message_begin()
            self._stage = self._table.heads

    def on_headers_complete(self) -> None:
        """Start the request. What comes as headers from here on are trailers, and nobody will see them."""
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
        """Do not count what every chunk needs."""
        self._framing -= min(self._framing, _CHUNK_OVERHEAD)

    def on_message_complete(self) -> None:
        """Take the end of the message, unless the parser only stops at an offer to upgrade."""
        if self.parser.should_upgrade():
            return
        if self._head_lines + len(self.headers) > MOST_LINES:
            raise _HeadTooLarge
        self._framing = 0
        self._stage = self._table.idle if self.cycle.response_complete else None
        super().on_message_complete()

    # From the response

    def on_response_complete(self) -> None:
        """Start the next request that is here, or wait for one."""
        self.server_state.total_requests += 1
        if self._unjoined.is_closing() or self._stage is self._table.closing:
            return
        if self.pipeline:
            self.flow.resume_reading()
            self._start_asgi_task(*self.pipeline.pop())
            return
        self._release()
        if self._refusal:
            self._half_close(self._refusal)
            return
        self.flow.resume_reading()
        if self._stage is None:
            self._stage = self._table.idle
        elif self._stage is self._table.bodies:
            self._stage, self._discarded = self._table.closing, 0
        self._update_waiting()

    # The rest

    def refuse(self, status: HTTPStatus) -> None:
        """Parse nothing more; respond after the requests before this one, and close."""
        self._is_parsing = False
        self._refusal = self._response(status)
        cycle, stage, has_queue = self.cycle, self._stage, bool(self.pipeline)
        is_responding = cycle is not None and not cycle.response_complete  # type: ignore[redundant-expr]  # None at first
        if status is HTTPStatus.SERVICE_UNAVAILABLE:
            self.pipeline.clear()
        elif has_queue and stage is self._table.bodies:
            self.pipeline.popleft()  # this very request
        if has_queue or (is_responding and stage is not self._table.bodies):
            self._leave(None)
        elif stage is self._table.closing:
            self._half_close()
        elif stage is self._table.bodies and cycle.response_started:
            self._abort()
        else:
            if stage is self._table.bodies:
                cycle.disconnected, cycle.waiting_for_100_continue = True, False
                cycle.message_event.set()
            self._half_close(self._refusal)

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
                self.refuse(self._too_large() if too_large else HTTPStatus.BAD_REQUEST)
                return
        if self._framing > LARGEST_HEAD or len(self.headers) > MOST_LINES:
            self.refuse(self._too_large())
            return
        if self._stage is not self._waiting:
            self._update_waiting()
        if self._stage is not None or self.pipeline:
            self._hold()

    def _should_upgrade(self) -> bool:
        return False

    def _replay_head(self) -> bytes:
        """Exchange the parser, which has no way back from an offer to upgrade; return the head that the new one needs.

        Only what says where the body ends (RFC 9112 §6, §9.3); the request has been started.
        """
        framing = (b"connection", b"content-length", b"transfer-encoding")
        lines = [b"%b: %b\r\n" % line for line in self.scope["headers"] if line[0] in framing]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
        self._is_replaying = True
        return b"POST / HTTP/%b\r\n%b\r\n" % (self.scope["http_version"].encode(), b"".join(lines))

    def _head_size(self) -> int:
        """Return the octets of the head that was parsed; `_framing` may count what follows it."""
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _too_large(self) -> HTTPStatus:
        if self._stage is self._table.heads and 2 * len(self.url) > self._framing:
            return HTTPStatus.REQUEST_URI_TOO_LONG
        return HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE

    def _response(self, status: HTTPStatus) -> bytes:
        lines = [*self.server_state.default_headers, (b"content-type", b"text/plain; charset=utf-8")]
        if status is HTTPStatus.SERVICE_UNAVAILABLE:
            lines.append((b"retry-after", b"5"))
        if (b"connection", b"close") not in lines:
            lines.append((b"connection", b"close"))
        head = b"".join(b"%b: %b\r\n" % line for line in lines)
        body = _SENTENCES[status].encode()
        return b"HTTP/1.1 %d %b\r\n%bcontent-length: %d\r\n\r\n%b" % (
            status, status.phrase.encode(), head, len(body), body,
        )  # fmt: skip

    def _half_close(self, response: bytes = b"") -> None:
        """Write a last response and the end of ours, and discard what the client still sends (RFC 9112 §9.6)."""
        self._is_parsing = False
        self.flow.resume_reading()
        self.transport.write(response)
        if not self._unjoined.is_closing():
            self._unjoined.write_eof()
        self._leave(self._table.closing)

    def _abort(self) -> None:
        self._is_parsing = False
        self._unjoined.abort()
        self._stage = None
        self._release()
        self._wait_in(None)  # also if it is blocked

    def _leave(self, stage: WaitingList | None) -> None:
        """Go to this stage, and hold nothing."""
        self._stage = stage
        self._release()
        self._update_waiting()

    def _update_waiting(self) -> None:
        wanted = self._table.blocked if self.flow.write_paused else self._stage
        if wanted is not self._waiting:
            self._wait_in(wanted)

    def _wait_in(self, waiting: WaitingList | None) -> None:
        if self._waiting is not None:
            del self._waiting[self]
        self._waiting = waiting
        if waiting is not None:
            waiting[self] = self._table.now + waiting.seconds

    def _hold(self) -> None:
        requests = len(self.pipeline) + (self._stage is self._table.bodies)
        octets = self._body + max(0, self._framing) + requests * _REQUEST_OVERHEAD
        self._table.hold(self, octets)

    def _release(self) -> None:
        self._body = 0
        if self.held:
            self._table.hold(self, 0)
