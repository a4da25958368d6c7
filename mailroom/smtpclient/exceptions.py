"""The errors of this library. They carry facts; the caller decides whether mail, settings or server are at fault.

SmtpError
├── ConnectionFailed         no connection, or no TLS: `where`, `cause`
├── ProxyRefused             the proxy opens no tunnel: `scheme`, `code`, `text`
├── ConnectionLost           the connection ended, or what came over it is not SMTP: `command`, `text`
├── ReplyError               the server refused: `command`, `code`, `enhanced_code`, `text`
│   └── ExtensionBroken      the reply shows that an offered extension does not work: `extension`
├── NotOffered               the server does not offer an extension: `extension`, `wanted`, `offered`
├── TooLarge                 the mail is larger than the server's SIZE: `octets`, `limit`
├── TimedOut                 no reply within `seconds`: `step`
└── PoolClosed               `Pool.aclose` was called
"""

from typing import Literal, TypeAlias

from mailroom.smtpclient.reply import Command, Reply
from mailroom.smtpclient.time_limits import Step

Extension: TypeAlias = Literal["PIPELINING", "CHUNKING"]
"""What makes sending faster, and can be left out (RFC 2920, RFC 3030)."""


class SmtpError(Exception):
    """Base of all errors below."""

    handed_over = False
    """Whether the server may have taken the mail."""


class ConnectionFailed(SmtpError):
    """The connection, or TLS on it, failed."""

    def __init__(self, where: str, cause: OSError) -> None:
        super().__init__(f"cannot connect to {where}: {cause}")
        self.where = where
        """`smtp.acme.example:587`, `the proxy proxy.acme.example:1080`."""
        self.cause = cause
        """The system's error, such as `socket.gaierror` and `ssl.SSLError`."""


class ProxyRefused(SmtpError):
    """The proxy opens no tunnel."""

    def __init__(self, scheme: str, text: str, code: int | None = None) -> None:
        super().__init__(f"the proxy opens no tunnel: {text}")
        self.scheme = scheme
        """`http`, `https`, `socks5`."""
        self.text = text
        self.code = code
        """The HTTP status, or SOCKS5's reply (RFC 1928 §6); None for a refused login or a malformed response."""


class ConnectionLost(SmtpError):
    """The connection ended instead of a reply."""

    def __init__(self, command: Command, text: str) -> None:
        super().__init__(f"{text}, at {command}")
        self.command = command
        self.text = text


class ReplyError(SmtpError):
    """The server's reply is not the expected one."""

    def __init__(self, command: Command, reply: Reply) -> None:
        super().__init__(f"{command}: {reply.code} {reply.text}")
        self.command = command
        self.reply = reply
        self.code = reply.code
        self.enhanced_code = reply.enhanced_code
        self.text = reply.text

    @property
    def ends_connection(self) -> bool:
        """Whether the server closes the connection (RFC 5321 §3.8), or may still have an earlier mail's envelope."""
        return self.reply.closes_connection or self.command is Command.RSET


class ExtensionBroken(ReplyError):
    """The server offers an extension that does not work; a proxy may pass on the offer of the server behind it."""

    def __init__(self, extension: Extension, command: Command, reply: Reply) -> None:
        super().__init__(command, reply)
        self.extension = extension


class NotOffered(SmtpError):
    """The server's reply to EHLO lacks an extension that is needed."""

    def __init__(self, extension: str, *, wanted: str = "", offered: str = "") -> None:
        super().__init__(f"the server does not offer {extension} {wanted}".rstrip())
        self.extension = extension
        """`STARTTLS`, `AUTH`, `SMTPUTF8`."""
        self.wanted = wanted
        """Which part of it: `PLAIN or LOGIN`, `for the recipient`."""
        self.offered = offered
        """What the server offers instead, as it wrote it."""


class TooLarge(SmtpError):
    """The mail is larger than the server's SIZE (RFC 1870)."""

    def __init__(self, octets: int, limit: int) -> None:
        super().__init__(f"the mail has {octets} octets, the server takes at most {limit}")
        self.octets = octets
        self.limit = limit


class TimedOut(SmtpError):
    """A time limit was reached."""

    def __init__(self, step: Step, seconds: float, *, handed_over: bool = False) -> None:
        super().__init__(f"no answer from the server within {seconds:g} s, at {step}")
        self.step = step
        self.seconds = seconds
        self.handed_over = handed_over


class PoolClosed(SmtpError):
    """The pool was closed."""
