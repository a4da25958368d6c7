"""How long a silent server is waited for: a code leaves room for the next provider, other mail has the settings' time.

A code has 5 s until the greeting, 5 s until the login, 5 s for the envelope, and 15 s once its content was handed over.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Literal, NamedTuple

import pytest
from msgspec.structs import replace

from mailroom.errors import SendingError, Unavailable, Uncertain
from mailroom.message import Email, Receipt
from mailroom.providers.smtp.smtp_provider import Settings, Smtp
from tests.clock import FakeClock, settle
from tests.mails import email
from tests.providers.contract import context
from tests.smtp_server import HANG, smtp_server
from tests.token_endpoint import NEVER, token_endpoint
from tests.wire_server import CHUNKING, EHLO, WireServer, wire_server

PassTime = Callable[[float], None]

OTHER = email()
CODE = replace(OTHER, is_code=True)
USERS = {"mailroom": "hunter22"}
LOGIN = {"username": "mailroom", "password": "hunter22"}
STEPS = ["GREETING", "EHLO", "AUTH", "MAIL", "RCPT", "DATA", "CONTENT"]
"""What the server is silent at; the content has been handed over at the last one only."""
PIPELINING = pytest.mark.parametrize("pipelining", [False, True], ids=["step by step", "pipelined"])
TLS = pytest.mark.parametrize("tls", ["none", "starttls", "implicit"])


class Silence(NamedTuple):
    """A mail that waits for an answer."""

    sending: asyncio.Task[Receipt]
    pass_time: PassTime

    async def lasts(self, seconds: int, kind: type[SendingError], *, within: str = "", margin: int = 1) -> None:
        """Assert that the mail waits for so many seconds and not for one less, or for as many as the margin."""
        self.pass_time(seconds - margin)
        await settle()
        assert not self.sending.done()
        self.pass_time(margin)
        with pytest.raises(kind, match=within or f"within {seconds} s") as caught:
            await self.sending
        assert type(caught.value) is kind


@asynccontextmanager
async def sending(mail: Email, server: Any, pass_time: PassTime, **settings: Any) -> AsyncIterator[Silence]:
    """Send a mail by a provider of its own."""
    given = {"host": server.host, "port": server.port, "tls": "none", **settings}
    provider = Smtp(Settings.model_validate(given), context())
    try:
        yield Silence(asyncio.create_task(provider.send(mail)), pass_time)
    finally:
        await provider.aclose()


@asynccontextmanager
async def silent_at(
    step: str,
    mail: Email,
    pass_time: PassTime,
    *,
    tls: Literal["none", "starttls", "implicit"] = "none",
    pipelining: bool = True,
    chunking: bool = False,
    **settings: Any,
) -> AsyncIterator[Silence]:
    """Send a mail to a server that goes silent at a step, and begin when it is there."""
    async with smtp_server(tls=tls, users=USERS, pipelining=pipelining, chunking=chunking) as server:
        waiting = server.fault(step, HANG)
        given = {"tls": tls, "ca_file": server.ca_file, **LOGIN, **settings}
        async with sending(mail, server, pass_time, **given) as silence:
            async with asyncio.timeout(10):
                await waiting.wait()
            yield silence
        await server.left_alone()


@pytest.mark.parametrize("step", STEPS)
@PIPELINING
@TLS
async def test_a_code_waits_for_five_seconds_or_for_fifteen_after_the_hand_over(
    step: str,
    tls: Literal["none", "starttls", "implicit"],
    pipelining: bool,  # noqa: FBT001 - a parameter of the test
    pass_time: PassTime,
) -> None:
    async with silent_at(step, CODE, pass_time, tls=tls, pipelining=pipelining) as silence:
        if step == "CONTENT":
            await silence.lasts(15, Uncertain)
        else:
            await silence.lasts(5, Unavailable)


@pytest.mark.parametrize("step", STEPS)
@PIPELINING
@TLS
async def test_other_mail_waits_as_long_as_the_settings_say(
    step: str,
    tls: Literal["none", "starttls", "implicit"],
    pipelining: bool,  # noqa: FBT001 - a parameter of the test
    pass_time: PassTime,
) -> None:
    async with silent_at(step, OTHER, pass_time, tls=tls, pipelining=pipelining) as silence:
        if step in ("GREETING", "EHLO", "AUTH"):
            await silence.lasts(15, Unavailable)
        else:
            await silence.lasts(30, Uncertain if step == "CONTENT" else Unavailable)


@pytest.mark.parametrize("mail", [CODE, OTHER], ids=["code", "other"])
async def test_a_server_that_answers_nothing_after_starttls(mail: Email, pass_time: PassTime) -> None:
    async with silent_at("STARTTLS", mail, pass_time, tls="starttls") as silence:
        await silence.lasts(5 if mail.is_code else 15, Unavailable)


@pytest.mark.parametrize("mail", [CODE, OTHER], ids=["code", "other"])
async def test_a_tls_handshake_that_does_not_end(mail: Email, pass_time: PassTime) -> None:
    """With implicit TLS it comes before the greeting."""
    async with wire_server({"GREETING": "220-"}) as server:
        server.answers["GREETING"] = "\x16\x03\x01"  # the beginning of a TLS record
        async with sending(mail, server, pass_time, tls="implicit") as silence:
            await server.until(lambda: bool(server.connections))
            await silence.lasts(5 if mail.is_code else 15, Unavailable)


@pytest.mark.parametrize("step", ["MAIL", "RCPT", "BDAT"])
@pytest.mark.parametrize(("mail", "seconds"), [(CODE, 15), (OTHER, 30)], ids=["code", "other"])
async def test_with_chunking_everything_is_handed_over_at_once(
    step: str, mail: Email, seconds: int, pass_time: PassTime
) -> None:
    async with silent_at(step, mail, pass_time, chunking=True) as silence:
        await silence.lasts(seconds, Uncertain)


@pytest.mark.parametrize("chunking", [False, True], ids=["DATA", "BDAT"])
async def test_a_code_that_is_not_written_in_fifteen_seconds_was_not_handed_over(
    chunking: bool,  # noqa: FBT001 - a parameter of the test
    pass_time: PassTime,
) -> None:
    """The server reads none of it: what was sent decides, not the step."""
    huge = replace(CODE, raw=b"x" * 998 + b"\r\n" + b"y" * 64_000_000 + b"\r\n")
    ehlo = (CHUNKING if chunking else {"EHLO": "\r\n".join(EHLO)})["EHLO"].replace("SIZE 1000000", "SIZE 0")
    async with wire_server({"EHLO": ehlo}) as server, sending(huge, server, pass_time) as silence:
        await server.until(lambda: ("BDAT" if chunking else "DATA") in server.verbs)
        (connection,) = server.live
        connection.transport.pause_reading()
        await settle()
        await silence.lasts(15, Unavailable, margin=5)  # a busy machine takes seconds to write the mail


async def test_each_step_of_a_code_has_its_own_time(pass_time: PassTime) -> None:
    """A slow server, and a slow content filter: 26 s in all."""
    slow = {"GREETING": "220-wire.test", "EHLO": EHLO[0], "RCPT": "250-wait", "CONTENT": "250-wait"}
    async with wire_server(slow) as server, sending(CODE, server, pass_time) as silence:
        await server.until(lambda: bool(server.live))
        for reached, seconds, rest in [
            (None, 4, b"220 ESMTP"),
            ("EHLO", 4, b"250 SIZE 1000000"),
            ("RCPT", 4, b"250 2.1.5 Ok"),
            ("CONTENT", 14, b"250 2.0.0 Ok"),
        ]:
            await server.until(lambda reached=reached: reached is None or reached in server.verbs)  # type: ignore[misc]  # mypy takes no defaults in lambdas
            await _answer_late(server, seconds, rest, pass_time)
        assert (await silence.sending).diagnostic


async def _answer_late(server: WireServer, seconds: float, rest: bytes, pass_time: PassTime) -> None:
    await settle()
    pass_time(seconds)
    await settle()
    (connection,) = server.live
    connection.transport.write(rest + b"\r\n")


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("mail", [CODE, OTHER], ids=["code", "other"])
async def test_a_shorter_timeout_of_the_operator_counts_until_a_code_is_handed_over(
    step: str, mail: Email, pass_time: PassTime
) -> None:
    async with silent_at(step, mail, pass_time, timeout=2) as silence:
        if step == "CONTENT":
            await silence.lasts(15 if mail.is_code else 2, Uncertain)
        else:
            await silence.lasts(2, Unavailable)


@pytest.mark.parametrize("step", ["GREETING", "AUTH"])
async def test_a_shorter_connect_timeout_of_the_operator_counts_for_a_code(step: str, pass_time: PassTime) -> None:
    async with silent_at(step, CODE, pass_time, connect_timeout=2) as silence:
        await silence.lasts(2, Unavailable)


async def test_the_steps_of_a_code_end_with_the_operators_timeout(pass_time: PassTime) -> None:
    slow = {"GREETING": "220-wire.test", "EHLO": EHLO[0]}
    async with wire_server(slow) as server, sending(CODE, server, pass_time, timeout=7) as silence:
        await server.until(lambda: bool(server.live))
        await _answer_late(server, 4, b"220 ESMTP", pass_time)
        await server.until(lambda: "EHLO" in server.verbs)
        await silence.lasts(3, Unavailable, within="within 7 s, at login")


@pytest.mark.parametrize(("mail", "seconds"), [(CODE, 5), (OTHER, 15)], ids=["code", "other"])
async def test_a_silent_token_endpoint_is_part_of_the_connection(
    mail: Email, seconds: int, pass_time: PassTime
) -> None:
    async with token_endpoint() as endpoint, wire_server() as server:
        endpoint.answers.append(NEVER)
        oauth2 = {"client_id": "c", "client_secret": "s3cret", "refresh_token": "r3fresh", "access_url": endpoint.url}
        settings = {"username": "ada@acme.example", "auth": "oauth2", "oauth2": oauth2}
        async with sending(mail, server, pass_time, **settings) as silence:
            await endpoint.asked.wait()
            await silence.lasts(seconds, Unavailable)


async def test_a_dropped_idle_connection_costs_a_code_two_seconds(pass_time: PassTime) -> None:
    """It is checked by NOOP; then a new connection has its own time."""
    async with smtp_server() as server:
        provider = Smtp(Settings(host=server.host, port=server.port, tls="none"), context(clock=(clock := FakeClock())))
        await provider.send(CODE)
        await clock.advance(11)
        waiting = server.fault("NOOP", HANG)
        sending_second = asyncio.create_task(provider.send(CODE))
        await waiting.wait()
        pass_time(2)
        await sending_second
        await provider.aclose()
        assert (len(server.mails), server.connections) == (2, 2)
