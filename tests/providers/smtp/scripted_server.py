"""An SMTP server with one deviation from the RFCs, which its script describes."""

import asyncio
import base64
import contextlib
import hashlib
import hmac
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Final

USERNAME: Final = "mailroom"
PASSWORD: Final = "hunter22"
HANG_UP: Final = ""
"""A reply: close the connection instead."""
SILENT: Final = " "
"""A reply: say nothing instead."""
_USERNAME_PROMPT: Final = base64.b64encode(b"Username:").decode()
_PASSWORD_PROMPT: Final = base64.b64encode(b"Password:").decode()


@dataclass(frozen=True, slots=True)
class Script:
    """A server's deviations."""

    greeting: str = "220 quirk.test ESMTP"
    extensions: tuple[str, ...] = ("PIPELINING", "SIZE 1000000", "8BITMIME")
    ehlo: str = ""
    """EHLO is refused, HELO is accepted."""
    replies: dict[str, str] = field(default_factory=dict)
    """By verb: this reply instead of the usual one; CONTENT is the one after the content."""
    once: dict[str, str] = field(default_factory=dict)
    """Like `replies`, for the first of each."""
    logins: tuple[str, ...] = ()
    """Supported mechanisms; advertised unless the extensions have an AUTH line. None: no login needed."""
    hides_logins: bool = False
    """Supports the mechanisms, and does not advertise them."""
    ignores_initial_response: bool = False
    """Requests username and password whatever AUTH had (unlike RFC 4954 §4)."""
    asks_for_plain: bool = False
    """Replies to AUTH PLAIN by an empty 334, although the command had the response."""
    loses_pipelined: bool = False
    """Offers PIPELINING, and discards what came with the first command."""
    refuses_pipelined: bool = False
    """Offers PIPELINING, and does not remember the first of several commands when it executes the next."""
    one_mail: bool = False
    """Ends each connection at its second mail."""
    wants_full_name: bool = False
    """Refuses an EHLO without a full host name."""
    line_end: str = "\r\n"
    blank_line: bool = False
    """Sends an empty line before the reply to the content."""


@dataclass(slots=True)
class Seen:
    """What the server saw."""

    host = "127.0.0.1"
    port: int = 0
    recipients: list[str] = field(default_factory=list)
    """The RCPT argument of each mail that the server took, whether it said so or not."""
    logged_in: list[str] = field(default_factory=list)
    refused_logins: list[str] = field(default_factory=list)
    """User names of failed logins, as a server logs them."""
    given: set[str] = field(default_factory=set)
    """For which verbs the script's `once` was used."""


@contextlib.asynccontextmanager
async def scripted_smtp(script: Script) -> AsyncIterator[Seen]:
    """Serve on loopback."""
    seen = Seen()
    clients: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        clients.add(task)
        try:
            with contextlib.suppress(
                ConnectionError, asyncio.IncompleteReadError, ValueError, _HungUp, asyncio.CancelledError
            ):
                await _Session(script, seen, reader, writer).run()
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    server = await asyncio.start_server(serve, seen.host, 0)
    seen.port = server.sockets[0].getsockname()[1]
    async with server:
        yield seen
        for task in clients:
            task.cancel()
        await asyncio.gather(*clients, return_exceptions=True)


class _HungUp(Exception):
    pass


class _Session:
    def __init__(self, script: Script, seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._script = script
        self._seen = seen
        self._reader = reader
        self._writer = writer
        self._known = not script.logins
        self._recipient = ""
        self._mails = 0

    async def run(self) -> None:
        self._say(self._script.greeting)
        while True:
            line = await self._line()
            unread: bytearray = self._reader._buffer  # type: ignore[attr-defined]  # what came with it
            if self._script.loses_pipelined:
                unread.clear()
            verb = line.split(" ")[0].upper()
            if self._script.refuses_pipelined and verb == "MAIL" and unread:
                unread.clear()
                self._say("250 2.1.0 Ok\r\n503 5.5.1 Bad sequence of commands\r\n503 5.5.1 Bad sequence of commands")
                continue
            await self._command(verb, line)
            if verb == "QUIT":
                return

    async def _command(self, verb: str, line: str) -> None:
        script = self._script
        if verb != "CONTENT" and (reply := self._scripted(verb)) is not None:
            if verb == "BDAT":
                await self._reader.readexactly(int(line.split()[1]))
            self._say(reply)
        elif refusal := self._refusal(verb, line):
            self._say(refusal)
            if refusal.startswith("421"):
                raise _HungUp
        elif verb == "EHLO":
            self._say(script.ehlo or self._extensions())
        elif verb == "AUTH":
            await self._log_in(line.split(" ")[1:])
        elif verb == "RCPT":
            self._recipient = line[len("RCPT TO:") :].partition(">")[0] + ">"
            self._say("250 2.1.5 Ok")
        elif verb in ("DATA", "BDAT"):
            await self._content(line)
        else:
            self._say({"QUIT": "221 2.0.0 Bye"}.get(verb, "250 2.0.0 Ok"))

    def _refusal(self, verb: str, line: str) -> str:
        script = self._script
        match verb:
            case "EHLO" if script.wants_full_name and ("." not in line or "[" in line):
                return "421 4.7.0 Try again later, closing connection. (EHLO)"
            case "MAIL" if script.one_mail and self._mails:
                return "421 4.7.0 one mail a connection"
            case "MAIL" if not self._known:
                return "530 5.7.0 Authentication required"
            case "RCPT" if not line.isascii() and "SMTPUTF8" not in script.extensions:
                return "553 5.6.7 Non-ASCII address"
        return ""

    async def _content(self, line: str) -> None:
        if line.upper() == "DATA":
            self._say("354 go ahead")
            content = b""
            while content != b".\r\n" and not content.endswith(b"\r\n.\r\n"):
                content += await self._reader.readuntil(b"\n")
            if self._recipient:
                self._take()
            else:
                self._say("554 5.5.1 no valid recipients")
            return
        await self._reader.readexactly(int(line.split()[1]))
        if line.upper().endswith("LAST"):
            self._take()
        else:
            self._say("250 2.0.0 Ok")

    def _take(self) -> None:
        self._mails += 1
        reply = self._scripted("CONTENT")
        reply = "250 2.0.0 Ok: queued as QUIRK1" if reply is None else reply
        if not reply.startswith(("4", "5")):
            self._seen.recipients.append(self._recipient)
        if self._script.blank_line:
            self._writer.write(b"\r\n")
        self._say(reply)

    def _scripted(self, verb: str) -> str | None:
        """Return the script's reply; None: it has none."""
        if verb in self._script.once and verb not in self._seen.given:
            self._seen.given.add(verb)
            return self._script.once[verb]
        return self._script.replies.get(verb)

    def _extensions(self) -> str:
        script = self._script
        lines = ["quirk.test", *script.extensions]
        if script.logins and not script.hides_logins and not any(line.startswith("AUTH") for line in lines):
            lines.append(f"AUTH {' '.join(script.logins)}")
        return "\r\n".join([*(f"250-{line}" for line in lines[:-1]), f"250 {lines[-1]}"])

    async def _log_in(self, arguments: list[str]) -> None:
        script = self._script
        mechanism = arguments[0].upper()
        initial = arguments[1] if len(arguments) > 1 else None
        if mechanism not in script.logins:
            self._say("504 5.5.4 Unrecognized authentication type")
            return
        if mechanism == "PLAIN":
            if initial is None or script.asks_for_plain:
                initial = await self._ask("")
            _, username, password = base64.b64decode(initial).decode().split("\0")
        elif mechanism == "LOGIN":
            if initial is None or script.ignores_initial_response:
                initial = await self._ask(_USERNAME_PROMPT)
            username = base64.b64decode(initial).decode()
            password = base64.b64decode(await self._ask(_PASSWORD_PROMPT)).decode()
        else:
            challenge = b"<1896.697170952@quirk.test>"
            answer = base64.b64decode(await self._ask(base64.b64encode(challenge).decode())).decode()
            username, _, digest = answer.rpartition(" ")
            good = hmac.new(PASSWORD.encode(), challenge, hashlib.md5).hexdigest()
            password = PASSWORD if hmac.compare_digest(digest, good) else ""
        self._known = (username, password) == (USERNAME, PASSWORD)
        (self._seen.logged_in if self._known else self._seen.refused_logins).append(username)
        self._say("235 2.7.0 Ok" if self._known else "535 5.7.8 Username and password not accepted")

    async def _ask(self, prompt: str) -> str:
        self._say(f"334 {prompt}")
        return await self._line()

    async def _line(self) -> str:
        return (await self._reader.readuntil(b"\n")).decode().rstrip("\r\n")

    def _say(self, reply: str) -> None:
        if reply == HANG_UP:
            raise _HungUp
        if reply != SILENT:
            self._writer.write(f"{reply}\r\n".replace("\r\n", self._script.line_end).encode())
