"""An SMTP client for asyncio that sends many mails fast: one round trip a mail where the server allows it.

    server = Server("smtp.acme.example", 587)
    login = Login("ada", "secret")
    pool = Pool(lambda progress: open_session(server, login, progress), size=10, limits=TimeLimits(total=30))
    try:
        reply = await pool.send(Mail("no-reply@acme.example", "ada@reader.example", content))
    except ReplyError as error:
        print(error.command, error.code, error.enhanced_code, error.text)
    except SmtpError as error:
        print(error, "perhaps sent" if error.handed_over else "not sent")
    await pool.aclose()

`open_session` connects (happy eyeballs, RFC 8305; through a proxy: `Server.proxy_url`), encrypts, sends EHLO and logs
in. A session sends a mail to one recipient in four round trips, with PIPELINING (RFC 2920) in two, with CHUNKING
(RFC 3030) too in one, and stays open for the next mail. `DkimSigner` signs mails for relays that do not sign.

Errors say what happened, and whether the server may have taken the mail: see `exceptions`. A mail is tried again only
after an idle session that the server closed, and without an extension that the server's reply shows to be broken. The
pool does not use such an extension for hours, nor one with which the first mail of a session got no reply.

Needs aiohappyeyeballs and cryptography; python-socks for proxies. It imports nothing else of Mailroom.
"""

from mailroom.smtpclient.dkim_signer import DkimSigner
from mailroom.smtpclient.exceptions import (
    ConnectionFailed,
    ConnectionLost,
    Extension,
    ExtensionBroken,
    NotOffered,
    PoolClosed,
    ProxyRefused,
    ReplyError,
    SmtpError,
    TimedOut,
    TooLarge,
)
from mailroom.smtpclient.handshake import Login
from mailroom.smtpclient.opening import Server, open_session
from mailroom.smtpclient.pool import Pool
from mailroom.smtpclient.reply import Command, Reply
from mailroom.smtpclient.session import Mail, Session
from mailroom.smtpclient.time_limits import Step, TimeLimits
from mailroom.smtpclient.transactions import Progress

__all__ = [
    "Command",
    "ConnectionFailed",
    "ConnectionLost",
    "DkimSigner",
    "Extension",
    "ExtensionBroken",
    "Login",
    "Mail",
    "NotOffered",
    "Pool",
    "PoolClosed",
    "Progress",
    "ProxyRefused",
    "Reply",
    "ReplyError",
    "Server",
    "Session",
    "SmtpError",
    "Step",
    "TimeLimits",
    "TimedOut",
    "TooLarge",
    "open_session",
]
