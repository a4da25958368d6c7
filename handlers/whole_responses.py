"""Sends an answer's head together with its body. uvicorn writes them one after the other: two packets, two wake-ups."""

import asyncio
from collections.abc import Callable
from typing import Final, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_HEADS_END: Final = b"\r\n\r\n"


class WholeAnswers(HttpToolsProtocol):
    """uvicorn's HTTP, a packet for an answer."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        super().connection_made(cast("asyncio.Transport", transport))  # uvloop's are none by inheritance
        self.transport = cast("asyncio.Transport", _Joining(self.transport, self.close_transport))
        self._unjoined = cast("asyncio.Transport", transport)

    def close_transport(self) -> None:
        """Close; everything was written."""
        self._unjoined.close()


class _Joining:
    """What uvicorn uses of a transport once it is connected. A head waits for what follows in the same turn."""

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None]) -> None:
        self._transport = transport
        self._close = close
        self._head = b""
        self.is_closing = transport.is_closing
        self.set_protocol = transport.set_protocol

    def write(self, data: bytes) -> None:
        if self._head:
            data, self._head = self._head + data, b""
        elif data.endswith(_HEADS_END):
            self._head = data
            asyncio.get_running_loop().call_soon(self._flush)  # nothing may follow: an answer to HEAD, "100 Continue"
            return
        self._transport.write(data)

    def close(self) -> None:
        self._flush()
        self._close()

    def _flush(self) -> None:
        if self._head and not self._transport.is_closing():
            self._transport.write(self._head)
        self._head = b""
