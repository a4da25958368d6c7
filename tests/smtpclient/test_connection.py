"""SMTP on the wire, recorded by a server that sees every write."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mailroom.errors import Declined, Misconfigured, Rejected, SendingError, Unavailable, Uncertain
from mailroom.message import Address, Email
from mailroom.providers.smtp.smtp_provider import Settings, Smtp, connect
from tests.mails import email
from tests.providers.contract import context
from tests.wire_server import EHLO, HANG_UP, WireServer, wire_server

NO_PIPELINING = {"EHLO": "\r\n".join(line for line in EHLO if "PIPELINING" not in line)}


def sender(server: WireServer, **changes: Any) -> Smtp:
    """Return a provider for this server."""
    return connect(Settings(host=server.host, port=server.port, tls="none", **changes), context())


async def refused(answers: Mapping[str, str]) -> tuple[WireServer, SendingError]:
    """Send one mail that is refused, then a second one that is accepted."""
    async with wire_server(answers) as server:
        provider = sender(server)
        with pytest.raises(SendingError) as caught:
            await provider.send(email())
        for verb in answers.keys() - {"EHLO"}:
            server.answers[verb] = "250 2.0.0 Ok" if verb != "DATA" else "354 go ahead"
        await provider.send(email())
        await provider.aclose()
    return server, caught.value


@pytest.mark.parametrize("ehlo", [{}, NO_PIPELINING], ids=["pipelined", "sequential"])
@pytest.mark.parametrize(
    ("verb", "answer", "kind"),
    [
        ("MAIL", "550 5.7.1 not you", Misconfigured),
        ("RCPT", "550 5.1.1 no such user", Rejected),
        ("RCPT", "450 4.2.0 greylisted", Unavailable),
        ("DATA", "451 4.3.0 not now", Unavailable),
        ("CONTENT", "554 5.6.0 we do not like it", Declined),
    ],
)
async def test_after_a_refusal_the_connection_is_reused(
    ehlo: Mapping[str, str], verb: str, answer: str, kind: type[SendingError]
) -> None:
    server, error = await refused({**ehlo, verb: answer})
    assert type(error) is kind
    assert error.diagnostic == answer
    assert error.code == answer[:9]
    assert server.connections == 1
    assert "RSET" in server.verbs, "the refused transaction must not leak into the next"


NO_ANSWERS = [HANG_UP, "421 4.3.2 closing", "what?", "250-no\r\n" * 9000]


@pytest.mark.parametrize(
    ("verb", "answer"),
    [
        *((verb, answer) for verb in ("GREETING", "EHLO", "MAIL", "RCPT", "DATA") for answer in NO_ANSWERS),
        *((verb, "354 eh?") for verb in ("GREETING", "EHLO", "MAIL", "RCPT")),
    ],
)
async def test_a_new_connection_that_breaks_before_the_hand_over_is_unavailable(verb: str, answer: str) -> None:
    async with wire_server({verb: answer}) as server:
        provider = sender(server)
        with pytest.raises(Unavailable) as caught:
            await provider.send(email())
        assert caught.value.diagnostic
        assert server.connections == 1, "providers do not retry"
        await provider.aclose()


@pytest.mark.parametrize(
    ("answer", "kind"),
    [(HANG_UP, Uncertain), ("what?", Uncertain), ("421 4.3.2 closing", Unavailable), ("354 more?", Unavailable)],
)
async def test_a_connection_that_breaks_after_the_hand_over(answer: str, kind: type[SendingError]) -> None:
    """After a 421 the server has not accepted the mail; without a reply that is unknown."""
    async with wire_server({"CONTENT": answer}) as server:
        provider = sender(server)
        with pytest.raises(kind):
            await provider.send(email())
        await provider.aclose()


@pytest.mark.parametrize(("offers", "last"), [("", "DATA"), ("250-CHUNKING\r\n", "BDAT")], ids=["two", "one"])
async def test_a_mail_that_was_never_sent_is_not_uncertain(
    pass_time: Callable[[float], None], offers: str, last: str
) -> None:
    """Its end is still in our own buffer at the time-out: the server cannot have accepted the mail."""
    async with wire_server({"EHLO": f"250-wire.test\r\n{offers}250 PIPELINING"}) as server:
        provider = sender(server)
        sending = asyncio.create_task(provider.send(email(raw=b"x" * 998 + b"\r\n" + b"y" * 64_000_000 + b"\r\n")))
        await server.until(lambda: last in server.verbs)
        (connection,) = server.live
        connection.transport.pause_reading()
        pass_time(30)
        with pytest.raises(Unavailable):
            await sending
        await provider.aclose()


@pytest.mark.parametrize(
    ("mail", "kind"),
    [
        (email("ådå@reader.example"), Declined),
        (email(sender=Address("ådå@acme.example")), Misconfigured),
    ],
)
async def test_addresses_beyond_ascii_are_refused_without_smtputf8(mail: Email, kind: type[SendingError]) -> None:
    async with wire_server({"EHLO": "250-wire.test\r\n250 PIPELINING"}) as server:
        provider = sender(server)
        with pytest.raises(kind):
            await provider.send(mail)
        await provider.send(email())
        await provider.aclose()
        assert (server.connections, server.verbs.count("MAIL")) == (1, 1)


async def test_a_senders_domain_is_written_in_ascii() -> None:
    async with wire_server() as server:
        provider = sender(server)
        await provider.send(email(sender=Address("post@bücher.example")))
        await provider.aclose()
        assert server.lines[1].startswith(b"MAIL FROM:<post@xn--bcher-kva.example> SIZE=")


async def test_a_mail_over_the_servers_limit_is_declined_and_not_sent() -> None:
    async with wire_server({"EHLO": "250-wire.test\r\n250 SIZE 500"}) as server:
        provider = sender(server)
        with pytest.raises(Declined, match="at most 500"):
            await provider.send(email())
        await provider.aclose()
        assert "MAIL" not in server.verbs


async def test_headers_from_the_settings_come_first() -> None:
    async with wire_server() as server:
        provider = sender(server, headers={"X-Env": "prod", "X-Tag": ["a", "grün"]})
        await provider.send(email())
        await provider.aclose()
        assert server.lines[4] == (
            b"X-Env: prod\r\nX-Tag: a\r\nX-Tag: =?utf-8?b?Z3LDvG4=?=\r\n" + email().raw + b".\r\n"
        )


HOSTILE = [
    "ada@reader.example>\r\nRCPT TO:<eve@evil.example",
    "ada@reader.example\r\nDATA",
    "ada@reader.example\nDATA",
    "ada@reader.example\0",
    "ada@reader.example> SIZE=1",
    "ada reader@reader.example",
    "ada\x85@reader.example",
    "ada\ud800@reader.example",
    "",
]


@pytest.mark.parametrize("address", HOSTILE)
async def test_an_address_cannot_end_a_command(address: str) -> None:
    async with wire_server() as server:
        provider = sender(server)
        with pytest.raises(Rejected):
            await provider.send(email(address, raw=b"Subject: x\r\n\r\nx\r\n"))
        with pytest.raises(Misconfigured):
            await provider.send(email(sender=Address(address), raw=b"Subject: x\r\n\r\nx\r\n"))
        await provider.aclose()
        assert server.lines == []


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(address=st.text(max_size=40))
def test_no_address_changes_the_commands(address: str) -> None:
    async def send() -> None:
        async with wire_server() as server:
            provider = sender(server)
            try:
                await provider.send(email(address, raw=b"Subject: x\r\n\r\nx\r\n"))
            except Rejected:
                assert server.lines == []
            else:
                assert server.verbs == ["EHLO", "MAIL", "RCPT", "DATA", "CONTENT"]
                assert server.lines[2] == f"RCPT TO:<{address}>".encode()
            await provider.aclose()

    asyncio.run(send())


@pytest.mark.parametrize("offered", [True, False])
async def test_status_notifications_are_requested_where_they_are_offered(
    offered: bool,  # noqa: FBT001  # a parameter of the test
) -> None:
    """With our id, by which a bounce that comes by mail can be matched (RFC 3461)."""
    offers = [EHLO[0], *(["250-DSN"] if offered else []), *EHLO[1:]]
    async with wire_server({"EHLO": "\r\n".join(offers)}) as server:
        provider = sender(server, dsn=["failure", "delay"])
        mail = email()
        await provider.send(mail)
        await provider.aclose()
        assert (f" RET=HDRS ENVID={mail.id}".encode() in server.lines[1]) is offered
        assert server.lines[2].endswith(b"> NOTIFY=FAILURE,DELAY" if offered else b">")


async def test_status_notifications_are_not_requested_by_default() -> None:
    async with wire_server({"EHLO": "\r\n".join((EHLO[0], "250-DSN", *EHLO[1:]))}) as server:
        provider = sender(server)
        await provider.send(email())
        await provider.aclose()
        assert b"NOTIFY" not in b"".join(server.lines)
