"""Answers: short, plain, and without internals, because Logto shows error bodies to its end users word for word."""

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
    """May be read by anybody."""
    headers: tuple[tuple[bytes, bytes], ...] = ()


class RequestError(Exception):
    """The request gets this refusal for an answer. Raised anew each time: an exception keeps the frames it passed."""

    def __init__(self, refusal: ErrorResponse) -> None:
        super().__init__(refusal.sentence)
        self.refusal = refusal


OUTBOX_UNAVAILABLE: Final = ErrorResponse(
    503, "The mail server cannot take messages at the moment. Please try again.", ((b"retry-after", b"5"),)
)


async def send_error(send: Send, refusal: ErrorResponse) -> None:
    """Answer with an error."""
    await _send(send, refusal.status, refusal.sentence.encode(), _TEXT, *refusal.headers)


async def send_json(send: Send, content: bytes) -> None:
    """Answer 200 with this JSON."""
    await _send(send, 200, content, _JSON)


def closing_response(refusal: ErrorResponse, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the octets of an HTTP/1.1 response that ends a connection, with these headers beside the refusal's own."""
    content = refusal.sentence.encode()
    length = (b"content-length", str(len(content)).encode())
    lines = dict.fromkeys((*headers, _TEXT, *refusal.headers, length, (b"connection", b"close")))
    head = b"".join(b"%b: %b\r\n" % line for line in lines)
    phrase = HTTPStatus(refusal.status).phrase.encode()
    return b"HTTP/1.1 %d %b\r\n%b\r\n%b" % (refusal.status, phrase, head, content)


async def _send(send: Send, status: int, content: bytes, *headers: tuple[bytes, bytes]) -> None:
    length = (b"content-length", str(len(content)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": content})
