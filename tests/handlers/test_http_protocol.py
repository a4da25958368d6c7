"""What a client may send before and after its request is parsed: bytes in, bytes out."""

import asyncio
import logging

import pytest

from handlers.auth import AUTHORIZED
from handlers.connection_table import MOST_HELD
from handlers.http_protocol import LARGEST_HEAD, MOST_LINES
from handlers.request_body import REFUSAL
from tests.handlers.connection import Connected

POST = b"POST /%b HTTP/1.1\r\nHost: a\r\n%b\r\n"
GET = b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n"
SWALLOWED = b"GET /livez HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n"
OFFERS = {
    "h2c": b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n",
    "websocket": b"Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: eA==\r\n",
    "nonsense": b"Upgrade: nonsense\r\nConnection: upgrade\r\n",
}
FRAMINGS = {
    "length": (b"Content-Length: %d\r\n" % len(SWALLOWED), SWALLOWED),
    "chunked": (b"Transfer-Encoding: chunked\r\n", b"%x\r\n%b\r\n0\r\n\r\n" % (len(SWALLOWED), SWALLOWED)),
}


def paths(connection: Connected) -> list[str]:
    """Return the paths of the requests."""
    return [path for _, path, _, _ in connection.app.requests]


class TestUpgrade:
    """RFC 9110 §7.8: a server may ignore the offer, and the request is a request like any other."""

    @pytest.mark.parametrize("framing", FRAMINGS)
    @pytest.mark.parametrize("offer", OFFERS)
    @pytest.mark.parametrize("size", [1, 7, 100_000])
    async def test_the_body_is_read_as_a_body(self, offer: str, framing: str, size: int) -> None:
        """In one piece or many; what looks like a request in it is none, and what follows it is one."""
        lines, body = FRAMINGS[framing]
        sent = POST % (b"a", OFFERS[offer] + lines) + body + GET % b"b"
        connection = Connected()
        await connection.send(*(sent[begin : begin + size] for begin in range(0, len(sent), size)))
        assert [(path, body) for _, path, _, body in connection.app.requests] == [("/a", SWALLOWED), ("/b", b"")]
        assert connection.statuses == [200, 200]
        assert b"switching" not in connection.written.lower()

    @pytest.mark.parametrize("framing", FRAMINGS)
    async def test_a_body_that_comes_later_is_read_as_a_body(self, framing: str) -> None:
        """Found through Caddy: the body in packets of its own, after empty lines."""
        lines, body = FRAMINGS[framing]
        connection = Connected()
        await connection.send(b"\r\n\r\n" + POST % (b"a", OFFERS["h2c"] + lines), body[:9], body[9:], GET % b"b")
        assert paths(connection) == ["/a", "/b"]

    async def test_an_offer_without_a_body_is_answered(self) -> None:
        """As Java's client sends it with its first GET."""
        connection = Connected()
        offer = b"GET /a HTTP/1.1\r\nHost: a\r\n" + OFFERS["h2c"] + b"\r\n"
        await connection.send(offer + offer + GET % b"b", offer)
        assert paths(connection) == ["/a", "/a", "/b", "/a"]
        assert connection.statuses == [200] * 4

    async def test_the_body_of_a_request_that_was_answered_early_is_not_a_request(self) -> None:
        connection = Connected()
        head = POST % (b"early", OFFERS["h2c"] + FRAMINGS["length"][0])
        await connection.send(head, SWALLOWED, GET % b"b")
        assert paths(connection) == ["/early", "/b"]

    @pytest.mark.parametrize("lines", [b"Transfer-Encoding: gzip\r\n", b"Transfer-Encoding: chunked, identity\r\n"])
    async def test_a_body_whose_end_is_unknown_is_refused(self, lines: bytes) -> None:
        connection = Connected()
        await connection.send(POST % (b"a", OFFERS["h2c"] + lines) + SWALLOWED)
        assert connection.statuses == [400]
        assert not connection.app.requests

    async def test_connect_is_refused(self) -> None:
        """There are no tunnels, and the octets that follow are not parsed."""
        for target in (b"a:443", b"/", b"http://a/"):
            connection = Connected()
            await connection.send(b"CONNECT %b HTTP/1.1\r\nHost: a\r\n\r\n" % target, SWALLOWED)
            assert connection.statuses == [400]
            assert not connection.app.requests


HEAD = b"POST /a HTTP/1.1\r\nHost: a\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
MALFORMED = {
    "length before chunked": HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked before length": HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "two lengths": HEAD + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "two different lengths": HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "a list of lengths": HEAD + b"Content-Length: 5, 5\r\n\r\nhello",
    "a positive sign": HEAD + b"Content-Length: +5\r\n\r\nhello",
    "a negative sign": HEAD + b"Content-Length: -5\r\n\r\nhello",
    "a hexadecimal length": HEAD + b"Content-Length: 0x5\r\n\r\nhello",
    "an overflowing length": HEAD + b"Content-Length: 18446744073709551621\r\n\r\nhello",
    "no length": HEAD + b"Content-Length:\r\n\r\nhello",
    "a space before the colon": HEAD + b"Content-Length : 5\r\n\r\nhello",
    "another coding": HEAD + b"Transfer-Encoding: gzip\r\n\r\n0\r\n\r\n",
    "chunked is not last": HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "a coding that resembles chunked": HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "bare LF in the request line": b"GET /a HTTP/1.1\nHost: a\r\n\r\n",
    "bare LF in a header": b"GET /a HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
    "bare LF at the end": b"GET /a HTTP/1.1\r\nHost: a\r\n\n",
    "bare CR in a header": b"GET /a HTTP/1.1\r\nHost: a\rX: b\r\n\r\n",
    "NUL in a name": b"GET /a HTTP/1.1\r\nHo\0st: a\r\n\r\n",
    "NUL in a value": b"GET /a HTTP/1.1\r\nHost: a\0\r\n\r\n",
    "NUL in the target": b"GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n",
    "obs-fold": b"GET /a HTTP/1.1\r\nHost: a\r\n b\r\n\r\n",
    "obs-fold before the first header": b"GET /a HTTP/1.1\r\n Host: a\r\n\r\n",
    "no colon": b"GET /a HTTP/1.1\r\nHost\r\n\r\n",
    "no name": b"GET /a HTTP/1.1\r\n: a\r\n\r\n",
    "another protocol": b"GET /a HTTPS/1.1\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a chunk size with a sign": CHUNKED + b"+5\r\nhello\r\n0\r\n\r\n",
    "a chunk size of 17 digits": CHUNKED + b"10000000000000005\r\nhello\r\n0\r\n\r\n",
    "no chunk size": CHUNKED + b"\r\nhello\r\n0\r\n\r\n",
    "bare LF after a chunk size": CHUNKED + b"5\nhello\r\n0\r\n\r\n",
    "a chunk that is longer than it says": CHUNKED + b"4\r\nhello\r\n0\r\n\r\n",
}


class TestMalformed:
    """Two parsers that read these differently would disagree where the next request begins (RFC 9112 §11.2)."""

    @pytest.mark.parametrize("size", [1, 100_000])
    @pytest.mark.parametrize("name", MALFORMED)
    async def test_it_is_a_400_and_nothing_more_is_parsed(self, name: str, size: int) -> None:
        """Whether it comes at once or in single octets."""
        sent = MALFORMED[name] + SWALLOWED
        connection = Connected()
        await connection.send(*(sent[begin : begin + size] for begin in range(0, len(sent), size)))
        assert connection.statuses == [400]
        assert b"\r\nconnection: close\r\n" in connection.written
        assert connection.end() == "half-closed"
        assert not connection.app.requests

    async def test_requests_before_it_are_answered_first(self) -> None:
        """Otherwise the 400 would be taken for the response to a mail."""
        connection = Connected()
        connection.app.may_respond.clear()
        await connection.send(GET % b"a" + GET % b"b" + b"nonsense\r\n\r\n" + GET % b"c")
        assert connection.statuses == []
        connection.app.may_respond.set()
        await connection.settle()
        assert connection.statuses == [200, 200, 400]
        assert paths(connection) == ["/a", "/b"]
        assert connection.end() == "half-closed"

    async def test_a_malformed_body_of_a_queued_request_is_refused_after_the_requests_before_it(self) -> None:
        connection = Connected()
        connection.app.may_respond.clear()
        await connection.send(GET % b"a" + CHUNKED + b"zzz\r\n" + GET % b"c")
        connection.app.may_respond.set()
        await connection.settle()
        assert connection.statuses == [200, 400]
        assert paths(connection) == ["/a"]

    async def test_after_an_early_response_there_is_no_second_one(self) -> None:
        connection = Connected()
        await connection.send(POST % (b"early", b"Transfer-Encoding: chunked\r\n"), b"zzz\r\n")
        assert connection.statuses == [200]
        assert connection.end() == "half-closed"


class TestSize:
    """Octets and lines of a message that are not its body."""

    async def test_the_largest_allowed_head_is_accepted(self) -> None:
        connection = Connected()
        padding = b"".join(b"X-%02d: %b\r\n" % (n, b"y" * 318) for n in range(MOST_LINES - 1))
        head = POST % (b"a", padding)
        assert LARGEST_HEAD - 500 < len(head) < LARGEST_HEAD
        await connection.send(head, head)
        assert connection.statuses == [200, 200]

    @pytest.mark.parametrize("size", [500, 40_000, 1_000_000])
    @pytest.mark.parametrize(
        ("begin", "rest", "status"),
        [
            (b"GET /", b"x", 414),
            (b"GET /?", b"x=1&", 414),
            (b"GET / HTTP/1.1\r\n", b"X: y\r\n", 431),
            (b"GET / HTTP/1.1\r\nX: ", b"y", 431),
            (b"GET / HTTP/1.1\r\nX:", b" ", 431),
            (b"GET / HTTP/1.1\r\n", b"y", 431),
            (b"", b"\r\n", 431),
            (CHUNKED + b"5;a=", b"b", 431),
            (CHUNKED + b"0\r\n", b"X: y\r\n", 431),
            (CHUNKED + b"0\r\nX: ", b"y", 431),
            (POST % (b"a", OFFERS["h2c"] + b"Transfer-Encoding: chunked\r\n") + b"0\r\nX: ", b"y", 431),
        ],
    )
    async def test_an_endless_head_is_refused(self, begin: bytes, rest: bytes, status: int, size: int) -> None:
        """In small packets or large ones; nothing is kept of what comes after."""
        connection = Connected()
        piece = rest * (size // len(rest))
        await connection.send(begin + piece, *[piece] * (100_000 // size))
        assert connection.statuses == [status]
        assert connection.end() == "half-closed"
        assert not connection.app.requests
        assert connection.table.anonymous.octets == 0

    @pytest.mark.parametrize("end", [b"\r\n", b"\r\n" + SWALLOWED])
    async def test_a_head_that_is_whole_in_one_packet_is_counted_too(self, end: bytes) -> None:
        connection = Connected()
        await connection.send(b"GET /a HTTP/1.1\r\nX: %b\r\n" % (b"y" * LARGEST_HEAD) + end)
        assert connection.statuses == [431]
        connection = Connected()
        await connection.send(b"GET /%b HTTP/1.1\r\nX: y\r\n" % (b"y" * LARGEST_HEAD) + end)
        assert connection.statuses == [414]

    @pytest.mark.parametrize("trailers", [0, 50, MOST_LINES - 2])
    async def test_lines_are_counted_with_the_trailers(self, trailers: int) -> None:
        lines = b"Transfer-Encoding: chunked\r\n" + b"X: y\r\n" * (MOST_LINES - 2 - trailers)
        for count, status in ((trailers, 200), (trailers + 1, 431)):
            connection = Connected()
            await connection.send(POST % (b"a", lines) + b"0\r\n" + b"T: u\r\n" * count + b"\r\n")
            assert connection.statuses == [status]

    async def test_bodies_are_not_counted(self) -> None:
        """Nor are the sizes of chunks, be they as small as they like."""
        body = b"x" * 300_000
        chunks = b"1\r\nx\r\n" * 50_000 + b"0\r\n\r\n"
        framings = (b"Content-Length: 300000\r\n", body, 300_000), (b"Transfer-Encoding: chunked\r\n", chunks, 50_000)
        for framing, sent, size in framings:
            connection = Connected()
            await connection.send(POST % (b"a", framing) + sent[:50_000], sent[50_000:] + GET % b"b")
            assert connection.statuses == [200, 200]
            assert len(connection.app.requests[0][3]) == size
            assert not connection.transport.paused

    async def test_octets_after_a_refusal_are_discarded_up_to_a_bound(self) -> None:
        """A client that still writes could not read the response if we closed at once (RFC 9112 §9.6)."""
        connection = Connected()
        await connection.send(b"nonsense\r\n\r\n", *[b"x" * 256_000] * 10)
        assert not connection.transport.closed
        await connection.send(*[b"x" * 256_000] * 10)
        assert connection.transport.paused
        connection.pass_seconds(10)
        assert connection.end() == "aborted"


class TestTrailers:
    """RFC 9110 §6.5.1: a trailer must not be merged into the headers unless its definition allows it."""

    @pytest.mark.parametrize("offer", [b"", OFFERS["h2c"]])
    @pytest.mark.parametrize("size", [1, 100_000])
    async def test_they_are_dropped(self, offer: bytes, size: int) -> None:
        sent = (
            POST % (b"a", offer + b"Transfer-Encoding: chunked\r\nTrailer: Authorization\r\n")
            + b"2\r\n{}\r\n0\r\nAuthorization: Bearer x\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n"
        )
        connection = Connected()
        await connection.send(*((sent * 2)[begin : begin + size] for begin in range(0, 2 * len(sent), size)))
        assert len(connection.app.requests) == 2
        for _, _, headers, body in connection.app.requests:
            assert {name for name, _ in headers} <= {
                b"host", b"connection", b"upgrade", b"http2-settings", b"transfer-encoding", b"trailer",
            }  # fmt: skip
            assert body == b"{}"


class TestOrdinary:
    """Ordinary requests and responses."""

    async def test_pipelined_requests_are_answered_in_order(self) -> None:
        connection = Connected()
        connection.app.may_respond.clear()
        mail = POST % (b"%d", b"Content-Length: 2\r\n") + b"{}"
        await connection.send(b"".join(mail.replace(b"%d", b"%d" % n) for n in range(50)))
        connection.app.may_respond.set()
        for _ in range(50):
            await connection.settle()
        assert paths(connection) == [f"/{n}" for n in range(50)]
        assert connection.statuses == [200] * 50
        assert not connection.transport.paused

    async def test_100_continue_is_sent_to_a_client_that_waits(self) -> None:
        connection = Connected()
        await connection.send(POST % (b"a", b"Content-Length: 2\r\nExpect: 100-continue\r\n"))
        assert connection.written == b"HTTP/1.1 100 Continue\r\n\r\n"
        await connection.send(b"{}")
        assert connection.statuses == [100, 200]

    async def test_100_continue_is_not_sent_after_a_refusal(self) -> None:
        connection = Connected()
        head = POST % (b"a", b"Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n")
        await connection.send(head + b"zzz\r\n")
        assert connection.statuses == [400]

    async def test_http_1_0(self) -> None:
        connection = Connected()
        await connection.send(b"POST /a HTTP/1.0\r\nContent-Length: 2\r\n\r\n{}")
        assert connection.statuses == [200]
        assert connection.end() == "closed"

    async def test_an_early_response_that_closes_the_connection_can_be_read(self) -> None:
        """The rest of the body is read; closed at once, the client would meet a reset."""
        connection = Connected()
        await connection.send(POST % (b"early", b"Connection: close\r\nContent-Length: 500000\r\n"))
        assert connection.statuses == [200]
        assert connection.end() == "half-closed"
        await connection.send(*[b"x" * 100_000] * 5)
        assert not connection.transport.closed

    async def test_after_an_early_response_no_body_is_held(self) -> None:
        connection = Connected()
        await connection.send(POST % (b"early", b"Content-Length: 500000\r\n") + b"x" * 200_000)
        assert connection.statuses == [200]
        assert not connection.protocol.cycle.body

    async def test_after_an_early_response_the_connection_can_be_used_again(self) -> None:
        connection = Connected()
        await connection.send(POST % (b"early", b"Content-Length: 6\r\n") + b"one", b"two" + GET % b"b")
        assert paths(connection) == ["/early", "/b"]
        assert not connection.table.closing

    async def test_an_exception_of_the_application_is_a_500(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.CRITICAL, "uvicorn.error")
        connection = Connected()

        async def broken(*_: object) -> None:
            raise RuntimeError

        connection.protocol.app = broken
        await connection.send(GET % b"a")
        assert connection.statuses == [500]


class TestTime:
    """Deadlines, in seconds of the server's own clock."""

    async def test_a_silent_connection_is_closed_without_a_response(self) -> None:
        connection = Connected()
        connection.pass_seconds(9)
        assert not connection.transport.closed
        connection.pass_seconds(1)
        assert connection.end() == "closed"
        assert connection.written == b""

    async def test_a_head_that_takes_longer_than_ten_seconds_is_a_408(self) -> None:
        connection = Connected()
        for octet in b"GET / HTTP":
            await connection.send(bytes([octet]))
            connection.pass_seconds(1)
        assert connection.statuses == [408]
        assert connection.end() == "half-closed"
        await connection.send(b"/1.1\r\n\r\n")
        assert not connection.app.requests
        connection.pass_seconds(10)
        assert connection.end() == "aborted"

    async def test_the_next_head_has_ten_seconds_of_its_own(self) -> None:
        connection = Connected()
        connection.pass_seconds(9)
        await connection.send(GET % b"a")
        connection.pass_seconds(60)
        await connection.send(b"GET /")
        connection.pass_seconds(9)
        assert not connection.end()
        connection.pass_seconds(1)
        assert connection.statuses == [200, 408]

    async def test_an_idle_connection_is_closed_after_75_seconds(self) -> None:
        connection = Connected()
        await connection.send(GET % b"a")
        connection.pass_seconds(74)
        await connection.send(GET % b"a")
        connection.pass_seconds(74)
        assert not connection.transport.closed
        await connection.send(b"\r\n")  # is no request
        connection.pass_seconds(1)
        assert connection.end() == "closed"
        assert connection.statuses == [200, 200]

    async def test_a_body_that_takes_longer_than_ten_seconds_is_a_408(self) -> None:
        connection = Connected()
        await connection.send(POST % (b"a", b"Content-Length: 9\r\n"))
        scope = connection.protocol.scope
        connection.pass_seconds(9)
        assert not connection.written
        connection.pass_seconds(1)
        await connection.settle()
        assert connection.statuses == [408]
        assert connection.app.disconnects == 1
        assert scope[REFUSAL].status == 408  # type: ignore[typeddict-item]  # a key of ours

    async def test_a_body_after_its_response_is_bounded_in_time(self) -> None:
        connection = Connected()
        await connection.send(POST % (b"early", b"Content-Length: 99\r\n"))
        for _ in range(10):
            await connection.send(b"x")
            connection.pass_seconds(1)
        assert connection.end() == "aborted"
        assert connection.statuses == [200]

    async def test_a_request_that_is_being_served_has_no_deadline(self) -> None:
        connection = Connected()
        connection.app.may_respond.clear()
        await connection.send(GET % b"a")
        connection.pass_seconds(100)
        connection.app.may_respond.set()
        await connection.settle()
        assert connection.statuses == [200]

    async def test_a_request_has_no_deadline_while_the_server_does_not_read(self) -> None:
        """A queued request waits for the one before it."""
        connection = Connected()
        connection.app.may_respond.clear()
        await connection.send(GET % b"a" + POST % (b"b", b"Content-Length: 70001\r\n"), b"x" * 70_000)
        assert connection.transport.paused
        connection.pass_seconds(60)
        connection.app.may_respond.set()
        await connection.settle()
        await connection.send(b"x")
        assert connection.statuses == [200, 200]

    async def test_a_client_that_does_not_read_is_disconnected(self) -> None:
        connection = Connected()
        connection.protocol.pause_writing()
        await connection.send(GET % b"a", b"\r\n")
        connection.pass_seconds(9)
        connection.protocol.resume_writing()
        await connection.settle()
        connection.protocol.pause_writing()
        connection.pass_seconds(9)
        assert not connection.transport.closed
        connection.pass_seconds(1)
        assert connection.end() == "aborted"

    async def test_the_time_of_a_stopped_process_does_not_count(self) -> None:
        """Octets may be unread; a connection that is closed before they are read is reset."""
        connection = Connected()
        connection.table.sweep(60)
        assert not connection.transport.closed


class TestMemory:
    """Octets of unfinished requests, of all connections together."""

    async def test_beyond_the_bound_the_longest_unfinished_is_refused(self) -> None:
        first = Connected()
        others = [Connected(first) for _ in range(30)]
        head = POST % (b"a", b"Content-Length: 1000000\r\n")
        for connection in (first, *others):
            await connection.send(head, *[b"x" * 100_000] * 9)
            connection.pass_seconds(1) if connection is first else None
            assert first.table.anonymous.octets <= MOST_HELD
        refused = [connection for connection in (first, *others) if connection.statuses]
        assert refused == [first, *others[: len(refused) - 1]]
        assert all(connection.statuses == [503] for connection in refused)
        assert b"\r\nretry-after: 5\r\n" in first.written
        assert first.app.disconnects == len(refused)
        await first.send(b"x" * 99_999)
        assert not first.transport.closed
        await others[-1].send(b"x" * 100_000)
        assert others[-1].statuses == [200]
        text = first.metrics.text()
        assert b'mailroom_connections_evicted_total{reason="memory"} %d.0' % len(refused) in text

    async def test_64_mails_of_300_kb_in_one_iteration_of_the_loop_are_accepted(self) -> None:
        """Before the application has checked the authorization of any."""
        first = Connected()
        connections = [first, *(Connected(first) for _ in range(63))]
        for connection in connections:
            connection.protocol.data_received(POST % (b"email", b"Content-Length: 300000\r\n") + b"x" * 300_000)
        for _ in range(10):
            await first.settle()
        assert [connection.statuses for connection in connections] == [[200]] * 64
        assert first.table.anonymous.octets == 0

    async def test_a_body_with_logtos_authorization_is_not_shed_for_others(self) -> None:
        first = Connected()
        await first.send(POST % (b"email", b"Content-Length: 2\r\n"))
        first.protocol.scope[AUTHORIZED] = True  # type: ignore[typeddict-unknown-key]  # as the endpoint does
        others = [Connected(first) for _ in range(40)]
        for connection in others:
            await connection.send(POST % (b"a", b"Content-Length: 1000000\r\n"), *[b"x" * 100_000] * 9)
        await first.send(b"{}")
        assert first.statuses == [200]
        assert sum(connection.statuses == [503] for connection in others) > 10

    async def test_a_new_body_is_accepted_while_others_use_the_whole_budget(self) -> None:
        first = Connected()
        for _ in range(40):
            await Connected(first).send(POST % (b"a", b"Content-Length: 1000000\r\n"), *[b"x" * 100_000] * 9)
        large = [Connected(first) for _ in range(64)]
        for connection in large:
            await connection.send(POST % (b"email", b"Content-Length: 300000\r\n"))
            connection.protocol.scope[AUTHORIZED] = True  # type: ignore[typeddict-unknown-key]  # as the endpoint does
            await connection.send(b"x" * 150_000, b"x" * 149_999)
        for connection in large:
            await connection.send(b"x")
        assert [connection.statuses for connection in large] == [[200]] * 64
        mail = Connected(first)
        await mail.send(POST % (b"a", b"Content-Length: 300000\r\n"), *[b"x" * 100_000] * 3)
        assert mail.statuses == [200]

    async def test_incomplete_heads_count(self) -> None:
        first = Connected()
        others = [Connected(first) for _ in range(800)]
        for connection in others:
            await connection.send(b"GET / HTTP/1.1\r\nX: " + b"y" * 32_000)
        assert first.table.anonymous.octets <= MOST_HELD
        assert sum(connection.statuses == [503] for connection in others) > 50
        assert not first.end()  # it holds nothing

    async def test_requests_that_wait_behind_another_count(self) -> None:
        """With a response that is not read, or not ready, in front."""
        first = Connected()
        first.app.may_respond.clear()
        connections = [first, *(Connected(first) for _ in range(3))]
        for connection in connections:
            await connection.send(GET % b"a" + (GET % b"b") * 1000)
        assert first.table.anonymous.octets <= 1.5 * MOST_HELD
        first.app.may_respond.set()
        for _ in range(600):
            await connections[-1].settle()
        assert connections[0].statuses == [200] * 1001
        assert connections[-1].statuses == [200, 503]

    async def test_lost_and_answered_requests_count_no_longer(self) -> None:
        connection, other = Connected(), Connected()
        await connection.send(POST % (b"a", b"Content-Length: 1000000\r\n"), b"x" * 500_000)
        assert connection.table.anonymous.octets > 500_000
        connection.lose()
        assert connection.table.anonymous.octets == 0
        await other.send(POST % (b"a", b"Content-Length: 5\r\n") + b"one", b"tw")
        assert other.table.anonymous.octets == 0
        assert asyncio.all_tasks() == {asyncio.current_task()}
