"""Logto's own connector posts, the mail arrives: npm's code → `python server.py` → SMTP with TLS and a login."""

import asyncio
import hmac
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any

import httpx

from mailroom.address import identity
from tests.e2e import node
from tests.e2e.harness import AUTHORIZATION, SIGNING_KEY, Server, configuration, unless
from tests.smtp_server import Received, smtp_server
from tests.smtp_server import Server as SmtpServer

TYPES = (
    "SignIn",
    "Register",
    "ForgotPassword",
    "OrganizationInvitation",
    "Generic",
    "UserPermissionValidation",
    "BindNewIdentifier",
    "MfaVerification",
    "BindMfa",
    "ATypeThatLogtoWillHaveOneDay",
)
LINK = "https://riverside.example/join?token=k3yT0k3n"

needs_node = unless(node.missing())


@asynccontextmanager
async def mailroom(directory: Path) -> AsyncIterator[tuple[Server, SmtpServer]]:
    """Run the server, and the SMTP server that it sends to: STARTTLS and a required login."""
    async with smtp_server(tls="starttls", users={"mailroom": "a pass word"}) as smtp:
        provider = f"""\
type = "smtp"
host = "127.0.0.1"
port = {smtp.port}
ca_file = "{smtp.ca_file}"
username = "mailroom"
password = "a pass word"
"""
        async with Server(directory, configuration(provider)) as server:
            yield server, smtp


def request(kind: str, number: int) -> dict[str, Any]:
    """Return what Logto passes to its connector, as in the captures; each with its own recipient and code."""
    payload: dict[str, Any] = {"code": f"{314159 + number:06d}", "locale": "en"}
    if kind == "OrganizationInvitation":
        payload = {"link": LINK, "organization": {"id": "o1", "name": "Riverside"}, "inviter": {"name": None}}
    return {"to": f"ada+{number}@example.com", "type": kind, "payload": payload, "ip": "203.0.113.7"}


def parsed(received: Received) -> tuple[str, str, str]:
    """Return the mail's subject, text and HTML."""
    mail = message_from_bytes(received.content, EmailMessage, policy=default)
    parts = [mail.get_body((kind,)) for kind in ("plain", "html")]
    text, html = (part.get_content() if isinstance(part, EmailMessage) else "" for part in parts)
    return str(mail["Subject"]), text, html


@needs_node
async def test_every_type_arrives(tmp_path: Path) -> None:
    """Every mail that the connector reports as sent is delivered with its code, over TLS and after a login."""
    requests = {sent["to"]: sent for sent in (request(kind, number) for number, kind in enumerate(TYPES))}

    async with mailroom(tmp_path) as (server, smtp), node.connector() as logto:
        answers = await asyncio.gather(
            *(logto.send(f"{server.url}/email", AUTHORIZATION, sent) for sent in requests.values())
        )
        mails = await smtp.received(len(TYPES), within=20)

    assert [answer.status for answer in answers] == [httpx.codes.OK] * len(TYPES)
    assert len({json.loads(answer.body)["id"] for answer in answers}) == len(TYPES)
    assert sorted(mail.recipient for mail in mails) == sorted(requests)
    for mail in mails:
        assert mail.encrypted
        assert mail.user == "mailroom"
        assert mail.sender == "no-reply@acme.example"
        subject, text, html = parsed(mail)
        sent = requests[mail.recipient]
        if sent["type"] == "OrganizationInvitation":
            assert "Riverside" in subject
            assert LINK in text
            assert f'href="{LINK}"' in html
        else:
            code = sent["payload"]["code"]
            assert code in subject
            assert code in text
            assert code in html


@needs_node
async def test_unusual_addresses_arrive(tmp_path: Path) -> None:
    """As they are typed into Logto, and as envelope and header write them."""
    addresses = {
        "a..b@docomo.example": '"a..b"@docomo.example',
        "a.@docomo.example": '"a."@docomo.example',
        '"a@b"@reader.example': '"a@b"@reader.example',
        "ada@my_mail.example": "ada@my_mail.example",
        "ada@i❤.example": "ada@xn--i-7iq.example",
    }

    async with mailroom(tmp_path) as (server, smtp), node.connector() as logto:
        for number, to in enumerate(addresses):
            answer = await logto.send(f"{server.url}/email", AUTHORIZATION, {**request("SignIn", number), "to": to})
            assert answer.ok, answer.message
        mails = await smtp.received(len(addresses), within=20)

    assert {identity(mail.recipient) for mail in mails} == {identity(to) for to in addresses}  # aiosmtpd unquotes some
    assert {_header(mail.content, b"To") for mail in mails} == {*addresses.values()}


def _header(content: bytes, name: bytes) -> str:
    [value] = re.findall(rb"^" + name + rb": (.+)\r$", content, re.MULTILINE)
    return str(value.decode())


@needs_node
async def test_a_wrong_authorization_gets_an_error_response(tmp_path: Path) -> None:
    """Nothing is sent, and the connection is not dropped: Logto would show the code to the end user."""
    async with mailroom(tmp_path) as (server, smtp), node.connector() as logto:
        refused = await logto.send(f"{server.url}/email", "Bearer somebody else", request("SignIn", 1))
        accepted = await logto.send(f"{server.url}/email", AUTHORIZATION, request("SignIn", 2))
        mails = await smtp.received(1)

    assert not refused.ok
    assert refused.dropped == ""
    assert refused.message == "The mail server did not accept the authorization."
    assert accepted.ok
    assert accepted.reused
    assert [mail.recipient for mail in mails] == ["ada+2@example.com"]


@needs_node
async def test_too_many_codes_are_told_in_our_words(tmp_path: Path) -> None:
    """Of many clicks at once exactly the limit is sent, and the others' end users read a plain sentence."""
    directory, limit = tmp_path, 3
    async with smtp_server() as smtp, node.connector() as logto:
        settings = configuration(f'type = "smtp"\nhost = "127.0.0.1"\nport = {smtp.port}\ntls = "none"')
        settings = f'supersede = false\n{settings}\n[limits]\nrecipient = "{limit}/10m"\n'
        async with Server(directory, settings) as server:
            clicks = [request("SignIn", number) | {"to": "ada@example.com"} for number in range(20)]
            answers = await asyncio.gather(
                *(logto.send(f"{server.url}/email", AUTHORIZATION, click) for click in clicks)
            )
            mails = await smtp.received(limit)
            refused = [answer for answer in answers if not answer.ok]

    assert len(mails) == limit
    assert len(refused) == len(clicks) - limit
    sentence = "Too many codes were requested for this address. Please try again in a few minutes."
    assert {(answer.message, answer.dropped, answer.leaked) for answer in refused} == {(sentence, "", False)}
    assert "ada@" not in server.log()


async def test_a_new_user_is_welcomed_once(tmp_path: Path) -> None:
    """A signed `User.Created` sends a Welcome to the address in it; the same event again does not."""
    event = {
        "event": "User.Created",
        "createdAt": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "interactionEvent": "Register",
        "application": {"id": "x42ogopvrdataet06r5rt", "type": "SPA", "name": "Riverside Web"},
        "data": {"id": "cpjhvhx62u6p", "primaryEmail": "ada@example.com", "name": "Ada", "profile": {}},
        "hookId": "eup12iqgdh5b58v5chpf1",
    }
    body = json.dumps(event).encode()
    signature = hmac.new(SIGNING_KEY.encode(), body, "sha256").hexdigest()
    headers = {"logto-signature-sha-256": signature, "content-type": "application/json"}

    async with mailroom(tmp_path) as (server, smtp), httpx.AsyncClient(base_url=server.url, trust_env=False) as logto:
        answers = [await logto.post("/webhook", content=body, headers=headers) for _ in range(2)]
        forged = await logto.post("/webhook", content=body.replace(b"ada@", b"eve@"), headers=headers)
        # Codes do not overtake mails that were sent before: once it has arrived, a second welcome would have, too.
        code = await logto.post("/email", json=request("SignIn", 1), headers={"authorization": AUTHORIZATION})
        mails = await smtp.received(2)

    assert [answer.status_code for answer in answers] == [httpx.codes.OK] * 2
    assert forged.status_code == httpx.codes.UNAUTHORIZED
    assert code.status_code == httpx.codes.OK
    assert sorted(mail.recipient for mail in mails) == ["ada+1@example.com", "ada@example.com"]
    welcome = next(mail for mail in mails if mail.recipient == "ada@example.com")
    subject, text, html = parsed(welcome)
    assert "Welcome" in subject
    assert text
    assert "<html" in html
