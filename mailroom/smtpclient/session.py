"""One session after its login; sends mails one after the other.

reply = await session.send(Mail("no-reply@acme.example", "ada@reader.example", content))
session.quit()
"""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from mailroom.smtpclient.connection import Connection
from mailroom.smtpclient.exceptions import ConnectionLost, Extension, NotOffered, ReplyError, TooLarge
from mailroom.smtpclient.reply import Command, Reply
from mailroom.smtpclient.transactions import Commands, Progress, send_by_bdat, send_by_data

_CHARACTER: Final = r"[^\x00-\x20\x7f-\xa0<>\ud800-\udfff]"
_QUOTED: Final = r'"(?:\\[!-~]|[^\x00-\x20\x7f-\xa0"\\\ud800-\udfff]){1,250}"'
_ADDRESS: Final = re.compile(rf"(?:{_QUOTED}@)?{_CHARACTER}{{1,320}}")
"""Holds nothing that ends a command or, outside of a quoted string, the address."""
_AFTER_MAIL: Final = 2
"""Replies that are missing if a server lost what was sent with MAIL: those to RCPT and to DATA or BDAT."""
_OCTETS: Final = re.compile(r"[0-9]{1,15}")


@dataclass(frozen=True, slots=True)
class Mail:
    """One mail to one recipient. Raises ValueError for an address that cannot be written in SMTP."""

    sender: str
    recipient: str
    content: bytes = field(repr=False)
    """Headers and body, lines ended by CRLF."""
    envelope_id: str = ""
    """What a delivery status notification calls the mail (ENVID, RFC 3461 §4.4)."""
    notify: str = ""
    """When to send one: `FAILURE,DELAY`; empty: as the server likes."""

    def __post_init__(self) -> None:
        """Check the addresses."""
        if not _ADDRESS.fullmatch(self.recipient) or not _ADDRESS.fullmatch(self.sender):
            raise ValueError("an address cannot be written in SMTP")

    @property
    def is_ascii(self) -> bool:
        """Whether it can be sent without SMTPUTF8 (RFC 6531)."""
        return self.sender.isascii() and self.recipient.isascii()


class Session:
    """A logged-in session."""

    def __init__(self, connection: Connection, extensions: Mapping[str, str]) -> None:
        """`extensions` are from the reply to EHLO: keywords in lower case → parameters."""
        self._connection = connection
        self._extensions = extensions
        self._uses_pipelining = "pipelining" in extensions
        self._uses_chunking = self._uses_pipelining and "chunking" in extensions
        """Whether mails are sent by BDAT; without PIPELINING that would gain nothing."""
        self.is_logged_in = False
        self._needs_rset = False
        self._is_idle = True
        self.mails = 0
        """How many mails were tried."""
        self.closed = connection.closed
        self.quit = connection.quit
        self.abort = connection.abort

    @property
    def is_usable(self) -> bool:
        """Whether another mail can be sent: the last one is finished, and the connection is open."""
        return self._is_idle and self._connection.is_open

    async def send(self, mail: Mail, progress: Progress | None = None) -> Reply:
        """Send one mail and return the positive reply to its content. Raises SmtpError.

        When this is cancelled, `progress` has how far the mail got, and the session is not usable any more.
        """
        progress = progress or Progress()
        self._check_limits(mail)
        self.mails += 1
        self._is_idle = False
        transaction = self._connection, self._envelope(mail), mail.content, progress
        try:
            if self._uses_chunking:
                reply = await send_by_bdat(*transaction)
            else:
                reply = await send_by_data(*transaction, pipelining=self._uses_pipelining)
        except ReplyError as error:
            self._needs_rset = True
            self._is_idle = not error.ends_connection
            raise
        except asyncio.CancelledError:
            progress.handed_over = progress.handed_over and not self._connection.unsent_octets
            progress.suspect = self._suspect(progress)
            raise
        except ConnectionLost:
            progress.suspect = self._suspect(progress)
            raise
        self._needs_rset = False
        self._is_idle = True
        return reply

    def avoid(self, extension: Extension) -> None:
        """Send the next mails without this extension."""
        self._uses_chunking = False
        if extension == "PIPELINING":
            self._uses_pipelining = False

    async def check(self) -> None:
        """Send NOOP and wait for the reply. Raises ConnectionLost."""
        self._is_idle = False
        await self._connection.send_command(Command.NOOP, "NOOP")
        self._is_idle = True

    async def check_envelope(self, mail: Mail) -> None:
        """Send MAIL, RCPT and RSET: the server judges the mail's envelope, and gets no mail. Raises SmtpError."""
        self._check_limits(mail)
        self._is_idle = False
        for command, line in (*self._envelope(mail), (Command.RSET, b"RSET\r\n")):
            self._connection.send(line)
            reply = await self._connection.read_reply(command)
            if not reply.is_positive:
                raise ReplyError(command, reply)
        self._is_idle = True

    def _suspect(self, progress: Progress) -> Extension | None:
        """Return the extension because of which a reply may be missing; after an accepted mail there is none."""
        if self.mails > 1 or not self._uses_pipelining:
            return None
        missing = self._connection.expected_replies
        if self._uses_chunking:
            return "PIPELINING" if missing == _AFTER_MAIL else "CHUNKING"
        is_cut_off = progress.step == "envelope" and 0 < missing <= _AFTER_MAIL
        return "PIPELINING" if is_cut_off else None

    def _check_limits(self, mail: Mail) -> None:
        if not mail.is_ascii and "smtputf8" not in self._extensions:
            raise NotOffered("SMTPUTF8", wanted="for the sender" if mail.recipient.isascii() else "for the recipient")
        size = self._extensions.get("size", "")
        limit = int(size) if _OCTETS.fullmatch(size) else 0  # 0: none (RFC 1870 §4)
        if 0 < limit < len(mail.content):
            raise TooLarge(len(mail.content), limit)

    def _envelope(self, mail: Mail) -> Commands:
        size = f" SIZE={len(mail.content)}" if "size" in self._extensions else ""
        utf8 = "" if mail.is_ascii else " SMTPUTF8"
        ret = notify = ""
        if mail.notify and "dsn" in self._extensions:
            ret, notify = f" RET=HDRS ENVID={mail.envelope_id}", f" NOTIFY={mail.notify}"
        commands = (
            (Command.MAIL, f"MAIL FROM:<{mail.sender}>{size}{utf8}{ret}\r\n".encode()),
            (Command.RCPT, f"RCPT TO:<{mail.recipient}>{notify}\r\n".encode()),
        )
        return ((Command.RSET, b"RSET\r\n"), *commands) if self._needs_rset else commands
