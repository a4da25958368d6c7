"""A mail by DATA, with and without PIPELINING, recorded by a server that sees every write."""

import asyncio
import re
from collections.abc import Callable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailroom.smtpclient import ConnectionLost, NotOffered, Progress, ReplyError, SmtpError, TimedOut, TooLarge, pool
from mailroom.smtpclient.transactions import dot_stuff
from tests.smtpclient.pools import CONTENT, mail, pool_of
from tests.wire_server import EHLO, HANG_UP, WireServer, wire_server

NO_PIPELINING = {"EHLO": "\r\n".join(line for line in EHLO if "PIPELINING" not in line)}
BOTH_WAYS = pytest.mark.parametrize("ehlo", [{}, NO_PIPELINING], ids=["pipelined", "step by step"])
NO_REPLIES = [HANG_UP, "421 4.3.2 closing", "what?", "250-no\r\n" * 9000]


async def refused(replies: Mapping[str, str]) -> tuple[WireServer, ReplyError]:
    """Send one mail that is refused, then a second one that is accepted."""
    async with wire_server(replies) as server, pool_of(server) as sender:
        with pytest.raises(ReplyError) as caught:
            await sender.send(mail())
        for verb in replies.keys() - {"EHLO"}:
            server.answers[verb] = "250 2.0.0 Ok" if verb != "DATA" else "354 go ahead"
        await sender.send(mail())
    return server, caught.value


async def test_mail_rcpt_and_data_are_one_write() -> None:
    async with wire_server() as server:
        async with pool_of(server) as sender:
            await sender.send(mail())
            await sender.send(mail())
        envelope = (
            f"MAIL FROM:<no-reply@acme.example> SIZE={len(CONTENT)}\r\nRCPT TO:<ada@reader.example>\r\nDATA\r\n"
        ).encode()
        content = CONTENT + b".\r\n"
        assert server.writes[1:5] == [envelope, content, envelope, content]


async def test_without_pipelining_every_command_is_sent_after_a_reply() -> None:
    async with wire_server(NO_PIPELINING) as server:
        async with pool_of(server) as sender:
            await sender.send(mail())
        assert [write[:4] for write in server.writes[1:4]] == [b"MAIL", b"RCPT", b"DATA"]
        assert server.verbs == ["EHLO", "MAIL", "RCPT", "DATA", "CONTENT", "QUIT"]


@BOTH_WAYS
async def test_replies_that_arrive_octet_by_octet_are_parsed(ehlo: Mapping[str, str]) -> None:
    replies = {**ehlo, "RCPT": "250-2.1.5 Ok\r\n250 2.1.5 really"}
    async with wire_server(replies, piecemeal=True) as server, pool_of(server) as sender:
        assert (await sender.send(mail())).text == "2.0.0 Ok: queued as WIRE01"


@BOTH_WAYS
@pytest.mark.parametrize(
    ("verb", "reply"),
    [
        ("MAIL", "550 5.7.1 not you"),
        ("RCPT", "550 5.1.1 no such user"),
        ("RCPT", "450 4.2.0 greylisted"),
        ("DATA", "451 4.3.0 not now"),
        ("CONTENT", "554 5.6.0 we do not like it"),
    ],
)
async def test_after_a_refusal_the_connection_is_reused(ehlo: Mapping[str, str], verb: str, reply: str) -> None:
    server, error = await refused({**ehlo, verb: reply})
    assert (error.command.upper(), f"{error.code} {error.text}", error.handed_over) == (verb, reply, False)
    assert error.enhanced_code == reply[4:9]
    assert server.connections == 1
    assert "RSET" in server.verbs, "the refused transaction must not leak into the next"


async def test_without_pipelining_nothing_is_sent_after_a_refused_command() -> None:
    server, _ = await refused({**NO_PIPELINING, "MAIL": "550 5.7.1 not you"})
    assert server.verbs[:3] == ["EHLO", "MAIL", "RSET"]


@BOTH_WAYS
async def test_after_a_refused_rset_the_mail_is_sent_over_a_new_connection(ehlo: Mapping[str, str]) -> None:
    async with wire_server({**ehlo, "RSET": "502 5.5.1 never heard of it"}) as server:
        async with pool_of(server) as sender:
            server.once["RCPT"] = "550 5.1.1 no such user"
            with pytest.raises(ReplyError):
                await sender.send(mail())
            await sender.send(mail())
        assert (server.connections, server.verbs.count("CONTENT")) == (2, 1)


async def test_a_354_without_recipients_is_answered_by_a_lone_dot() -> None:
    """RFC 2920 §3.1; the connection stays usable."""
    server, error = await refused({"RCPT": "550 5.1.1 no such user", "DATA": "354 go ahead anyway"})
    assert error.enhanced_code == "5.1.1"
    assert server.connections == 1
    assert server.lines[4] == b".\r\n"
    commands = ["MAIL", "RCPT", "DATA", "CONTENT"]
    assert server.verbs == ["EHLO", *commands, "RSET", *commands, "QUIT"]


async def test_a_server_that_sends_354_after_refusing_the_sender_gets_no_empty_mail() -> None:
    server, error = await refused({"MAIL": "550 5.7.1 not you", "DATA": "354 go ahead anyway"})
    assert error.command == "MAIL"
    assert server.connections == 2
    assert server.lines.count(b".\r\n") == 0


@pytest.mark.parametrize("later", [HANG_UP, "no SMTP", "421 4.3.2 closing"])
async def test_a_refusal_counts_although_the_connection_is_lost_afterwards(later: str) -> None:
    _, error = await refused({"RCPT": "550 5.1.1 no such user", "DATA": later})
    assert (error.code, error.enhanced_code) == (550, "5.1.1")


@pytest.mark.parametrize("offers", ["", "250-CHUNKING\r\n"], ids=["DATA", "BDAT"])
async def test_a_refusal_counts_without_the_later_replies(
    monkeypatch: pytest.MonkeyPatch, pass_time: Callable[[float], None], offers: str
) -> None:
    progress = Progress()
    monkeypatch.setattr(pool, "Progress", lambda _: progress)
    replies = {"EHLO": f"250-wire.test\r\n{offers}250 PIPELINING", "RCPT": "550 5.1.1 no such user\r\n250-wait"}
    async with wire_server(replies) as server, pool_of(server) as sender:
        sending = asyncio.create_task(sender.send(mail()))
        while progress.refusal is None:  # noqa: ASYNC110 - it is the library's own object
            await asyncio.sleep(0)
        pass_time(60)
        with pytest.raises(ReplyError, match="no such user"):
            await sending


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA"])
@pytest.mark.parametrize("reply", NO_REPLIES)
async def test_an_idle_connection_that_ends_before_the_hand_over_is_replaced(verb: str, reply: str) -> None:
    async with wire_server() as server:
        async with pool_of(server) as sender:
            await sender.send(mail())
            server.once[verb] = reply
            await sender.send(mail())
        assert server.connections == 2
        assert server.verbs.count("CONTENT") == 2


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA"])
@pytest.mark.parametrize("reply", NO_REPLIES)
async def test_a_new_connection_that_ends_before_the_hand_over_is_not_replaced(verb: str, reply: str) -> None:
    async with wire_server({verb: reply}) as server:
        async with pool_of(server) as sender:
            with pytest.raises(SmtpError) as caught:
                await sender.send(mail())
            assert isinstance(caught.value, ConnectionLost | ReplyError)
            assert (caught.value.command, caught.value.handed_over) == (verb, False)
        assert server.connections == 1


@pytest.mark.parametrize("reply", [HANG_UP, "what?"])
async def test_a_connection_lost_after_the_hand_over_may_have_sent_the_mail(reply: str) -> None:
    async with wire_server({"CONTENT": reply}) as server, pool_of(server) as sender:
        with pytest.raises(ConnectionLost) as caught:
            await sender.send(mail())
        assert caught.value.handed_over


@pytest.mark.parametrize("reply", ["421 4.3.2 closing", "354 more?"])
async def test_a_refused_content_was_not_handed_over(reply: str) -> None:
    async with wire_server({"CONTENT": reply}) as server, pool_of(server) as sender:
        with pytest.raises(ReplyError) as caught:
            await sender.send(mail())
        assert (caught.value.command, caught.value.handed_over) == ("content", False)


async def test_an_unexpected_reply_is_not_read_as_the_next_reply() -> None:
    async with wire_server() as server:
        async with pool_of(server) as sender:
            await sender.send(mail())
            (connection,) = server.live
            connection.transport.write(b"250 2.0.0 you did not ask\r\n")
            await server.until(lambda: not server.live)
            server.answers["CONTENT"] = "451 4.3.0 no"
            with pytest.raises(ReplyError):
                await sender.send(mail())
        assert server.connections == 2


@pytest.mark.parametrize(("offers", "last"), [("", "DATA"), ("250-CHUNKING\r\n", "BDAT")], ids=["DATA", "BDAT"])
async def test_a_mail_that_was_never_sent_is_not_handed_over(
    pass_time: Callable[[float], None], offers: str, last: str
) -> None:
    """Its end is still in our own buffer at the time-out: the server cannot have accepted the mail."""
    async with wire_server({"EHLO": f"250-wire.test\r\n{offers}250 PIPELINING"}) as server, pool_of(server) as sender:
        sending = asyncio.create_task(sender.send(mail(content=b"x" * 998 + b"\r\n" + b"y" * 64_000_000 + b"\r\n")))
        await server.until(lambda: last in server.verbs)
        (connection,) = server.live
        connection.transport.pause_reading()
        pass_time(60)
        with pytest.raises(TimedOut) as caught:
            await sending
        assert not caught.value.handed_over


async def test_addresses_beyond_ascii_are_sent_with_smtputf8() -> None:
    async with wire_server() as server:
        async with pool_of(server) as sender:
            await sender.send(mail("ådå@reader.example"))
        assert server.lines[1].endswith(b" SMTPUTF8")
        assert server.lines[2] == "RCPT TO:<ådå@reader.example>".encode()


@pytest.mark.parametrize(
    ("addresses", "whose"),
    [({"recipient": "ådå@reader.example"}, "recipient"), ({"sender": "ådå@acme.example"}, "sender")],
)
async def test_addresses_beyond_ascii_are_not_sent_without_smtputf8(addresses: dict[str, str], whose: str) -> None:
    async with wire_server({"EHLO": "250-wire.test\r\n250 PIPELINING"}) as server:
        async with pool_of(server) as sender:
            with pytest.raises(NotOffered, match=f"SMTPUTF8 for the {whose}"):
                await sender.send(mail(**addresses))  # type: ignore[arg-type]  # of mixed values
            await sender.send(mail())
        assert (server.connections, server.verbs.count("MAIL")) == (1, 1)


async def test_a_mail_over_the_servers_limit_is_not_sent() -> None:
    async with wire_server({"EHLO": "250-wire.test\r\n250 SIZE 50"}) as server:
        async with pool_of(server) as sender:
            with pytest.raises(TooLarge) as caught:
                await sender.send(mail())
        assert (caught.value.octets, caught.value.limit) == (len(CONTENT), 50)
        assert "MAIL" not in server.verbs


@pytest.mark.parametrize("offered", [True, False], ids=["offered", "not offered"])
async def test_status_notifications_are_requested_where_they_are_offered(*, offered: bool) -> None:
    """RFC 3461."""
    offers = [EHLO[0], *(["250-DSN"] if offered else []), *EHLO[1:]]
    async with wire_server({"EHLO": "\r\n".join(offers)}) as server:
        async with pool_of(server) as sender:
            await sender.send(mail(envelope_id="0198", notify="FAILURE,DELAY"))
        assert (b" RET=HDRS ENVID=0198" in server.lines[1]) is offered
        assert server.lines[2].endswith(b"> NOTIFY=FAILURE,DELAY" if offered else b">")


@pytest.mark.parametrize("address", ['"a..b"@docomo.example', '"a\\">"@reader.example', '"a@b"@my_mail.example'])
async def test_a_quoted_local_part_is_written_as_it_is(address: str) -> None:
    async with wire_server() as server, pool_of(server) as sender:
        await sender.send(mail(address))
        assert server.lines[2] == f"RCPT TO:<{address}>".encode()


@pytest.mark.parametrize(
    "address",
    [
        "ada@reader.example>\r\nRCPT TO:<eve@evil.example",
        "ada@reader.example\r\nDATA",
        "ada@reader.example\nDATA",
        "ada@reader.example\0",
        "ada@reader.example> SIZE=1",
        "ada reader@reader.example",
        "ada\x85@reader.example",
        "ada\ud800@reader.example",
        '"ada"> SIZE=1@reader.example',
        '"ada\\"> SIZE=1"@reader.example',
        '"ada>@reader.example',
        '"ada\\">"@reader.example>',
        "",
    ],
)
def test_an_address_cannot_end_a_command(address: str) -> None:
    with pytest.raises(ValueError, match="address"):
        mail(address)
    with pytest.raises(ValueError, match="address"):
        mail(sender=address)


@given(raw=st.lists(st.sampled_from([b"\r\n", b"\n", b"\r", b".", b"..", b"x", b"QUIT"]), max_size=30).map(b"".join))
def test_no_content_ends_the_mail_early(raw: bytes) -> None:
    """SMTP smuggling: however a server reads line ends, it finds one end of the mail, and that is ours."""
    content = dot_stuff(raw)
    ends = [found.end() for found in re.finditer(rb"(?:^|\r\n|\r|\n)(?=\.(?:\r|\n))", content)]
    assert ends == [len(content) - 3]


@given(raw=st.lists(st.sampled_from([b"\r\n", b".", b"..", b"x", b"y z"]), max_size=30).map(b"".join))
def test_dot_stuffing_is_reversible(raw: bytes) -> None:
    lines = dot_stuff(raw).removesuffix(b".\r\n").split(b"\r\n")
    read = b"\r\n".join(line[1:] if line.startswith(b".") else line for line in lines)
    assert read == (raw if raw.endswith(b"\r\n") else raw + b"\r\n")
