"""One reply of an SMTP server (RFC 5321 §4.2), and the command to which it is a reply.

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
"""Some servers repeat the reply code, or write a `#`, before the enhanced code."""


class Command(StrEnum):
    """What a reply is a reply to."""

    GREETING = "greeting"
    """The opened connection."""
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
    """A code and its lines without the code."""

    code: int
    lines: tuple[str, ...] = ()

    @property
    def is_positive(self) -> bool:
        """Whether the command was carried out: 2xx."""
        return self.code in _POSITIVE

    @property
    def closes_connection(self) -> bool:
        """Whether the server closes the connection, whatever the command was (RFC 5321 §3.8)."""
        return self.code == _SERVICE_CLOSING

    @property
    def enhanced_code(self) -> str:
        """The first enhanced status code (RFC 3463), `5.1.1`; empty if there is none."""
        for line in self.lines:
            if match := _ENHANCED.match(line):
                return match[1]
        return ""

    @property
    def text(self) -> str:
        """The lines as the server sent them, of any length and with any character, separated by line feeds."""
        return "\n".join(self.lines)
