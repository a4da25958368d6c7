"""However a client's packets are cut, the application sees the same requests."""

import asyncio
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.handlers.connection import Connected

TOKENS = st.sampled_from([b"a", b"email", b"early/x", b"%2e", b"x?y=z"])
BODIES = st.one_of(
    st.binary(max_size=60),
    st.sampled_from([b"", b"0\r\n\r\n", b"GET /swallowed HTTP/1.1\r\nHost: a\r\n\r\n", b"x" * 5000, b"x" * 70_000]),
)
OFFERS = st.sampled_from(
    [
        b"",
        b"",
        b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n",
        b"Upgrade: websocket\r\nConnection: Upgrade\r\n",
        b"Connection: keep-alive\r\nUpgrade: h2c\r\n",
    ]
)


@st.composite
def messages(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """Write one valid request; return it, and the body that the application should read."""
    path, body, offer = draw(TOKENS), draw(BODIES), draw(OFFERS)
    blank = b"\r\n" * draw(st.integers(0, 2))
    head = b"%b /%b HTTP/1.1\r\nHost: a\r\n%b" % (draw(st.sampled_from([b"POST", b"GET", b"PUT"])), path, offer)
    framing = draw(st.sampled_from(["none", "length", "chunked"]))
    read = b"" if path.startswith(b"early") or framing == "none" else body
    if framing == "none":
        return blank + head + b"\r\n", read
    if framing == "length":
        return blank + head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body), read
    cuts = sorted(draw(st.lists(st.integers(1, max(1, len(body))), max_size=4, unique=True)))
    edges = [0, *[cut for cut in cuts if cut < len(body)], len(body)]
    extension = draw(st.sampled_from([b"", b";a=b", b';a="b c"']))
    chunks = [body[begin:end] for begin, end in pairwise(edges) if end > begin]
    trailers = draw(st.sampled_from([b"", b"X-Forwarded-For: 192.0.2.1\r\n", b"A: b\r\nAuthorization: c\r\n"]))
    written = b"".join(b"%x%b\r\n%b\r\n" % (len(chunk), extension, chunk) for chunk in chunks)
    return blank + head + b"Transfer-Encoding: chunked\r\n\r\n" + written + b"0\r\n" + trailers + b"\r\n", read


async def seen(pieces: list[bytes]) -> Connected:
    """Return the connection after it was sent these pieces."""
    connection = Connected()
    await connection.send(*pieces)
    for _ in range(20):
        await connection.settle()
    return connection


@settings(deadline=None, max_examples=300)
@given(st.lists(messages(), min_size=1, max_size=5), st.data())
def test_the_application_sees_the_same_requests(requests: list[tuple[bytes, bytes]], data: st.DataObject) -> None:
    """All at once, one message at a time, or cut anywhere."""
    sent = [request for request, _ in requests]
    whole = b"".join(sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=30)))
    edges = [0, *cuts, len(whole)]
    pieces = [whole[begin:end] for begin, end in pairwise(edges)]
    one_by_one = asyncio.run(seen(sent))
    assert [body for _, _, _, body in one_by_one.app.requests] == [body for _, body in requests]
    for connection in (asyncio.run(seen([whole])), asyncio.run(seen(pieces))):
        assert connection.app.requests == one_by_one.app.requests
        assert connection.statuses == [200] * len(sent)
        assert not connection.end()
        assert connection.table.anonymous.octets == 0
        assert list(connection.table.idle) == [connection.protocol]
