"""One request and its answer over one connection, by h11; knows whether the request was handed over."""

from dataclasses import dataclass
from typing import Final

import h11
import httpx

from mailroom.clock import Clock
from mailroom.errors import Unavailable, Uncertain
from mailroom.providers._http_wire import Lost, Wire
from mailroom.providers._words import bounded

LONGEST_BODY: Final = 64 * 1024
"""What is read of an answer's body; its head may be as long."""

IDLE_SECONDS: Final = 30.0
"""A connection that was idle for longer is not used again: load balancers drop them silently after a minute."""

_NOT_KEPT: Final = frozenset({b"content-encoding", b"content-length", b"transfer-encoding"})
"""We ask for no encoding; an answer that has one is not decoded, so that it cannot be a bomb."""


@dataclass(slots=True)
class HandOver:
    """Whether a request has left this process as a whole, so that it may have been carried out."""

    done: bool = False


class Connection:
    """Speaks HTTP/1.1 over a wire, one request at a time."""

    def __init__(self, wire: Wire, clock: Clock) -> None:
        """Begin idle."""
        self.wire = wire
        self._clock = clock
        self._talk = h11.Connection(h11.CLIENT, max_incomplete_event_size=LONGEST_BODY)
        self._good_until = clock.monotonic() + IDLE_SECONDS

    @property
    def reusable(self) -> bool:
        """Whether another request can go over it."""
        return (
            self._talk.our_state is h11.IDLE
            and self._talk.their_state is h11.IDLE
            and self._clock.monotonic() < self._good_until
            and self.wire.idle
        )

    async def exchange(self, request: httpx.Request) -> httpx.Response:
        """Send and return the answer, its body cut at `LONGEST_BODY`; `cut` in its extensions says so.

        Raises Unavailable before the request was handed over, Uncertain after. Whatever is raised, cancellation
        too, the connection is closed.
        """
        hand_over: HandOver = request.extensions.get("hand_over") or HandOver()
        written = False
        try:
            written = await self.wire.write(self._written(request))
            return await self._answer(reusable=written)  # not when it was answered ahead of time
        except BaseException as error:
            hand_over.done = written and self.wire.flushed
            kind = Uncertain if hand_over.done else Unavailable
            self.wire.abort()
            if isinstance(error, Lost):
                raise kind(f"no answer: {bounded(str(error))}") from None
            if isinstance(error, h11.RemoteProtocolError):
                raise kind("the answer is not HTTP") from None
            raise

    def _written(self, request: httpx.Request) -> bytes:
        talk = self._talk
        head = talk.send(h11.Request(method=request.method, target=request.url.raw_path, headers=request.headers.raw))
        body = talk.send(h11.Data(request.content)) if request.content else b""
        return (head or b"") + (body or b"") + (talk.send(h11.EndOfMessage()) or b"")

    async def _answer(self, *, reusable: bool) -> httpx.Response:
        talk = self._talk
        head: h11.Response | None = None
        body = bytearray()
        while True:
            event = talk.next_event()
            if event is h11.NEED_DATA:
                talk.receive_data(await self._more(ends_it=head is not None))
            elif isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > LONGEST_BODY:
                    break
            elif not isinstance(event, h11.InformationalResponse):
                break
        if head is None:  # it switches protocols, which nobody asked for
            raise h11.RemoteProtocolError("no response")
        cut = len(body) > LONGEST_BODY
        if cut or not reusable or talk.our_state is not h11.DONE or talk.their_state is not h11.DONE:
            self.wire.abort()
        else:
            talk.start_next_cycle()
            self._good_until = self._clock.monotonic() + _idle_seconds(head)
        return httpx.Response(
            head.status_code,
            headers=[(name, value) for name, value in head.headers if name not in _NOT_KEPT],
            content=bytes(body[:LONGEST_BODY]),
            extensions={"cut": cut},
        )

    async def _more(self, *, ends_it: bool) -> bytes:
        try:
            return await self.wire.read()
        except Lost:
            if ends_it:
                return b""  # the end of the connection may be the end of the body (RFC 9112 §6.3); h11 knows
            raise


def _idle_seconds(head: h11.Response) -> float:
    """Return how long the connection is good for: a server may announce less than we hope for."""
    for name, value in head.headers:
        if name == b"keep-alive":
            for parameter in value.lower().split(b","):
                key, _, seconds = parameter.strip().partition(b"=")
                if key == b"timeout" and seconds.isdigit():
                    return min(IDLE_SECONDS, max(0.0, int(seconds[:9]) - 1.0))
    return IDLE_SECONDS
