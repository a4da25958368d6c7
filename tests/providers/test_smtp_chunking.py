"""A mail in one round trip (PIPELINING and CHUNKING, RFC 3030), read by a server that sees every write."""

import asyncio
import os
import socket
from collections.abc import Callable

import pytest
import uvloop

from mailroom.errors import Declined, Misconfigured, Rejected, SendingError, Unavailable, Uncertain
from tests.mails import email
from tests.providers.test_smtp_wire import sender
from tests.wire_server import CHUNKING, EHLO, HANG_UP, wire_server

PIECES = ["MAIL", "RCPT", "BDAT", "CONTENT"]


async def test_a_mail_is_one_write() -> None:
    async with wire_server(CHUNKING) as server:
        provider = sender(server)
        mail = email()
        assert (await provider.send(mail)).provider_message_id == "WIRE01"
        await provider.send(mail)
        await provider.aclose()
        size = len(mail.raw)
        commands = (
            f"MAIL FROM:<no-reply@acme.example> SIZE={size}\r\nRCPT TO:<ada@reader.example>\r\nBDAT {size} LAST\r\n"
        )
        assert server.writes[1:3] == [commands.encode() + mail.raw] * 2


async def test_dots_stay_as_they_are() -> None:
    raw = b"Subject: dots\r\n\r\n.\r\n..\r\n.hidden\r\n"
    async with wire_server(CHUNKING) as server:
        provider = sender(server)
        await provider.send(email(raw=raw))
        await provider.aclose()
        assert server.lines[-2] == raw


async def test_without_pipelining_there_is_nothing_to_gain() -> None:
    without = "\r\n".join(line for line in (*EHLO[:-1], "250-CHUNKING", EHLO[-1]) if "PIPELINING" not in line)
    async with wire_server({"EHLO": without}) as server:
        provider = sender(server)
        await provider.send(email())
        await provider.aclose()
        assert server.verbs == ["EHLO", "MAIL", "RCPT", "DATA", "CONTENT", "QUIT"]


@pytest.mark.parametrize(
    ("verb", "answer", "kind"),
    [
        ("MAIL", "550 5.7.1 not you", Misconfigured),
        ("RCPT", "550 5.1.1 no such user", Rejected),
        ("RCPT", "450 4.2.0 greylisted", Unavailable),
        ("CONTENT", "554 5.6.0 we do not like it", Declined),
        ("CONTENT", "452 4.3.1 disk full", Unavailable),
        ("CONTENT", "354 more?", Unavailable),
    ],
)
async def test_after_a_refusal_the_connection_is_used_again(verb: str, answer: str, kind: type[SendingError]) -> None:
    async with wire_server(CHUNKING) as server:
        provider = sender(server)
        server.once[verb] = answer
        with pytest.raises(kind) as caught:
            await provider.send(email())
        assert caught.value.words == answer, "the first refusal counts, not what follows from it"
        await provider.send(email())
        await provider.aclose()
        assert server.connections == 1
        assert server.verbs == ["EHLO", *PIECES, "RSET", *PIECES, "QUIT"]


async def test_a_mail_behind_a_refused_rset_may_have_been_sent() -> None:
    async with wire_server(CHUNKING) as server:
        provider = sender(server)
        server.once["RCPT"] = "550 5.1.1 no such user"
        with pytest.raises(Rejected):
            await provider.send(email())
        server.once["RSET"] = "500 5.5.1 never heard of it"
        with pytest.raises(Uncertain):
            await provider.send(email())
        await server.until(lambda: server.verbs.count("CONTENT") == 2)
        await provider.aclose()
        assert server.connections == 1


@pytest.mark.parametrize("later", [HANG_UP, "no SMTP", "421 4.3.2 closing"])
async def test_a_refusal_counts_although_the_server_then_breaks_down(later: str) -> None:
    async with wire_server({**CHUNKING, "RCPT": "550 5.1.1 no such user", "BDAT": later}) as server:
        provider = sender(server)
        with pytest.raises(Rejected):
            await provider.send(email())
        await provider.aclose()


@pytest.mark.parametrize("verb", ["MAIL", "RCPT"])
async def test_a_server_that_says_good_bye_has_taken_nothing(verb: str) -> None:
    async with wire_server(CHUNKING) as server:
        provider = sender(server)
        server.once[verb] = "421 4.4.2 too many mails on this connection"
        with pytest.raises(Unavailable):
            await provider.send(email())
        await provider.send(email())
        server.once[verb] = "421 4.4.2 too many mails on this connection"
        await provider.send(email())
        await provider.aclose()
        assert server.connections == 3, "a reused connection is replaced, and providers do not retry on a fresh one"


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "CONTENT"])
@pytest.mark.parametrize("answer", [HANG_UP, "what?", "250-no\r\n" * 9000])
async def test_what_was_written_and_not_answered_may_have_been_sent(verb: str, answer: str) -> None:
    """Replies may come all at once, when the server has the mail already: then none has come before it broke down."""
    async with wire_server({**CHUNKING, verb: answer}) as server:
        provider = sender(server)
        with pytest.raises(Uncertain):
            await provider.send(email())
        await provider.aclose()


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "CONTENT"])
async def test_a_reused_connection_that_breaks_down_is_uncertain(verb: str) -> None:
    """Without a single reply, too: Postfix says nothing before it has the whole mail."""
    async with wire_server(CHUNKING) as server:
        provider = sender(server)
        await provider.send(email())
        server.once[verb] = HANG_UP
        with pytest.raises(Uncertain):
            await provider.send(email())
        await provider.aclose()


@pytest.mark.parametrize("runner", [asyncio.run, uvloop.run])
@pytest.mark.parametrize("last_words", [b"", b"421 4.4.2 too long idle\r\n"])
def test_a_connection_that_died_while_it_was_idle_is_no_failure(runner: Callable[..., None], last_words: bytes) -> None:
    """It ended before anything was written: nobody has the mail. The loop has not seen the end yet."""

    async def die_between_mails() -> None:
        async with wire_server(CHUNKING) as server:
            provider = sender(server)
            await provider.send(email())
            (connection,) = server.live
            descriptor = connection.transport.get_extra_info("socket").fileno()
            with socket.socket(fileno=os.dup(descriptor)) as its_side:
                its_side.send(last_words)
                its_side.shutdown(socket.SHUT_RDWR)
            await provider.send(email())
            await provider.aclose()
            assert (server.connections, server.verbs.count("CONTENT")) == (2, 2)

    runner(die_between_mails())


async def test_silence_is_uncertain(pass_time: Callable[[float], None]) -> None:
    async with wire_server({**CHUNKING, "CONTENT": "250-wait for it"}) as server:
        provider = sender(server)
        sending = asyncio.create_task(provider.send(email()))
        await server.until(lambda: "CONTENT" in server.verbs)
        pass_time(60)
        with pytest.raises(Uncertain):
            await sending
        await provider.aclose()


@pytest.mark.parametrize("answer", ["500 5.5.2 what?", "502 5.5.1 not here", "504 5.5.4 unrecognized parameter"])
async def test_a_server_that_does_not_know_what_it_offers_gets_the_mail_in_steps(answer: str) -> None:
    """It reads the content as commands: the connection ends at once, and no other tries it again."""
    async with wire_server({**CHUNKING, "BDAT": answer}) as server:
        provider = sender(server)
        await provider.send(email())
        await provider.send(email())
        await provider.aclose()
        assert server.connections == 2
        assert server.verbs.count("BDAT") == 1
        assert server.verbs[-9:] == [*["MAIL", "RCPT", "DATA", "CONTENT"] * 2, "QUIT"]
