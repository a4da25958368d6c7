"""One SMTP session after its login: takes mails one after the other, in as few round trips as the server allows.

Four as RFC 5321 has it, two with PIPELINING (RFC 2920), one with CHUNKING (RFC 3030) as well: then the content leaves
with the commands. The dialogue is the same each time; only the moment of writing differs.
"""

import asyncio
import contextlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from mailroom.errors import Declined, Misconfigured, SendingError, Uncertain
from mailroom.providers._refusals import TOO_LARGE
from mailroom.providers._smtp_replies import Reply, Stage, refusal
from mailroom.providers._smtp_wire import Lost, Wire

_SERVICE_CLOSING: Final = 421
_START_INPUT: Final = 354
_NOT_UNDERSTOOD: Final = frozenset({500, 502, 504})
_LINE_END: Final = re.compile(rb"\r\n|\r|\n")
_NEW_LINE_DOT: Final = re.compile(rb"\n\.")
_RETURN_DOT: Final = re.compile(rb"\r\.")
_NO_SMTPUTF8: Final = "add a provider whose server offers SMTPUTF8"
_OCTETS: Final = re.compile(r"[0-9]{1,15}")


@dataclass(slots=True)
class Transaction:
    """One mail on its way, and how far it got. The addresses hold nothing that could end a command."""

    sender: str
    recipient: str
    content: bytes
    """The mail, lines ended by CRLF."""
    id: str = ""
    """What a status notification calls the mail (ENVID, RFC 3461 §4.4)."""
    notify: str = ""
    """When to send one: `FAILURE,DELAY`; empty: as the server likes."""
    handed_over: bool = False
    """Whether all of it has left us: from here on silence means Uncertain."""
    refused: SendingError | None = None
    """Why the server refuses it, as soon as that is known."""

    @property
    def is_ascii(self) -> bool:
        """Whether any server can be told its addresses; the others need SMTPUTF8 (RFC 6531)."""
        return self.sender.isascii() and self.recipient.isascii()


def dotted(raw: bytes) -> bytes:
    """Return a mail as it is written after DATA, final dot included (RFC 5321 §4.5.2)."""
    if _NEW_LINE_DOT.search(raw) or _RETURN_DOT.search(raw):  # twice as fast as `in`
        # A bare CR or LF before a dot would end the mail for some servers and not for others: SMTP smuggling.
        raw = _LINE_END.sub(b"\r\n", raw).replace(b"\r\n.", b"\r\n..")
    if raw.startswith(b"."):
        raw = b"." + raw
    return raw + (b".\r\n" if raw.endswith(b"\r\n") else b"\r\n.\r\n")


class NotChunking(Lost):
    """The server does not know BDAT, although it offers CHUNKING: some relay on the way said so in its name."""


class Session:
    """A logged-in session. One mail at a time."""

    def __init__(self, wire: Wire, extensions: Mapping[str, str]) -> None:
        """`extensions` is what EHLO answered last, names in lower case."""
        self._wire = wire
        self._pipelining = "pipelining" in extensions
        self._chunking = self._pipelining and "chunking" in extensions
        self._smtputf8 = "smtputf8" in extensions
        self._dsn = "dsn" in extensions
        self._size = extensions.get("size")
        self._stale = False
        self._between_mails = True
        self.closed = wire.closed
        self.quit = wire.quit
        self.abort = wire.abort
        self.mails = 0
        """How many mails were tried."""
        self.idle_since = 0.0
        """The clock's monotonic time when it was opened, or last given back."""

    @property
    def usable(self) -> bool:
        """Whether another mail can be sent: the last one came to an end, and nobody hung up."""
        return self._between_mails and self._wire.alive

    async def send(self, mail: Transaction) -> Reply:
        """Run one transaction and return the reply to the final dot.

        Raises Lost before the mail was handed over, Uncertain afterwards, and what `refusal` makes of a reply.
        The session is `usable` again when the dialogue came to its end, and never when this was cancelled.
        """
        self._fits(mail)
        self.mails += 1
        self._between_mails = False
        try:
            return await (self._send_at_once(mail) if self._chunking else self._send_in_steps(mail))
        except asyncio.CancelledError:
            mail.handed_over = mail.handed_over and not self._wire.unsent
            raise

    async def _send_in_steps(self, mail: Transaction) -> Reply:
        await self._open(mail)
        mail.handed_over = True
        self._wire.write(dotted(mail.content))
        try:
            reply = await self._wire.reply()
        except Lost as lost:
            raise Uncertain(f"handed over, then: {lost.words}") from None
        self._between_mails = reply.code != _SERVICE_CLOSING
        self._stale = not reply.is_positive
        if not reply.is_positive:
            raise refusal(Stage.CONTENT, reply)
        return reply

    async def _send_at_once(self, mail: Transaction) -> Reply:
        """Write commands and content together, then hear what the server says of each."""
        if not self._wire.silent:
            raise Lost("the connection ended while it was idle")
        dialogue = self._dialogue(mail)
        self._wire.write(*(command for _, command in dialogue))
        mail.handed_over = True
        reply: Reply | None = None
        for stage, _ in dialogue:
            try:
                reply = await self._wire.reply()
            except Lost as lost:
                if mail.refused is not None:
                    raise mail.refused from None
                # Also when nothing was answered: Postfix says nothing before it has the whole mail.
                raise Uncertain(f"handed over, then: {lost.words}") from None
            if not reply.is_positive and mail.refused is None:
                self._refused(mail, stage, reply)
        assert reply is not None  # there are always commands
        self._between_mails = reply.code != _SERVICE_CLOSING
        self._stale = mail.refused is not None
        if mail.refused is not None:
            raise mail.refused
        return reply

    def _refused(self, mail: Transaction, stage: Stage, reply: Reply) -> None:
        """Note why a mail that was sent at once is refused. Raises Lost or Uncertain where that is not its fault."""
        mail.handed_over = False
        if stage is Stage.CONTENT and reply.code in _NOT_UNDERSTOOD:
            self._wire.abort()  # it takes the content for commands
            raise NotChunking(reply.words, code=reply.full_code)
        if reply.code == _SERVICE_CLOSING and stage is not Stage.CONTENT:
            raise Lost(reply.words, code=reply.full_code)
        if stage is Stage.RSET:  # what stands behind it may be taken all the same
            raise Uncertain(f"handed over, then: {reply.words}", code=reply.full_code)
        mail.refused = refusal(stage, reply)

    async def check(self) -> None:
        """Ask whether the server is still there. Raises Lost."""
        self._between_mails = False
        self._wire.write(b"NOOP\r\n")
        await self._wire.reply()
        self._between_mails = True

    def _fits(self, mail: Transaction) -> None:
        if not mail.is_ascii and not self._smtputf8:
            kind = Misconfigured if mail.recipient.isascii() else Declined
            raise kind("the server does not take addresses beyond ASCII (it offers no SMTPUTF8)", hint=_NO_SMTPUTF8)
        most = int(self._size) if self._size and _OCTETS.fullmatch(self._size) else 0
        if 0 < most < len(mail.content):
            raise Declined(f"the mail has {len(mail.content)} octets, the server takes at most {most}", hint=TOO_LARGE)

    async def _open(self, mail: Transaction) -> None:
        """Bring the server to where it waits for the content."""
        dialogue = self._dialogue(mail)
        if self._pipelining:
            self._wire.write(*(command for _, command in dialogue))
        steps = iter(dialogue)
        for stage, command in steps:
            if not self._pipelining:
                self._wire.write(command)
            reply = await self._wire.reply()
            if reply.code == _START_INPUT if stage is Stage.DATA else reply.is_positive:
                continue
            if reply.code == _SERVICE_CLOSING or stage is Stage.RSET:
                raise Lost(reply.words, code=reply.full_code)
            mail.refused = refusal(stage, reply)
            if self._pipelining:
                await self._hear_out(stage, (later for later, _ in steps))
            self._stale = self._between_mails = True
            raise mail.refused

    def _dialogue(self, mail: Transaction) -> list[tuple[Stage, bytes]]:
        size = "" if self._size is None else f" SIZE={len(mail.content)}"
        utf8 = "" if mail.is_ascii else " SMTPUTF8"
        ret = notify = ""
        if mail.notify and self._dsn:
            ret, notify = f" RET=HDRS ENVID={mail.id}", f" NOTIFY={mail.notify}"
        dialogue = [
            (Stage.MAIL, f"MAIL FROM:<{mail.sender}>{size}{utf8}{ret}\r\n".encode()),
            (Stage.RCPT, f"RCPT TO:<{mail.recipient}>{notify}\r\n".encode()),
            (Stage.CONTENT, b"BDAT %d LAST\r\n%b" % (len(mail.content), mail.content))
            if self._chunking
            else (Stage.DATA, b"DATA\r\n"),
        ]
        return [(Stage.RSET, b"RSET\r\n"), *dialogue] if self._stale else dialogue

    async def _hear_out(self, refused_at: Stage, stages: Iterable[Stage]) -> None:
        """Read the replies to what was written behind a refused command; a server that hangs up now changes nothing.

        A 354 in spite of all is answered by a lone dot, which is harmless without recipients (RFC 2920 §3.1). A server
        that refused the sender but wants the content might deliver an empty mail: it gets none.
        """
        with contextlib.suppress(Lost):
            for stage in stages:
                reply = await self._wire.reply()
                if stage is Stage.DATA and reply.code == _START_INPUT:
                    if refused_at is not Stage.RCPT:
                        self._wire.abort()
                    self._wire.write(b".\r\n")
                    await self._wire.reply()
