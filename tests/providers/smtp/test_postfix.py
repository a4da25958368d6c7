"""SMTP through Debian's Postfix: by BDAT, which it offers, and by DATA, when it does not offer CHUNKING."""

import asyncio
import os
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from mailroom.errors import Declined, Misconfigured, Rejected, SendingError, Unavailable, Uncertain
from mailroom.message import Address, Email
from mailroom.providers.smtp.smtp_provider import Settings, Smtp, connect
from tests.e2e.harness import unless
from tests.mails import email
from tests.providers.contract import context
from tests.real_mta import ELSEWHERE, HOST, KNOWN, LATER, MOST_OCTETS, NOT_OURS, UNKNOWN, Relay, missing, postfix

pytestmark = [unless(missing()), pytest.mark.skipif(os.geteuid() != 0, reason="only root may run Postfix")]

ADA, EVE = KNOWN
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: to close is to reset."""
ERRORS_BEFORE_HANGING_UP = 20
"""Postfix's smtpd_hard_error_limit; a refused recipient and the content behind it are two."""


@dataclass(frozen=True, slots=True)
class Way:
    """How a mail's content is sent."""

    command: str
    """The limit that Postfix applies."""
    without: str
    """The extensions that it must not offer."""


BDAT, DATA = Way("bdat", ""), Way("data", "chunking")


@pytest.fixture(params=[BDAT, DATA], ids=["BDAT", "DATA"])
def way(request: pytest.FixtureRequest) -> Way:
    chosen: Way = request.param
    return chosen


@pytest.fixture
async def relay(way: Way) -> AsyncIterator[Relay]:
    async with postfix(without=way.without) as relay:
        yield relay


@asynccontextmanager
async def sender(relay: Relay, **settings: Any) -> AsyncIterator[Smtp]:
    """Connect without encryption by default."""
    provider = connect(Settings(**{**relay.settings, "tls": "none", **settings}), context())
    try:
        yield provider
    finally:
        await provider.aclose()


def plain(body: bytes, *, recipient: str = ADA) -> Email:
    """Return a mail with this body."""
    head, _, _ = email(recipient).raw.partition(b"MIME-Version")
    return email(recipient, raw=head + b"\r\n" + body)


MAILS: dict[str, Callable[[], Email]] = {
    "a code": email,
    "in another script": lambda: email(subject="Ваш код 🎉 验证码", text="Привет\n", html="<p>Привет</p>\n"),
    "nothing but dots": lambda: plain(b".\r\n..\r\n...\r\n.QUIT\r\n.\r\nDATA\r\n.\r\n\r\n.\r\n"),
    "many dots": lambda: plain(b".\r\n..hidden\r\n. \r\nBDAT 5 LAST\r\n" * 20_000),
    "both parts long": lambda: email(text=".a line\n" * 20_000, html="<p>.a line</p>\n" * 20_000),
    "a line as long as they may be": lambda: plain(b"." + b"x" * 997 + b"\r\n.\r\n"),
    "no end of its last line": lambda: plain(b"the end"),
}


async def test_mails_arrive_octet_by_octet_one_after_the_other_over_one_connection(relay: Relay, way: Way) -> None:
    async with sender(relay) as provider:
        for name, make in MAILS.items():
            mail = make()
            delivered = await relay.delivered(await provider.send(mail))
            assert delivered.content == mail.raw.removesuffix(b"\r\n") + b"\r\n", name
    number = len(MAILS)
    assert await relay.session() == {"ehlo": 1, "mail": number, "rcpt": number, way.command: number, "quit": 1}


async def test_mails_at_the_same_time_are_not_mixed_up(relay: Relay, way: Way) -> None:
    mails = [plain(f"Mail {number}.\r\n".encode() * number, recipient=KNOWN[number % 2]) for number in range(1, 41)]
    async with sender(relay, concurrency=4) as provider:
        receipts = await asyncio.gather(*(provider.send(mail) for mail in mails))
        for mail, receipt in zip(mails, receipts, strict=True):
            delivered = await relay.delivered(receipt)
            assert delivered.content == mail.raw
            assert f"for <{mail.recipient}>".encode() in delivered.trace
    sessions = [await relay.session() for _ in range(4)]
    assert sum(session[way.command] for session in sessions) == len(mails)


REFUSALS: list[tuple[Email, type[SendingError], str]] = [
    (email(UNKNOWN), Rejected, f"550 5.1.1 <{UNKNOWN}>: Recipient address rejected: User unknown in relay"),
    (email(ELSEWHERE), Declined, f"554 5.7.1 <{ELSEWHERE}>: Relay access denied"),
    (email(LATER), Unavailable, f"450 4.2.1 <{LATER}>: Recipient address rejected: come back in a minute"),
    (email(sender=Address(NOT_OURS)), Misconfigured, f"550 5.7.1 <{NOT_OURS}>: Sender address rejected: not one of"),
    (plain(b"a bare\nline feed\r\n"), Declined, "550 5.5.2 mx.test Error: bare <LF> received"),
]


async def test_a_refusal_has_the_servers_text_and_the_connection_is_reused(relay: Relay, way: Way) -> None:
    """The first refusal is the reason, not the later one of content without valid recipients."""
    async with sender(relay) as provider:
        for mail, kind, words in REFUSALS:
            with pytest.raises(kind) as refused:
                await provider.send(mail)
            assert refused.value.diagnostic.startswith(words)
            assert refused.value.code == words[:9]
            assert (await relay.delivered(await provider.send(email()))).content == email().raw
    session = await relay.session()
    assert (session["ehlo"], session["mail"], session["quit"]) == (1, 2 * len(REFUSALS), 1)
    assert session[way.command] == 2 * len(REFUSALS)


async def test_a_connection_that_postfix_closes_after_many_refusals_is_replaced(relay: Relay, way: Way) -> None:
    """Its 421 comes with the last refusal, in the same packet."""
    refused = ERRORS_BEFORE_HANGING_UP // 2
    async with sender(relay) as provider:
        for _ in range(refused + 1):
            with pytest.raises(Rejected, match="User unknown"):
                await provider.send(email(UNKNOWN))
        await relay.delivered(await provider.send(email()))
    assert (await relay.session())[way.command] == refused
    assert (await relay.session())[way.command] == 2


@pytest.mark.parametrize("way", [BDAT, DATA], ids=["BDAT", "DATA"])
async def test_a_mail_that_is_too_large_does_not_affect_the_next(way: Way) -> None:
    """The server does not say beforehand how much it takes.

    After a chunk that is too big, Postfix 3.7 forgets the recipient only when RSET comes: without it the next recipient
    counts as the second, and if that one is refused, Postfix dies by signal 11.
    """
    too_big = plain(b"0123456789\r\n" * (MOST_OCTETS // 12 + 1))
    async with postfix(without=f"size {way.without}") as relay, sender(relay) as provider:
        for _ in range(2):
            with pytest.raises(Declined, match=r"552 5\.3\.4 .*exceeds|552 5\.3\.4 .*too big"):
                await provider.send(too_big)
            with pytest.raises(Rejected, match="User unknown"):
                await provider.send(email(UNKNOWN))
            with pytest.raises(Declined, match=r"552 5\.3\.4 "):
                await provider.send(too_big)
            delivered = await relay.delivered(await provider.send(email(EVE)))
            assert delivered.content == email(EVE).raw
            assert f"for <{EVE}>".encode() in delivered.trace, "it says so of a sole recipient"
        await provider.aclose()
        session = await relay.session()
        assert (session["ehlo"], session["mail"], session[way.command]) == (1, 8, 8)


async def test_a_mail_over_the_offered_size_is_not_sent(relay: Relay, way: Way) -> None:
    async with sender(relay) as provider:
        with pytest.raises(Declined, match=f"octets, the server takes at most {MOST_OCTETS}"):
            await provider.send(plain(b"0123456789\r\n" * (MOST_OCTETS // 12 + 1)))
        await relay.delivered(await provider.send(email()))
    assert await relay.session() == {"ehlo": 1, "mail": 1, "rcpt": 1, way.command: 1, "quit": 1}


async def test_encrypted_mails_arrive_octet_by_octet(relay: Relay, way: Way) -> None:
    async with sender(relay, tls="starttls") as provider:
        for mail in (email(), MAILS["many dots"]()):
            delivered = await relay.delivered(await provider.send(mail))
            assert delivered.content == mail.raw
            assert b"(using TLSv1.3 with cipher " in delivered.trace
    assert await relay.session() == {"ehlo": 2, "starttls": 1, "mail": 2, "rcpt": 2, way.command: 2, "quit": 1}


async def test_without_pipelining_the_content_is_sent_after_the_replies() -> None:
    async with postfix(without="pipelining") as relay:
        async with sender(relay) as provider:
            assert (await relay.delivered(await provider.send(email()))).content == email().raw
        assert await relay.session() == {"ehlo": 1, "mail": 1, "rcpt": 1, "data": 1, "quit": 1}


async def test_a_mail_accepted_without_a_reply_is_uncertain_and_not_sent_again() -> None:
    """Postfix sends its replies after the content: when they are lost, there is none even to MAIL."""
    withheld = asyncio.get_running_loop().create_future()
    withholding = asyncio.Event()

    async def between(client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        server, to_server = await asyncio.open_connection(HOST, running.settings["port"])
        forwarding = asyncio.create_task(_forward(client, to_server))
        while replies := await server.read(65536):
            if withholding.is_set():
                withheld.set_result(replies)
                to_client.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                to_client.transport.abort()
                break
            to_client.write(replies)
        forwarding.cancel()
        for writer in (to_client, to_server):
            writer.close()

    async with postfix() as running, await asyncio.start_server(between, HOST, 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        async with sender(running, port=port) as provider:
            await running.delivered(await provider.send(email()))
            withholding.set()
            with pytest.raises(Uncertain):
                await provider.send(email())
        assert (await withheld).splitlines()[0].startswith(b"250 2.1.0")
        assert (await running.session())["bdat"] == 2


async def _forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
