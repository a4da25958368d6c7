"""A mail in one round trip (PIPELINING and CHUNKING, RFC 3030), recorded by a server that sees every write."""

import asyncio
from collections.abc import Callable

import pytest
from structlog.testing import capture_logs

from mailroom.errors import Declined, Misconfigured, Rejected, SendingError, Unavailable, Uncertain
from tests.mails import email
from tests.smtpclient.test_connection import sender
from tests.wire_server import CHUNKING, HANG_UP, wire_server

PIECES = ["MAIL", "RCPT", "BDAT", "CONTENT"]


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
async def test_after_a_refusal_the_connection_is_reused(verb: str, answer: str, kind: type[SendingError]) -> None:
    async with wire_server(CHUNKING) as server:
        provider = sender(server)
        server.once[verb] = answer
        with pytest.raises(kind) as caught:
            await provider.send(email())
        assert caught.value.diagnostic == answer, "the first refusal counts, not what follows from it"
        await provider.send(email())
        await provider.aclose()
        assert server.connections == 1
        assert server.verbs == ["EHLO", *PIECES, "RSET", *PIECES, "QUIT"]


async def test_a_mail_after_a_refused_rset_may_have_been_sent() -> None:
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


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "CONTENT"])
@pytest.mark.parametrize("answer", [HANG_UP, "what?", "250-no\r\n" * 9000])
async def test_a_mail_without_a_reply_may_have_been_sent(verb: str, answer: str) -> None:
    """All replies may come after the server has the mail: then none came before the connection broke."""
    async with wire_server({**CHUNKING, verb: answer}) as server:
        provider = sender(server)
        with pytest.raises(Uncertain):
            await provider.send(email())
        await provider.aclose()


async def test_a_time_out_is_uncertain(pass_time: Callable[[float], None]) -> None:
    async with wire_server({**CHUNKING, "CONTENT": "250-wait for it"}) as server:
        provider = sender(server)
        sending = asyncio.create_task(provider.send(email()))
        await server.until(lambda: "CONTENT" in server.verbs)
        pass_time(60)
        with pytest.raises(Uncertain):
            await sending
        await provider.aclose()


async def test_a_broken_extension_is_logged_once() -> None:
    """The operator learns why mails are sent more slowly, and how to make it permanent."""
    async with wire_server({**CHUNKING, "BDAT": "500 5.5.2 what?"}) as server:
        provider = sender(server)
        with capture_logs() as logged:
            for _ in range(3):
                await provider.send(email())
        await provider.aclose()
        (line,) = logged
        assert (line["event"], line["extension"], line["log_level"]) == ("smtp.extension_broken", "CHUNKING", "warning")
        assert "chunking = false" in line["hint"]


@pytest.mark.parametrize(
    ("setting", "verbs"),
    [("chunking", [b"MAIL"]), ("pipelining", [b"MAIL", b"RCPT", b"DATA"])],
)
async def test_an_extension_that_the_settings_leave_out_is_not_used(setting: str, verbs: list[bytes]) -> None:
    async with wire_server(CHUNKING) as server:
        provider = sender(server, **{setting: False})
        await provider.send(email())
        await provider.aclose()
        assert [write[:4] for write in server.writes[1 : len(verbs) + 2]] == [*verbs, b"From"]
        assert "BDAT" not in server.verbs
