"""The two ways to send a mail over a session: by DATA (RFC 5321 §3.3) and by BDAT (RFC 3030).

    reply = await send_by_data(connection, envelope, content, Progress(), pipelining=True)

Both take the envelope's commands (RSET if the last mail was refused, MAIL, RCPT) and return the positive reply to the
content. They raise ReplyError, after which the connection can be used unless it `ends_connection`, and ConnectionLost.
"""

import asyncio
import contextlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Final

from mailroom.smtpclient.connection import Connection
from mailroom.smtpclient.exceptions import ConnectionLost, Extension, ExtensionBroken, ReplyError
from mailroom.smtpclient.reply import Command, Reply
from mailroom.smtpclient.time_limits import Step, TimeLimits, Timeout

_START_INPUT: Final = 354
_BAD_SEQUENCE: Final = 503
_NOT_UNDERSTOOD: Final = frozenset({500, 502, 503, 504})
_LINE_END: Final = re.compile(rb"\r\n|\r|\n")
_NEW_LINE_DOT: Final = re.compile(rb"\n\.")
_RETURN_DOT: Final = re.compile(rb"\r\.")

Commands = Sequence[tuple[Command, bytes]]
"""What each line is, and the line."""


@dataclass(slots=True)
class Progress:
    """How far a mail got: after a cancellation, what an exception would have said. It sets each step's time limit."""

    limits: TimeLimits = field(default_factory=TimeLimits)
    timeout: Timeout | None = None
    """What bounds the mail; None: nothing does."""
    step: Step = "greeting"
    handed_over: bool = False
    """Whether the server may have taken it."""
    refusal: ReplyError | None = None
    """Why it is refused, known before the last reply is read."""
    suspect: Extension | None = None
    """Because of which extension there may have been no reply."""

    def begin(self, step: Step) -> None:
        """Begin a step: its time counts from now."""
        self.step = step
        if self.timeout is None:
            return
        seconds, at = getattr(self.limits, step), self.timeout.latest
        if seconds != inf:
            step_at = asyncio.get_running_loop().time() + seconds
            if step_at < at or step == "content":
                at = step_at
        self.timeout.reschedule(at)

    @property
    def seconds(self) -> float:
        """The time limit that counts at this step."""
        is_total = self.timeout is None or self.timeout.at == self.timeout.latest
        seconds: float = getattr(self.limits, "total" if is_total else self.step)
        return seconds

    def hand_over(self) -> None:
        """Note that the server may take the mail from now on."""
        self.handed_over = True
        self.begin("content")


def dot_stuff(content: bytes) -> bytes:
    """Return a mail as it is written after DATA, final dot included (RFC 5321 §4.5.2)."""
    if _NEW_LINE_DOT.search(content) or _RETURN_DOT.search(content):  # twice as fast as `in`
        # A bare CR or LF before a dot would end the mail for some servers and not for others: SMTP smuggling.
        content = _LINE_END.sub(b"\r\n", content).replace(b"\r\n.", b"\r\n..")
    if content.startswith(b"."):
        content = b"." + content
    return content + (b".\r\n" if content.endswith(b"\r\n") else b"\r\n.\r\n")


async def send_by_data(
    connection: Connection, envelope: Commands, content: bytes, progress: Progress, *, pipelining: bool
) -> Reply:
    """Send MAIL, RCPT, DATA, then the content: two round trips with PIPELINING (RFC 2920), four without."""
    progress.begin("envelope")
    commands = (*envelope, (Command.DATA, b"DATA\r\n"))
    if pipelining:
        connection.send(*(line for _, line in commands))
    for number, (command, line) in enumerate(commands, 1):
        if not pipelining:
            connection.send(line)
        reply = await connection.read_reply(command)
        if not (reply.code == _START_INPUT if command is Command.DATA else reply.is_positive):
            error = ReplyError(command, reply)
            if pipelining:
                _check_sequence(connection, command, reply)
            if pipelining and not error.ends_connection:
                progress.refusal = error
                await _read_rest(connection, command, commands[number:])
            raise error
    progress.hand_over()
    connection.send(dot_stuff(content))
    try:
        reply = await connection.read_reply(Command.CONTENT)
    except ConnectionLost as lost:
        lost.handed_over = True
        raise
    if not reply.is_positive:
        raise ReplyError(Command.CONTENT, reply)
    return reply


async def _read_rest(connection: Connection, refused: Command, commands: Commands) -> None:
    """Read the replies to what was sent after a refused command; a connection lost now changes nothing.

    A 354 in spite of the refusal is answered by a lone dot, which is harmless without recipients (RFC 2920 §3.1).
    A server that refused the sender and sends a 354 might deliver an empty mail: it gets none.
    """
    with contextlib.suppress(ConnectionLost):
        for command, _ in commands:
            reply = await connection.read_reply(command)
            if command is Command.DATA and reply.code == _START_INPUT:
                if refused is not Command.RCPT:
                    connection.abort()
                connection.send(b".\r\n")
                await connection.read_reply(Command.CONTENT)


async def send_by_bdat(connection: Connection, envelope: Commands, content: bytes, progress: Progress) -> Reply:
    """Send MAIL, RCPT and BDAT with the content in one write: one round trip, with PIPELINING and CHUNKING.

    After the write, a lost connection leaves open whether the mail was taken, even if no reply came: Postfix sends
    none before it has the whole mail.
    """
    if not connection.is_quiet:
        raise ConnectionLost(Command.MAIL, "the connection ended while it was idle")
    commands = (*envelope, (Command.CONTENT, b"BDAT %d LAST\r\n%b" % (len(content), content)))
    connection.send(*(line for _, line in commands))
    progress.hand_over()
    for command, _ in commands:
        try:
            reply = await connection.read_reply(command)
        except ConnectionLost as lost:
            if progress.refusal is not None:
                raise progress.refusal from None
            lost.handed_over = True
            raise
        if not reply.is_positive and progress.refusal is None:
            progress.handed_over = False
            progress.refusal = _chunking_refusal(connection, command, reply)
    if progress.refusal is not None:
        raise progress.refusal
    return reply


def _chunking_refusal(connection: Connection, command: Command, reply: Reply) -> ReplyError:
    """Return the error for a refusal, or raise it if the later replies mean nothing."""
    error = ReplyError(command, reply)
    if command is Command.CONTENT and reply.code in _NOT_UNDERSTOOD:
        connection.abort()  # it would read the content as commands
        raise ExtensionBroken("CHUNKING", command, reply)
    _check_sequence(connection, command, reply)
    if error.ends_connection and command is not Command.CONTENT:
        # After a refused RSET the mail may be taken all the same; after a 421 none is.
        error.handed_over = command is Command.RSET and not reply.closes_connection
        raise error
    return error


def _check_sequence(connection: Connection, command: Command, reply: Reply) -> None:
    """Raise ExtensionBroken for the first refusal of a pipeline if the server has lost what it accepted before."""
    if reply.code == _BAD_SEQUENCE and command in (Command.RCPT, Command.DATA):
        connection.abort()  # nobody knows which of the commands it has
        raise ExtensionBroken("PIPELINING", command, reply)
