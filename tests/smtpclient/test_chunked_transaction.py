"""A mail in one round trip (PIPELINING and CHUNKING, RFC 3030), recorded by a server that sees every write."""

import asyncio
import os
import socket
from collections.abc import Callable

import pytest
import uvloop

from mailroom.smtpclient import ConnectionLost, ReplyError, SmtpError, TimedOut
from tests.smtpclient.pools import CONTENT, mail, pool_of
from tests.wire_server import CHUNKING, EHLO, HANG_UP, wire_server

COMMANDS = ["MAIL", "RCPT", "BDAT", "CONTENT"]
SIZE = len(CONTENT)


async def test_a_mail_is_one_write() -> None:
    async with wire_server(CHUNKING) as server:
        async with pool_of(server) as pool:
            assert (await pool.send(mail())).text == "2.0.0 Ok: queued as WIRE01"
            await pool.send(mail())
        commands = (
            f"MAIL FROM:<no-reply@acme.example> SIZE={SIZE}\r\nRCPT TO:<ada@reader.example>\r\nBDAT {SIZE} LAST\r\n"
        )
        assert server.writes[1:3] == [commands.encode() + CONTENT] * 2


async def test_dots_are_not_stuffed() -> None:
    content = b"Subject: dots\r\n\r\n.\r\n..\r\n.hidden\r\n"
    async with wire_server(CHUNKING) as server:
        async with pool_of(server) as pool:
            await pool.send(mail(content=content))
        assert server.lines[-2] == content


async def test_without_pipelining_bdat_is_not_used() -> None:
    without = "\r\n".join(line for line in (*EHLO[:-1], "250-CHUNKING", EHLO[-1]) if "PIPELINING" not in line)
    async with wire_server({"EHLO": without}) as server:
        async with pool_of(server) as pool:
            await pool.send(mail())
        assert server.verbs == ["EHLO", "MAIL", "RCPT", "DATA", "CONTENT", "QUIT"]


@pytest.mark.parametrize(
    ("verb", "reply"),
    [
        ("MAIL", "550 5.7.1 not you"),
        ("RCPT", "550 5.1.1 no such user"),
        ("RCPT", "450 4.2.0 greylisted"),
        ("CONTENT", "554 5.6.0 we do not like it"),
        ("CONTENT", "452 4.3.1 disk full"),
        ("CONTENT", "354 more?"),
    ],
)
async def test_after_a_refusal_the_connection_is_reused(verb: str, reply: str) -> None:
    async with wire_server(CHUNKING) as server:
        async with pool_of(server) as pool:
            server.once[verb] = reply
            with pytest.raises(ReplyError) as caught:
                await pool.send(mail())
            error = caught.value
            assert (error.command.upper(), f"{error.code} {error.text}") == (verb, reply), "the first refusal counts"
            assert not error.handed_over
            await pool.send(mail())
        assert server.connections == 1
        assert server.verbs == ["EHLO", *COMMANDS, "RSET", *COMMANDS, "QUIT"]


async def test_a_mail_after_a_refused_rset_may_have_been_sent() -> None:
    async with wire_server(CHUNKING) as server:
        async with pool_of(server) as pool:
            server.once["RCPT"] = "550 5.1.1 no such user"
            with pytest.raises(ReplyError):
                await pool.send(mail())
            server.once["RSET"] = "500 5.5.1 never heard of it"
            with pytest.raises(ReplyError) as caught:
                await pool.send(mail())
            assert caught.value.handed_over
            await server.until(lambda: server.verbs.count("CONTENT") == 2)
        assert server.connections == 1


@pytest.mark.parametrize("later", [HANG_UP, "no SMTP", "421 4.3.2 closing"])
async def test_a_refusal_counts_although_the_connection_is_lost_afterwards(later: str) -> None:
    replies = {**CHUNKING, "RCPT": "550 5.1.1 no such user", "BDAT": later}
    async with wire_server(replies) as server, pool_of(server) as pool:
        with pytest.raises(ReplyError) as caught:
            await pool.send(mail())
        assert (caught.value.enhanced_code, caught.value.handed_over) == ("5.1.1", False)


@pytest.mark.parametrize("verb", ["MAIL", "RCPT"])
async def test_a_server_that_closes_with_421_has_accepted_nothing(verb: str) -> None:
    async with wire_server(CHUNKING) as server:
        async with pool_of(server) as pool:
            server.once[verb] = "421 4.4.2 too many mails on this connection"
            with pytest.raises(ReplyError) as caught:
                await pool.send(mail())
            assert (caught.value.code, caught.value.handed_over) == (421, False)
            await pool.send(mail())
            server.once[verb] = "421 4.4.2 too many mails on this connection"
            await pool.send(mail())
        assert server.connections == 3, "a kept connection is replaced; after a new one nothing is tried again"


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "CONTENT"])
@pytest.mark.parametrize("reply", [HANG_UP, "what?", "250-no\r\n" * 9000])
@pytest.mark.parametrize("kept", [False, True], ids=["new", "kept"])
async def test_a_mail_without_a_reply_may_have_been_sent(verb: str, reply: str, *, kept: bool) -> None:
    """All replies may come after the server has the mail: Postfix sends none before."""
    async with wire_server(CHUNKING) as server, pool_of(server) as pool:
        if kept:
            await pool.send(mail())
        server.once[verb] = reply
        with pytest.raises(ConnectionLost) as caught:
            await pool.send(mail())
        assert caught.value.handed_over


@pytest.mark.parametrize("runner", [asyncio.run, uvloop.run])
@pytest.mark.parametrize("last_words", [b"", b"421 4.4.2 too long idle\r\n"])
def test_a_connection_that_ended_while_idle_is_replaced(runner: Callable[..., None], last_words: bytes) -> None:
    """It ended before anything was written: the mail was not sent. The loop has not seen the end yet."""

    async def end_between_mails() -> None:
        async with wire_server(CHUNKING) as server:
            async with pool_of(server) as pool:
                await pool.send(mail())
                (connection,) = server.live
                descriptor = connection.transport.get_extra_info("socket").fileno()
                with socket.socket(fileno=os.dup(descriptor)) as its_side:
                    its_side.send(last_words)
                    its_side.shutdown(socket.SHUT_RDWR)
                await pool.send(mail())
            assert (server.connections, server.verbs.count("CONTENT")) == (2, 2)

    runner(end_between_mails())


async def test_a_time_out_is_uncertain(pass_time: Callable[[float], None]) -> None:
    async with wire_server({**CHUNKING, "CONTENT": "250-wait for it"}) as server, pool_of(server) as pool:
        sending = asyncio.create_task(pool.send(mail()))
        await server.until(lambda: "CONTENT" in server.verbs)
        pass_time(60)
        with pytest.raises(TimedOut) as caught:
            await sending
        assert caught.value.handed_over


@pytest.mark.parametrize(
    "reply",
    ["500 5.5.2 what?", "502 5.5.1 not here", "503 5.5.1 bad sequence", "504 5.5.4 unrecognized parameter"],
)
async def test_a_server_that_does_not_know_bdat_gets_the_mail_by_data(reply: str) -> None:
    """It reads the content as commands: the connection ends at once, and BDAT is not tried again."""
    async with wire_server({**CHUNKING, "BDAT": reply}) as server:
        async with pool_of(server) as pool:
            await pool.send(mail())
            await pool.send(mail())
        assert server.connections == 2
        assert server.verbs.count("BDAT") == 1
        assert server.verbs[-9:] == [*["MAIL", "RCPT", "DATA", "CONTENT"] * 2, "QUIT"]


async def test_any_other_error_is_not_a_chunking_one() -> None:
    async with wire_server({**CHUNKING, "BDAT": "554 5.5.1 no valid recipients"}) as server:
        async with pool_of(server) as pool:
            with pytest.raises(SmtpError):
                await pool.send(mail())
        assert server.connections == 1
