"""Deviating SMTP servers, with our client and with Logto's connector, which operators used before.

Where npm's @logto/connector-smtp (nodemailer) sends, we must. What is still missing is a strict xfail with its reason.
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
from tests.providers.smtp.scripted_server import PASSWORD, USERNAME, Script, scripted_smtp

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
    missing: str = ""
    """Why we do not send yet."""


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
        settings={**_LOGIN, "auth": "plain"},
        theirs=False,  # its settings do not reach nodemailer's forceAuth
    ),
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
    Row(
        "refuses the recipient",
        Script(replies={"RCPT": "550 5.1.1 no such user"}),
        "RFC 3463",
        theirs=False,
        ours=False,
    ),
]


def _named(row: Row) -> Any:
    marks = [pytest.mark.xfail(strict=True, reason=row.missing)] if row.missing else []
    return pytest.param(row, marks=marks, id=row.name)


@pytest.mark.parametrize("row", [_named(row) for row in ROWS])
async def test_we_send(row: Row) -> None:
    """No mail arrives twice, and no server logs our password as a user name."""
    async with scripted_smtp(row.script) as seen:
        settings = {"host": "127.0.0.1", "port": seen.port, "tls": "none", "timeout": _SECONDS, **row.settings}
        provider = connect(Settings.model_validate(settings), context())
        sent = [await _sent(provider, row.to) for _ in range(_MAILS)]
        await provider.aclose()
    assert sent == [row.ours] * _MAILS
    assert len(seen.recipients) == (_MAILS if row.ours else 0)
    assert not seen.refused_logins


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
    return {"config": config, "to": row.to, "mails": _MAILS}


async def _sent(provider: Any, to: str) -> bool:
    for _ in range(_TRIES):
        try:
            await provider.send(email(to))
        except SendingError:
            continue
        return True
    return False
