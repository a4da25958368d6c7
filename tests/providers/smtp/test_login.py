"""Connecting, encrypting, logging in: refusals, and that a password is sent in clear with `tls = "none"` only."""

import asyncio
import base64
import re
import socket
from collections.abc import Callable
from typing import Any

import pytest
import trustme
import uvloop
from structlog.testing import capture_logs

from mailroom.errors import Misconfigured, SendingError, Unavailable
from mailroom.message import Receipt
from mailroom.providers.smtp.smtp_provider import Settings, connect
from tests.mails import email
from tests.providers.contract import context
from tests.smtp_server import DROP, HANG, Server, smtp_server
from tests.wire_server import wire_server

NAME = "mail.acme.example"
USERS = {"mailroom": "hunter22"}
LOGIN = {"username": "mailroom", "password": "hunter22"}


@pytest.fixture
def by_name(monkeypatch: pytest.MonkeyPatch) -> str:
    """Resolve a name to loopback that is not a name of loopback."""
    usual = socket.getaddrinfo

    def resolve(host: Any, *args: Any, **kwargs: Any) -> Any:
        return usual("127.0.0.1" if host == NAME else host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return NAME


async def send(server: Any, **changes: Any) -> Receipt:
    """Send a mail through a provider of its own, trusting the server's authority."""
    given = {"host": server.host, "port": server.port} | changes
    if isinstance(server, Server):
        given = {"ca_file": server.ca_file} | given
    provider = connect(Settings(**given), context())
    try:
        return await provider.send(email())
    finally:
        await provider.aclose()


@pytest.mark.parametrize("way", ["plain", "login"])
@pytest.mark.parametrize("auth", ["auto", "given"])
async def test_both_mechanisms_work(way: str, auth: str) -> None:
    async with smtp_server(tls="starttls", users=USERS, auth=(way.upper(),)) as server:
        await send(server, auth="auto" if auth == "auto" else way, **LOGIN)
        (mail,) = server.mails
        assert (mail.user, mail.encrypted) == ("mailroom", True)


async def test_a_relay_that_trusts_our_address_needs_no_login() -> None:
    async with smtp_server(tls="none") as server:
        await send(server, tls="none")
        (mail,) = server.mails
        assert (mail.user, mail.encrypted) == (None, False)


async def test_wrong_credentials_are_misconfigured() -> None:
    async with smtp_server(tls="starttls", users=USERS) as server:
        with pytest.raises(Misconfigured, match="credentials invalid") as refused:
            await send(server, username="mailroom", password="wrong one")
        assert refused.value.code == "535 5.7.8"
        assert server.commands["AUTH"] == 1, "another try would only bring a lock-out nearer"


async def test_a_mechanism_that_the_server_does_not_offer_is_tried_if_the_settings_name_it() -> None:
    async with smtp_server(tls="starttls", users=USERS, auth=("LOGIN",)) as server:
        with pytest.raises(Misconfigured, match="it offers: LOGIN"):
            await send(server, auth="plain", **LOGIN)
        assert server.commands["AUTH"] == 1


async def test_a_server_without_any_login_gets_the_mail_without_one() -> None:
    """As by nodemailer; one that requires a login refuses the sender."""
    async with smtp_server(tls="starttls") as server:
        with capture_logs() as logged:
            await send(server, **LOGIN)
        (mail,) = server.mails
        assert (mail.user, mail.encrypted) == (None, True)
        assert [line["event"] for line in logged] == ["smtp.no_login"]


@pytest.mark.parametrize("tls", ["starttls", "opportunistic"])
async def test_a_password_is_not_sent_in_clear_when_starttls_is_missing(by_name: str, tls: str) -> None:
    """An attacker may remove STARTTLS from the reply to EHLO."""
    async with wire_server({"EHLO": "250-wire.test\r\n250 AUTH PLAIN LOGIN"}) as server:
        with pytest.raises(Misconfigured, match="STARTTLS"):
            await send(server, host=by_name, tls=tls, **LOGIN)
        assert "AUTH" not in server.verbs


@pytest.mark.parametrize(
    ("host", "tls"),
    [(NAME, "none"), ("127.0.0.1", "none"), ("127.0.0.1", "opportunistic"), ("localhost", "opportunistic")],
)
async def test_a_password_is_sent_in_clear_with_tls_none(by_name: str, host: str, tls: str) -> None:
    async with smtp_server(tls="none", users=USERS) as server:
        await send(server, host=host, tls=tls, **LOGIN)
        assert server.mails[0].user == "mailroom"


async def test_opportunistic_encrypts_if_the_server_offers_it() -> None:
    async with smtp_server(tls="starttls", users=USERS) as server:
        await send(server, tls="opportunistic", **LOGIN)
        assert server.mails[0].encrypted


async def test_none_does_not_encrypt_even_if_the_server_offers_it() -> None:
    async with smtp_server(tls="starttls") as server:
        await send(server, tls="none", ca_file=None)
        assert not server.mails[0].encrypted


@pytest.mark.parametrize("tls", ["starttls", "implicit", "opportunistic"])
async def test_a_certificate_for_another_name_is_refused(tls: str) -> None:
    offered: Any = "implicit" if tls == "implicit" else "starttls"
    async with smtp_server(tls=offered, users=USERS, certificate_for=("evil.example",)) as server:
        with pytest.raises(Misconfigured, match="certificate"):
            await send(server, tls=tls, **LOGIN)
        assert server.commands["AUTH"] == 0
        await send(server, tls=tls, tls_verify=False, **LOGIN)


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
async def test_a_certificate_of_an_unknown_authority_is_refused(tls: Any) -> None:
    async with smtp_server(tls=tls, users=USERS) as server:
        with trustme.CA().cert_pem.tempfile() as another, pytest.raises(Misconfigured, match="ca_file"):
            await send(server, tls=tls, ca_file=another, **LOGIN)
        with pytest.raises(Misconfigured, match="ca_file"):
            await send(server, tls=tls, ca_file=None, **LOGIN)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ("454 4.7.0 TLS not available", Unavailable),
        ("502 5.5.1 not implemented", Misconfigured),
        (DROP, Unavailable),
    ],
)
async def test_a_refused_encryption(answer: Any, kind: type[SendingError]) -> None:
    async with smtp_server(tls="starttls", users=USERS) as server:
        server.fault("STARTTLS", answer)
        with pytest.raises(kind):
            await send(server, **LOGIN)
        assert server.commands["AUTH"] == 0


async def test_implicit_tls_to_a_starttls_port_is_misconfigured() -> None:
    async with smtp_server(tls="starttls") as server:
        with pytest.raises(Misconfigured, match="do port and tls belong together"):
            await send(server, tls="implicit")


async def test_starttls_to_an_implicit_tls_port_times_out(
    pass_time: Callable[[float], None],
) -> None:
    async with smtp_server(tls="implicit") as server:
        sending = asyncio.create_task(send(server, tls="starttls"))
        while not server.live and not sending.done():
            await asyncio.sleep(0)
            pass_time(1)
        with pytest.raises(Unavailable):
            await sending


@pytest.mark.parametrize("at", ["GREETING", "EHLO", "STARTTLS", "AUTH"])
async def test_a_server_that_stops_responding_before_it_is_ready_is_unavailable(
    at: str, pass_time: Callable[[float], None]
) -> None:
    async with smtp_server(tls="starttls", users=USERS) as server:
        waiting = server.fault(at, HANG)
        sending = asyncio.create_task(send(server, connect_timeout=15, **LOGIN))
        await waiting.wait()
        pass_time(15)
        with pytest.raises(Unavailable, match="not ready for a mail within 15 s"):
            await sending
        await server.left_alone()


@pytest.mark.parametrize("at", ["GREETING", "EHLO", "AUTH"])
@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ("554 5.7.1 not you", Misconfigured),
        ("451 4.3.0 not now", Unavailable),
        ("421 4.3.2 no", Unavailable),
        (DROP, Unavailable),
    ],
)
async def test_a_refusal_before_the_first_mail(at: str, answer: Any, kind: type[SendingError]) -> None:
    async with smtp_server(tls="starttls", users=USERS) as server:
        server.fault(at, answer)
        with pytest.raises(kind) as refused:
            await send(server, **LOGIN)
        if isinstance(answer, str):
            assert refused.value.diagnostic == answer
        await server.left_alone()


@pytest.mark.parametrize("secret", ["hunter22", "aHVudGVyMjI=", "AG1haWxyb29tAGh1bnRlcjIy"])
async def test_credentials_that_a_server_repeats_are_not_recorded(secret: str) -> None:
    assert base64.b64encode(b"hunter22").decode() == "aHVudGVyMjI="
    async with smtp_server(tls="starttls", users=USERS) as server:
        server.fault("AUTH", f"535-5.7.8 not accepted: {secret[:5]}\r\n535 5.7.8 {secret[5:]}, or in full {secret}")
        with pytest.raises(Misconfigured) as refused:
            await send(server, **LOGIN)
        assert secret not in str(refused.value)
        assert refused.value.code == "535 5.7.8"


async def test_the_name_in_ehlo() -> None:
    async with smtp_server() as server:
        await send(server, tls="none", helo_name="mail.acme.example")
        await send(server, tls="none")
        named, unnamed = server.mails
        assert named.helo == "mail.acme.example"
        assert re.fullmatch(r"\[127\.0\.0\.1\]|[\w-]+(\.[\w-]+)+", unnamed.helo)


async def test_mails_are_sent_from_local_address() -> None:
    async with smtp_server() as server:
        await send(server, tls="none", local_address="127.0.0.2")
        assert server.mails[0].peer[0] == "127.0.0.2"


async def test_an_address_of_another_machine_is_misconfigured() -> None:
    async with smtp_server() as server:
        with pytest.raises(Misconfigured, match=r"local_address 203\.0\.113\.9"):
            await send(server, tls="none", local_address="203.0.113.9")


@pytest.mark.parametrize("reason", [socket.EAI_NONAME, socket.EAI_AGAIN])
async def test_a_name_that_cannot_be_resolved_is_unavailable(monkeypatch: pytest.MonkeyPatch, reason: int) -> None:
    """Even a name that does not exist: container networks return that while a relay restarts."""

    def resolve(*_args: Any, **_kwargs: Any) -> Any:
        raise socket.gaierror(reason, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    async with smtp_server() as server:
        with pytest.raises(Unavailable, match=r"smtp\.misspelt\.example:\d+ cannot be resolved"):
            await send(server, host="smtp.misspelt.example")


@pytest.mark.parametrize("tls", ["none", "starttls", "implicit"])
@pytest.mark.parametrize("pipelining", [False, True], ids=["sequential", "pipelined"])
def test_the_same_on_uvloop(tls: Any, pipelining: bool) -> None:  # noqa: FBT001  # a parameter of the test
    """The server runs on uvloop, so the transport that is taken over must be one of its, too."""

    async def main() -> None:
        async with smtp_server(tls=tls, users=USERS, pipelining=pipelining) as server:
            settings = Settings(host=server.host, port=server.port, tls=tls, ca_file=server.ca_file, **LOGIN)
            provider = connect(settings, context())
            for _ in range(3):
                await provider.send(email())
            server.fault("RCPT", "550 5.1.1 no such user", times=1)
            with pytest.raises(SendingError, match="no such user"):
                await provider.send(email())
            await provider.send(email())
            assert server.connections == 1
            server.drop()
            await provider.send(email())
            waiting = server.fault("CONTENT", HANG)
            sending = asyncio.create_task(provider.send(email()))
            await waiting.wait()
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            await server.left_alone()
            server.recover()
            await provider.send(email())
            await provider.aclose()
            await server.left_alone()
            assert [mail.content for mail in server.mails] == [email().raw] * 7

    uvloop.run(main())
