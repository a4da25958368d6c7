"""Tracks what the server awaits from one HTTP connection of uvicorn, in the lists of `ConnectionTable`, and ends it.

A connection is closed in two steps (RFC 9112 §9.6): the server writes the last response and closes its writing side;
then it discards what the client still sends until the client closes, too. Closed at once, the connection could be
reset before the client has read the response.
"""

import asyncio
from typing import Any, Final, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from handlers.auth import AUTHORIZED
from handlers.connection_table import ConnectionTable, MemoryBudget, WaitingList
from handlers.request_body import REFUSAL
from handlers.responses import ErrorResponse, closing_response
from handlers.whole_responses import WholeResponses

_REQUEST_OVERHEAD: Final = 12 * 1024
"""Octets that an unfinished request takes beside its body: uvicorn's objects and a task."""
_WRITE_BUFFER: Final = 16 * 1024
"""Octets of responses that wait in this process for a client which does not read."""

_TOO_SLOW: Final = ErrorResponse(408, "The request took too long.")
_BUSY: Final = ErrorResponse(503, "The mail server is busy. Please try again.", ((b"retry-after", b"5"),))


class TrackedConnection(HttpToolsProtocol):
    """A connection in a table. A subclass parses, and decides when a request is refused."""

    def __init__(self, table: ConnectionTable, **options: Any) -> None:
        super().__init__(**options)
        self.held = 0
        """Octets of unfinished requests."""
        self.account: MemoryBudget | None = None
        """The budget that contains them."""
        # uvicorn sets these with the first request.
        self.url, self.headers = b"", []
        self.scope = {}  # type: ignore[typeddict-item]  # filled by the first request
        self._table = table
        self._stage: WaitingList | None = table.heads
        """What the server awaits; None: its own response."""
        self._waiting: WaitingList | None = None
        """The list that contains it: that of its stage, or `blocked`."""
        self._is_parsing = True
        self._framing = 0
        """Octets since the end of the last message that are not its body."""
        self._body = 0
        """Octets of bodies without a response."""
        self._discarded = 0
        """Octets received since the response to the current request."""
        self._last_response = b""
        """Sent after the responses to earlier requests; then the connection is closed."""

    @property
    def is_authorized(self) -> bool:
        """Whether the current request has Logto's authorization."""
        return AUTHORIZED in self.scope

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Add to the table; evict another connection if there are too many."""
        has_room = self._table.make_room(len(self.connections))
        self._real_transport = cast("asyncio.Transport", transport)  # uvloop's do not inherit from it
        super().connection_made(self._real_transport)
        self.transport = cast("asyncio.Transport", WholeResponses(self._real_transport, self.close_transport))
        self._real_transport.set_write_buffer_limits(high=_WRITE_BUFFER)
        self._update_waiting()
        if not has_room:
            self._refuse(_BUSY)
            self._real_transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Remove from the table."""
        super().connection_lost(exc)
        self._leave(None)

    def pause_writing(self) -> None:
        """Wait until the client reads."""
        super().pause_writing()
        self._update_waiting()

    def resume_writing(self) -> None:
        """Continue with what the server awaited before."""
        super().resume_writing()
        self._update_waiting()

    def on_response_complete(self) -> None:
        """Start the next request that has arrived, or wait for one."""
        self.server_state.total_requests += 1
        if self._real_transport.is_closing() or self._stage is self._table.closing:
            return
        if self.pipeline:
            self.flow.resume_reading()
            self._start_asgi_task(*self.pipeline.pop())
            return
        self._release()
        if self._last_response:
            self._half_close(self._last_response)
            return
        self.flow.resume_reading()
        if self._stage is None:
            self._stage = self._table.idle
        elif self._stage is self._table.bodies:
            self._stage, self._discarded = self._table.closing, 0
            self.cycle.body = bytearray()  # the endpoint does not read it
        self._update_waiting()

    def close_transport(self) -> None:
        """Close; in two steps if a request has not arrived completely."""
        if self._real_transport.is_closing():
            return
        if self._stage is self._table.bodies:
            self._half_close()
        else:
            self._real_transport.close()
            self._leave(self._table.closing)  # aborted later if the buffer cannot be written

    def expire(self) -> None:
        """End a wait that took too long: refuse an unfinished request with 408, close an idle connection."""
        waiting = self._waiting
        if self.flow.read_paused and (waiting is self._table.heads or waiting is self._table.bodies):
            self._wait_in(waiting)  # it is the server that does not read
        else:
            self._end_wait(_TOO_SLOW)

    def shed(self) -> None:
        """Refuse an unfinished request with 503, to spare memory."""
        self._end_wait(_BUSY)

    def evict(self) -> None:
        """Refuse an unfinished request with 503 or close an idle connection, and release the descriptor at once."""
        self._end_wait(_BUSY)
        self._real_transport.close()

    def _end_wait(self, error: ErrorResponse) -> None:
        table, waiting = self._table, self._waiting
        if waiting is table.closing or waiting is table.blocked:
            self._abort()
        elif waiting is table.idle or not (self._framing or self.cycle is not None):
            self.close_transport()
        else:
            self._refuse(error)

    def _refuse(self, error: ErrorResponse) -> None:
        """Stop parsing; respond with this error after the responses to earlier requests, and close."""
        self._is_parsing = False
        self._last_response = closing_response(error, self.server_state.default_headers)
        cycle, stage, has_queue = self.cycle, self._stage, bool(self.pipeline)
        is_responding = cycle is not None and not cycle.response_complete  # type: ignore[redundant-expr]  # None at first
        if error is _BUSY:
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
                cycle.scope[REFUSAL] = error  # type: ignore[typeddict-unknown-key]  # a key of ours
                cycle.disconnected, cycle.waiting_for_100_continue = True, False
                cycle.message_event.set()
            self._half_close(self._last_response)

    def _half_close(self, response: bytes = b"") -> None:
        """Write the last response, and close the writing side."""
        self._is_parsing = False
        self.flow.resume_reading()
        self.transport.write(response)
        if not self._real_transport.is_closing():
            self._real_transport.write_eof()
        self._leave(self._table.closing)

    def _abort(self) -> None:
        self._is_parsing = False
        self._real_transport.abort()
        self._stage = None
        self._release()
        self._wait_in(None)  # also if it is in `blocked`

    def _leave(self, stage: WaitingList | None) -> None:
        """Enter this stage, and release the memory account."""
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
