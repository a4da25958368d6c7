"""Deviating SMTP servers, with our client and with Logto's connector, which operators used before.

Where npm's @logto/connector-smtp (nodemailer) sends, we must.
"""

import asyncio
import contextlib
import json
from dataclasses import dataclass, field
from typing import Any, Final

import pytest

from mailroom.errors import SendingError
from mailroom.providers import connect
from mailroom.providers.smtp.smtp_provider import Settings
from tests.e2e import node
from tests.e2e.harness import ROOT, unless
from tests.mails import email
from tests.providers.contract import context
from tests.providers.smtp.scripted_server import HANG_UP, PASSWORD, SILENT, USERNAME, Script, scripted_smtp

_MAILS: Final = 2
"""The second one is sent over the same connection, if the client reuses it."""
_TRIES: Final = 2
"""The courier would try again within seconds."""
_SECONDS: Final = 2.0
"""Far more than a mail over loopback takes."""


@dataclass(frozen=True, slots=True)
class Row:
    """A server, and whether each client sends by it."""

    name: str
    script: Script
    source: str
    """Where it was seen."""
    to: str = "ada@reader.example"
    settings: dict[str, Any] = field(default_factory=dict)
    theirs: bool = True
    """Whether Logto's connector sends."""
    ours: bool = True
    copies: int = 0
    """How many mails the server took without saying so."""


_HURRIED: Final = {"timeout": 0.5}
_LOGIN: Final = {"username": USERNAME, "password": PASSWORD}
ROWS: Final = [
    Row("follows the RFCs", Script(), "RFC 5321"),
    Row("speaks no ESMTP", Script(ehlo="502 Command not implemented"), "RFC 5321 §3.2", theirs=False),
    Row("greets in several lines", Script(greeting="220-quirk.test\r\n220-no spam\r\n220 ESMTP"), "RFC 5321 §4.2"),
    Row("offers nothing", Script(extensions=()), "RFC 5321 §4.1.1.1"),
    Row("does not know RSET", Script(replies={"RSET": "502 5.5.1 Command not implemented"}), "seen on appliances"),
    Row("says 421 to QUIT", Script(replies={"QUIT": "421 4.4.2 Timeout"}), "seen on appliances"),
    Row("AUTH PLAIN", Script(logins=("PLAIN",)), "RFC 4616", settings=_LOGIN),
    Row("AUTH LOGIN", Script(logins=("LOGIN",)), "Microsoft", settings=_LOGIN),
    Row(
        "AUTH LOGIN, asks for the username all the same",
        Script(logins=("LOGIN",), ignores_initial_response=True),
        "go-simple-mail#119, OpenSMTPD#422",
        settings=_LOGIN,
    ),
    Row(
        "AUTH PLAIN, answered by an empty 334",
        Script(logins=("PLAIN",), asks_for_plain=True),
        "go-simple-mail#119",
        settings=_LOGIN,
        theirs=False,
    ),
    Row(
        "AUTH not advertised",
        Script(logins=("PLAIN", "LOGIN"), hides_logins=True),
        "nodemailer#1081",
        settings=_LOGIN,
        theirs=False,  # its settings do not reach nodemailer's forceAuth
    ),
    Row(
        "AUTH not known, credentials in the settings",
        Script(replies={"AUTH": "502 5.5.1 not implemented"}),
        "relays that trust our address",
        settings=_LOGIN,
    ),
    Row(
        "AUTH refused and not advertised, credentials in the settings",
        Script(replies={"AUTH": "535 5.7.8 no"}),
        "relays that trust our address",
        settings=_LOGIN,
    ),
    Row(
        "AUTH NTLM advertised, takes PLAIN",
        Script(extensions=("AUTH NTLM",), logins=("PLAIN",)),
        "Exchange",
        settings=_LOGIN,
    ),
    Row("AUTH in lower case", Script(extensions=("auth login",), logins=("LOGIN",)), "RFC 5321 §2.4", settings=_LOGIN),
    Row(
        "AUTH CRAM-MD5 only",
        Script(logins=("CRAM-MD5",)),
        "PHPMailer#3136",
        settings=_LOGIN,
    ),
    Row(
        "AUTH= as Outlook Express wanted it",
        Script(extensions=("AUTH=LOGIN PLAIN",), logins=("PLAIN", "LOGIN")),
        "old Exchange",
        settings=_LOGIN,
    ),
    Row(
        "offers CHUNKING, BDAT is unknown",
        Script(extensions=("PIPELINING", "CHUNKING"), replies={"BDAT": "500 5.5.2 unrecognized command"}),
        "Mailu#1766",
    ),
    Row(
        "offers CHUNKING, hangs up at BDAT",
        Script(extensions=("PIPELINING", "CHUNKING"), replies={"BDAT": ""}),
        "Mailu#1766",
    ),
    Row(
        "offers CHUNKING, does not reply to BDAT",
        Script(extensions=("PIPELINING", "CHUNKING"), replies={"BDAT": SILENT}),
        "Mailu#1766",
        settings=_HURRIED,
    ),
    Row("offers PIPELINING, forgets the command before", Script(refuses_pipelined=True), "MailKit#587"),
    Row(
        "offers PIPELINING and CHUNKING, loses what came with the first command",
        Script(extensions=("PIPELINING", "CHUNKING"), loses_pipelined=True),
        "MailKit#587",
        settings=_HURRIED,
    ),
    Row(
        "offers PIPELINING, loses what came with the first command",
        Script(loses_pipelined=True),
        "MailKit#587",
    ),
    Row(
        "sends an empty line before the last reply",
        Script(blank_line=True),
        "PHPMailer#1072",
        theirs=False,
    ),
    Row("two dots in the local part", Script(), "kumomta#77", to="a..b@docomo.example"),
    Row("a dot at the local part's end", Script(), "PHPMailer#418", to="a.@docomo.example"),
    Row("an underscore in the domain", Script(), "Logto's pattern", to="ada@my_mail.example"),
    Row("SMTPUTF8", Script(extensions=("SMTPUTF8",)), "RFC 6531", to="jörg@reader.example"),
    Row("no SMTPUTF8", Script(), "RFC 6531 §3.2", to="jörg@reader.example", theirs=False, ours=False),
    Row(
        "SIZE too small",
        Script(extensions=("SIZE 100",), replies={"CONTENT": "552 5.3.4 Message size exceeds fixed limit"}),
        "keycloak#41023",
        theirs=False,
        ours=False,
    ),
    Row("replies without a text", Script(replies=dict.fromkeys(("MAIL", "CONTENT"), "250")), "RFC 5321 §4.2"),
    Row("ends lines by LF", Script(line_end="\n"), "seen on appliances"),
    Row("takes one mail a connection", Script(one_mail=True), "seen on appliances"),
    Row(
        "wants a full host name",
        Script(wants_full_name=True),
        "zitadel#4477, authelia#1146",
        settings={"helo_name": "mail.acme.example"},
    ),
    Row(
        "too many connections at first",
        Script(once={"CONTENT": "432 4.3.2 Concurrent connections limit exceeded"}),
        "fastapi-mail#75, nodemailer#1613",
        theirs=False,
    ),
    Row("greylists", Script(once={"RCPT": "450 4.2.0 Greylisted"}), "RFC 6647", theirs=False),
    Row(
        "takes the mail and hangs up",
        Script(replies={"CONTENT": HANG_UP}),
        "freescout#5457, kratos#3175",
        theirs=False,
        ours=False,
        copies=_MAILS * _TRIES,
    ),
    Row(
        "takes the mail and says nothing",
        Script(replies={"CONTENT": SILENT}),
        "freescout#5457, kratos#3175",
        settings=_HURRIED,
        theirs=False,
        ours=False,
        copies=_MAILS * _TRIES,
    ),
    Row(
        "refuses the recipient",
        Script(replies={"RCPT": "550 5.1.1 no such user"}),
        "RFC 3463",
        theirs=False,
        ours=False,
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
async def test_we_send(row: Row) -> None:
    """No mail arrives twice, and no server logs our password as a user name."""
    async with scripted_smtp(row.script) as seen:
        settings = {"host": "127.0.0.1", "port": seen.port, "tls": "none", "timeout": _SECONDS, **row.settings}
        provider = connect(Settings.model_validate(settings), context())
        sent = [await _sent(provider, row.to) for _ in range(_MAILS)]
        await provider.aclose()
    assert sent == [row.ours] * _MAILS
    assert len(seen.recipients) == (_MAILS if row.ours else row.copies)
    assert not seen.refused_logins


def test_we_send_wherever_logtos_connector_does() -> None:
    """The table has no other row."""
    assert not [row.name for row in ROWS if row.theirs and not row.ours]


@unless(node.missing())
async def test_logtos_connector_sends_as_the_table_says() -> None:
    """Our own expected result."""
    async with contextlib.AsyncExitStack() as servers:
        ports = [(await servers.enter_async_context(scripted_smtp(row.script))).port for row in ROWS]
        orders = [_order(row, port) for row, port in zip(ROWS, ports, strict=True)]
        process = await asyncio.create_subprocess_exec(
            "node",
            "smtp_send.mjs",
            json.dumps(orders),
            cwd=ROOT / "tests" / "node",
            stdout=asyncio.subprocess.PIPE,
        )
        told = json.loads((await process.communicate())[0])
    sends = {row.name: (one["sent"] == _MAILS, one["error"]) for row, one in zip(ROWS, told, strict=True)}
    wrong = {row.name: sends[row.name] for row in ROWS if sends[row.name][0] is not row.theirs}
    assert not wrong


def _order(row: Row, port: int) -> dict[str, Any]:
    login = {"user": row.settings.get("username", ""), "pass": row.settings.get("password", "")}
    config = {
        "host": "127.0.0.1",
        "port": port,
        "auth": {"type": "login", **login},
        "fromEmail": "no-reply@acme.example",
        "ignoreTLS": True,
        "socketTimeout": 5000,
    }
    if name := row.settings.get("helo_name"):
        config["name"] = name
    return {"config": config, "to": row.to, "mails": _MAILS}


async def _sent(provider: Any, to: str) -> bool:
    for _ in range(_TRIES):
        try:
            await provider.send(email(to))
        except SendingError:
            continue
        return True
    return False
