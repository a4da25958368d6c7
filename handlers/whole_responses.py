"""Writes the head of a response together with its body; uvicorn writes them one after the other.

Measured by bench row a: 7 % more CPU a request without it.
"""

import asyncio
from collections.abc import Callable
from typing import Final

_END_OF_HEAD: Final = b"\r\n\r\n"


class WholeResponses:
    """What uvicorn uses of a transport. A head is written with what follows in the same iteration of the loop."""

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None]) -> None:
        self._transport = transport
        self._close = close
        self._head = b""
        self.is_closing = transport.is_closing
        self.set_protocol = transport.set_protocol

    def write(self, data: bytes) -> None:
        """Write, or keep a head for now."""
        if self._head:
            data, self._head = self._head + data, b""
        elif data.endswith(_END_OF_HEAD):
            self._head = data
            asyncio.get_running_loop().call_soon(self._flush)  # a response to HEAD, or "100 Continue", has no body
            return
        self._transport.write(data)

    def close(self) -> None:
        """Write the head if there is one, and close."""
        self._flush()
        self._close()

    def _flush(self) -> None:
        if self._head and not self._transport.is_closing():
            self._transport.write(self._head)
        self._head = b""
