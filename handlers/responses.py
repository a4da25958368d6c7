"""Writes responses. Logto shows the bodies of errors to its end users: they are short, plain, and without internals."""

from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from starlette.types import Send

_TEXT: Final = (b"content-type", b"text/plain; charset=utf-8")
_JSON: Final = (b"content-type", b"application/json")


@dataclass(frozen=True, slots=True)
class ErrorResponse:
    """An error response."""

    status: int
    sentence: str
    headers: tuple[tuple[bytes, bytes], ...] = ()


class RequestError(Exception):
    """The request is refused with this response. Raised anew each time: an exception keeps the frames it passed."""

    def __init__(self, response: ErrorResponse) -> None:
        super().__init__(response.sentence)
        self.response = response


async def send_error(send: Send, error: ErrorResponse) -> None:
    """Respond with an error."""
    await _send(send, error.status, error.sentence.encode(), _TEXT, *error.headers)


async def send_json(send: Send, content: bytes) -> None:
    """Respond 200 with this JSON."""
    await _send(send, 200, content, _JSON)


def closing_response(error: ErrorResponse, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the octets of an HTTP/1.1 response that ends a connection, with these headers beside the error's own."""
    content = error.sentence.encode()
    length = (b"content-length", str(len(content)).encode())
    lines = dict.fromkeys((*headers, _TEXT, *error.headers, length, (b"connection", b"close")))
    head = b"".join(b"%b: %b\r\n" % line for line in lines)
    phrase = HTTPStatus(error.status).phrase.encode()
    return b"HTTP/1.1 %d %b\r\n%b\r\n%b" % (error.status, phrase, head, content)


async def _send(send: Send, status: int, content: bytes, *headers: tuple[bytes, bytes]) -> None:
    length = (b"content-length", str(len(content)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": content})
