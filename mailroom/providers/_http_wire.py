"""One connection: bytes there, bytes back, and whether all that was written has left this process."""

import asyncio
import select
from typing import Final, cast

_PIECE: Final = 64 * 1024
"""What is passed on at once; mails are smaller, as a rule."""

_CAN_POLL: Final = hasattr(select, "poll")
"""Windows has none: there the event loop's knowledge must do."""


class Lost(Exception):
    """The connection is of no use any more; the text says why."""


class Wire(asyncio.Protocol):
    """The protocol under an HTTP request and under the talk with a proxy."""

    def __init__(self) -> None:
        """Begin without a connection."""
        loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self.closed: asyncio.Future[None] = loop.create_future()
        self._loop = loop
        self._unread = bytearray()
        self._waiter: asyncio.Future[None] | None = None
        self._ended: str | None = None
        self._clogged = False

    @property
    def transport(self) -> asyncio.Transport:
        """What lies below, once connected."""
        assert self._transport is not None
        return self._transport

    @property
    def flushed(self) -> bool:
        """Whether the system has taken all that was written."""
        return not self._clogged

    @property
    def idle(self) -> bool:
        """Whether the connection stands and nothing came that nobody asked for.

        The system is asked too: what it knows may not have reached the event loop yet.
        """
        if self._ended is not None or self._unread or self._clogged or self.transport.is_closing():
            return False
        if not _CAN_POLL:
            return True
        watch = select.poll()
        watch.register(self.transport.get_extra_info("socket").fileno(), select.POLLIN)
        return not watch.poll(0)

    async def write(self, data: bytes) -> bool:
        """Pass data on and tell whether that was all of it: an answer ahead of time or the end stops it.

        No faster than it leaves, for of what waits below TLS nothing is known.
        """
        for at in range(0, len(data), _PIECE):
            while self._clogged and not self._unread and self._ended is None:
                await self._change()
            if self._unread or self._ended is not None:
                return False
            self.transport.write(data[at : at + _PIECE])
            if self.transport.is_closing():  # the system refused it; that is told later only
                return False
        return True

    async def read(self) -> bytes:
        """Return what came, at least one octet. Raises Lost when nothing will come any more."""
        while not self._unread:
            if self._ended is not None:
                raise Lost(self._ended)
            await self._change()
        data = bytes(self._unread)
        self._unread.clear()
        return data

    def abort(self, why: str = "this provider was closed") -> None:
        """Hang up at once."""
        self._end(why)
        if self._transport is not None:
            self._transport.abort()

    def taken_over(self, transport: asyncio.Transport) -> None:
        """Go on over this transport; what waits to be written is counted to the last octet."""
        self._transport = transport
        transport.set_write_buffer_limits(high=1, low=0)  # TLS would take 0 >= 0 for a full buffer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self.taken_over(cast("asyncio.Transport", transport))  # uvloop's are none by inheritance

    def data_received(self, data: bytes) -> None:
        """Keep what came for whoever reads."""
        self._unread += data
        self._wake()

    def eof_received(self) -> None:
        """Let the transport close: the other side hung up."""
        self._end("the connection was closed")

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever waits that nothing more will come."""
        self._end(f"the connection broke: {exc}" if exc else "the connection was closed")
        if not self.closed.done():
            self.closed.set_result(None)

    def pause_writing(self) -> None:
        """Note that something waits to be written."""
        self._clogged = True

    def resume_writing(self) -> None:
        """Note that all has been written."""
        self._clogged = False
        self._wake()

    async def _change(self) -> None:
        self._waiter = self._loop.create_future()
        await self._waiter

    def _end(self, why: str) -> None:
        if self._ended is None:
            self._ended = why
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
