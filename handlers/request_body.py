"""Reads a request's body, bounded in size, and parses it without trusting it.

    content = await request_body.body(scope, receive)
    envelope = request_body.decode(content, msgspec.json.Decoder(Envelope))

The time that a body may take is bounded by `ConnectionTable`. An endpoint may respond before the body has arrived:
`TrackedConnection` discards the rest, so that a client which is still writing can read the response.
"""

from typing import Any, Final, TypeVar

import msgspec
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope

from handlers.responses import ErrorResponse, RequestError

REFUSAL: Final = "mailroom.refusal"
"""In the scope: the `ErrorResponse` that the connection has sent because the body took too long or too much memory."""

LONGEST_BODY: Final = 1024 * 1024
"""Octets. Logto itself refuses bodies of 1.5 MB."""
_DEEPEST: Final = 64
"""Levels of nesting; rendering may recurse."""
_MOST_DIGITS: Final = 19
"""Of a Content-Length that is parsed; longer ones are too large already, and `int` refuses thousands of digits."""

_TOO_LARGE: Final = ErrorResponse(413, "The request is too large.")
_TOO_DEEP: Final = ErrorResponse(400, "The request is nested too deeply.")
_NOT_JSON: Final = ErrorResponse(400, "The request is not valid JSON.")
_NOT_UNDERSTOOD: Final = ErrorResponse(400, "The request does not have the expected fields.")

T = TypeVar("T")


async def body(scope: Scope, receive: Receive) -> bytes:
    """Return the request's body. Raises RequestError (408, 413, 503) or ClientDisconnect."""
    length = header(scope, b"content-length")
    if length and length.isdigit() and int(length[:_MOST_DIGITS]) > LONGEST_BODY:
        raise RequestError(_TOO_LARGE)
    chunks = []
    size = 0
    has_more = True
    while has_more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise RequestError(scope[REFUSAL]) if REFUSAL in scope else ClientDisconnect
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > LONGEST_BODY:
            raise RequestError(_TOO_LARGE)
        chunks.append(chunk)
        has_more = message.get("more_body", False)
    return b"".join(chunks)


def decode(content: bytes, decoder: "msgspec.json.Decoder[T]") -> T:
    """Parse JSON. Raises RequestError (400)."""
    try:
        return decoder.decode(content)
    except msgspec.ValidationError:
        raise RequestError(_NOT_UNDERSTOOD) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise RequestError(_NOT_JSON) from None
    except RecursionError:
        raise RequestError(_TOO_DEEP) from None


def check_depth(content: bytes, value: Any) -> None:
    """Raise RequestError (400) if the parsed `content` is nested too deeply."""
    if content.count(b"{") + content.count(b"[") <= _DEEPEST:
        return
    level = [value]
    for _ in range(_DEEPEST):
        inner = [list(item.values()) if isinstance(item, dict) else item for item in level]
        level = [item for items in inner for item in items if isinstance(item, dict | list)]
        if not level:
            return
    raise RequestError(_TOO_DEEP)


def header(scope: Scope, name: bytes) -> bytes | None:
    """Return the first header of this lower-case name."""
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value)
    return None
