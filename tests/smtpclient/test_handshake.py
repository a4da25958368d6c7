"""Greeting, EHLO, STARTTLS and login."""

import base64
import socket
from typing import Any

import pytest

from mailroom.smtpclient import Command, ConnectionLost, Login, NotOffered, ReplyError
from mailroom.smtpclient.connection import Connection
from tests.smtp_server import smtp_server
from tests.smtpclient.pools import mail, pool_of
from tests.wire_server import wire_server

ADA = Login("ada", "hunter22")


async def send(server: Any, login: Login | None = None, **options: Any) -> None:
    """Send a mail over a new connection."""
    async with pool_of(server, login, **options) as pool:
        await pool.send(mail())


async def test_an_old_server_is_greeted_by_helo() -> None:
    async with wire_server({"EHLO": "502 5.5.1 what?", "HELO": "250 old.test"}) as server:
        await send(server)
        assert server.verbs[:3] == ["EHLO", "HELO", "MAIL"]
        assert server.lines[2] == b"MAIL FROM:<no-reply@acme.example>"


@pytest.mark.parametrize(
    ("name", "said"), [("app-7f9c", "[127.0.0.1]"), ("app.acme.example", "app.acme.example"), ("a b.c", "[127.0.0.1]")]
)
async def test_a_machine_without_a_full_name_sends_its_address(
    monkeypatch: pytest.MonkeyPatch, name: str, said: str
) -> None:
    """RFC 5321 §4.1.4; containers are called by hexadecimal numbers, which servers refuse as names."""
    monkeypatch.setattr(socket, "gethostname", lambda: name)
    async with smtp_server() as server:
        await send(server)
        await send(server, helo_name="mail.acme.example")
        assert [received.helo for received in server.mails] == [said, "mail.acme.example"]


@pytest.mark.parametrize("injected", ["250 2.0.0 and a reply of mine", "250-half a reply of mine", "mine"])
async def test_replies_in_clear_after_starttls_are_not_read(injected: str) -> None:
    """An attacker may add it; it would be read as if it had been encrypted (CVE-2011-0411)."""
    replies = {"EHLO": "250-wire.test\r\n250 STARTTLS", "STAR": f"220 2.0.0 go\r\n{injected}"}
    async with wire_server(replies) as server:
        with pytest.raises(ConnectionLost, match=r"out of turn|not SMTP"):
            await send(server, ADA, tls="starttls")
        assert server.verbs == ["EHLO", "STAR"]


@pytest.mark.parametrize(
    ("offer", "mechanisms", "sent"),
    [
        ("AUTH=PLAIN LOGIN", ("PLAIN", "LOGIN"), b"AUTH PLAIN AGFkYQBodW50ZXIyMg=="),
        ("AUTH LOGIN\r\n250-AUTH=PLAIN", ("PLAIN", "LOGIN"), b"AUTH PLAIN AGFkYQBodW50ZXIyMg=="),
        ("auth plain", ("LOGIN", "PLAIN"), b"AUTH PLAIN AGFkYQBodW50ZXIyMg=="),
        ("AUTH PLAIN LOGIN", ("LOGIN",), b"AUTH LOGIN"),
        ("AUTH CRAM-MD5 NTLM", ("PLAIN", "LOGIN", "CRAM-MD5"), b"AUTH CRAM-MD5"),
        ("AUTH NTLM", ("PLAIN", "LOGIN", "CRAM-MD5"), b"AUTH PLAIN AGFkYQBodW50ZXIyMg=="),
        ("HELP", ("CRAM-MD5",), b"AUTH CRAM-MD5"),
        ("AUTH XOAUTH2", ("XOAUTH2",), b"AUTH XOAUTH2 " + base64.b64encode(b"user=ada\1auth=Bearer hunter22\1\1")),
    ],
)
async def test_the_first_mechanism_that_is_offered_is_used_else_the_first(
    offer: str, mechanisms: tuple[str, ...], sent: bytes
) -> None:
    async with wire_server({"EHLO": f"250-wire.test\r\n250-{offer}\r\n250 HELP", "AUTH": "235 2.7.0 hello"}) as server:
        await send(server, Login("ada", "hunter22", mechanisms))
        assert server.lines[1] == sent


async def test_a_server_that_refuses_a_mechanism_it_does_not_offer_lacks_it() -> None:
    replies = {"EHLO": "250-wire.test\r\n250 AUTH NTLM", "AUTH": "504 5.5.4 Unrecognized authentication type"}
    async with wire_server(replies) as server:
        with pytest.raises(NotOffered) as caught:
            await send(server, Login("ada", "hunter22", ("PLAIN", "LOGIN")))
        error = caught.value
        assert (error.extension, error.wanted, error.offered) == ("AUTH", "PLAIN or LOGIN", "NTLM")


@pytest.mark.parametrize("reply", ["500 what?", "502 5.5.1 not here", "503 5.5.1 not enabled", "535 5.7.8 no"])
async def test_a_server_without_any_login_gets_the_mail_without_one(reply: str) -> None:
    """A relay that trusts our address; nodemailer sends, too."""
    async with wire_server({"AUTH": reply}) as server, pool_of(server, ADA) as pool:
        await pool.send(mail())
        assert not await pool.verify()
        assert server.verbs[:3] == ["EHLO", "AUTH", "MAIL"]


async def test_a_refused_token_is_no_missing_login() -> None:
    """It is replaced, and the login tried again."""
    async with wire_server({"AUTH": "535 5.7.8 Authentication failed"}) as server:
        with pytest.raises(ReplyError) as caught:
            await send(server, Login("ada", "token", ("XOAUTH2",)))
        assert (caught.value.command, caught.value.code) == (Command.AUTH, 535)


async def test_no_password_is_sent_in_clear_over_a_network_to_a_server_that_offers_no_login(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It may hide AUTH until the connection is encrypted. The server here is on this machine, so that is pretended."""
    monkeypatch.setattr(Connection, "is_private", False)
    async with wire_server({"AUTH": "235 2.7.0 welcome"}) as server, pool_of(server, ADA) as pool:
        await pool.send(mail())
        assert "AUTH" not in server.verbs


async def test_a_login_that_was_not_offered_and_fails_for_now_is_a_refusal() -> None:
    async with wire_server({"AUTH": "454 4.7.0 Temporary authentication failure"}) as server:
        with pytest.raises(ReplyError) as caught:
            await send(server, ADA)
        assert (caught.value.command, caught.value.code) == (Command.AUTH, 454)


@pytest.mark.parametrize(
    ("challenges", "responses"),
    [
        ([b"Username:", b"Password:"], ["ada", "hunter22"]),
        ([b"User Name\0", b"PASSWORD\0"], ["ada", "hunter22"]),
        ([b"Password:", b"Username:"], ["hunter22", "ada"]),
        ([b"", b""], ["ada", "hunter22"]),
        ([b"Benutzer", b"Kennwort"], ["ada", "hunter22"]),
        ([b"Username:", b"Username:"], ["ada", "ada"]),
    ],
)
def test_login_answers_what_is_asked(challenges: list[bytes], responses: list[str]) -> None:
    """The password is never sent where a user name is asked for: servers log those."""
    assert [ADA.response("LOGIN", challenge, number) for number, challenge in enumerate(challenges)] == responses


def test_cram_md5_answers_as_the_rfc() -> None:
    login = Login("tim", "tanstaaftanstaaf")  # RFC 2195 §2
    challenge = b"<1896.697170952@postoffice.reston.mci.net>"
    assert login.response("CRAM-MD5", challenge, 0) == "tim b913a602c7eda7a495b4e6e7334d3890"


async def test_a_server_that_asks_without_end_is_refused() -> None:
    async with wire_server({"AUTH": "334 not base64!"}) as server:
        server.answers |= dict.fromkeys(("YWRH", "AHVU"), "334 ")
        with pytest.raises(ReplyError):
            await send(server, Login("ada", "hunter22", ("LOGIN",)))
        assert server.verbs[-4:] == ["AUTH", "YWRH", "AHVU", "AHVU"]


@pytest.mark.parametrize("tls", ["starttls", "opportunistic"])
async def test_no_password_in_clear_without_starttls(monkeypatch: pytest.MonkeyPatch, tls: str) -> None:
    """An attacker may remove STARTTLS from the reply to EHLO."""
    usual = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda _host, *args, **named: usual("127.0.0.1", *args, **named))
    async with wire_server({"EHLO": "250-wire.test\r\n250 AUTH PLAIN LOGIN"}) as server:
        with pytest.raises(NotOffered, match="STARTTLS"):
            await send(server, ADA, host="mail.acme.example", tls=tls)
        assert "AUTH" not in server.verbs


@pytest.mark.parametrize("repeated", ["hunter22", "aHVudGVyMjI=", "AGFkYQBodW50ZXIyMg=="])
async def test_a_refusal_that_repeats_the_password_is_withheld(repeated: str) -> None:
    replies = {
        "EHLO": "250-wire.test\r\n250 AUTH PLAIN",
        "AUTH": f"535-5.7.8 you said {repeated[:5]}\r\n535 5.7.8 {repeated[5:]}, or in full {repeated}",
    }
    async with wire_server(replies) as server:
        with pytest.raises(ReplyError) as caught:
            await send(server, ADA)
        error = caught.value
        assert (error.command, error.code, error.enhanced_code) == (Command.AUTH, 535, "5.7.8")
        assert "withheld" in error.text
        assert repeated not in str(error)


def test_a_password_is_not_shown() -> None:
    assert "hunter22" not in repr(ADA)


@pytest.mark.parametrize("verb", ["GREETING", "EHLO"])
async def test_a_refusal_has_its_command(verb: str) -> None:
    async with wire_server({verb: "554 5.7.1 not you"}) as server:
        with pytest.raises(ReplyError) as caught:
            await send(server)
        assert (caught.value.command.upper(), caught.value.text) == (verb, "5.7.1 not you")
