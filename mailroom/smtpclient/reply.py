"""One reply of an SMTP server (RFC 5321 §4.2), and the command that it answers.

reply = Reply(550, ("5.1.1 <ada@reader.example>: User unknown",))
reply.enhanced_code    # "5.1.1"
reply.is_positive      # False
"""

import re
from enum import StrEnum
from typing import Final, NamedTuple

_POSITIVE: Final = range(200, 300)
_SERVICE_CLOSING: Final = 421
_ENHANCED: Final = re.compile(r"(?:[245]\d\d[\s-]+)?#?([245]\.\d{1,3}\.\d{1,3})(?:[\s:]|\Z)")
"""Some servers write the code again, or a `#`, before the enhanced one."""


class Command(StrEnum):
    """What a reply answers."""

    GREETING = "greeting"
    """The connection itself."""
    EHLO = "EHLO"
    """Or HELO."""
    STARTTLS = "STARTTLS"
    AUTH = "AUTH"
    NOOP = "NOOP"
    RSET = "RSET"
    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"
    CONTENT = "content"
    """The mail itself, up to the final dot or by BDAT."""


class Reply(NamedTuple):
    """A code and its lines, which are kept without it."""

    code: int
    lines: tuple[str, ...] = ()

    @property
    def is_positive(self) -> bool:
        """Whether the command was carried out: 2xx."""
        return self.code in _POSITIVE

    @property
    def closes_connection(self) -> bool:
        """Whether the server closes the connection, whatever it was asked (RFC 5321 §3.8)."""
        return self.code == _SERVICE_CLOSING

    @property
    def enhanced_code(self) -> str:
        """The first enhanced status code (RFC 3463), `5.1.1`; empty if there is none."""
        for line in self.lines:
            if found := _ENHANCED.match(line):
                return found[1]
        return ""

    @property
    def text(self) -> str:
        """The lines, separated by line feeds. It is the server's: of any length, with any character."""
        return "\n".join(self.lines)
