"""A real SMTP server for tests: aiosmtpd with TLS, logins, and faults at any command.

async with smtp_server(tls="starttls", users={"u": "p"}) as server:
    ...  # send something to server.host, server.port, trusting server.ca_file
    await server.received(1)
    server.mails[0].content
"""

import asyncio
import contextlib
import logging
import os
import socket
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any, AnyStr, Final, Literal, TypeAlias

import trustme
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

HOST: Final = "127.0.0.1"
logging.getLogger("mail.log").setLevel(logging.ERROR)  # aiosmtpd warns of its own deprecated attribute


class Silence(Enum):
    """What a server can do instead of answering."""

    HANG = "hang"
    """Says nothing until the client gives up."""
    DROP = "drop"
    """Resets the connection."""


HANG: Final = Silence.HANG
DROP: Final = Silence.DROP


@dataclass(frozen=True, slots=True)
class Late:
    """Answers as usual, but so many seconds later."""

    seconds: float


Answer: TypeAlias = str | Silence | Late


@dataclass(frozen=True, slots=True)
class Received:
    """A mail as it arrived."""

    at: float
    """When it was complete, before the client heard of it: Unix seconds."""
    sender: str
    """The envelope's sender."""
    recipient: str
    """The envelope's recipients, joined by a comma if there are several."""
    content: bytes
    """After removal of transparency dots; CRLF."""
    peer: tuple[str, int]
    """The client's address and port: equal for mails that shared a connection."""
    user: str | None
    """Who had logged in."""
    encrypted: bool
    helo: str
    options: tuple[str, ...]
    """The parameters of MAIL."""


@dataclass(slots=True)
class _Fault:
    answer: Answer
    times: float
    reached: asyncio.Event


class Server:
    """What the server received, and how it is told to misbehave."""

    host = HOST

    def __init__(self, users: Mapping[str, str], ca_file: Path) -> None:
        self.port = 0
        self.ca_file = ca_file
        self.mails: list[Received] = []
        self.commands: Counter[str] = Counter()
        """How often each command came."""
        self.connections = 0
        """How many connections there were so far."""
        self.live: set[_Connection] = set()
        self._users = users
        self._faults: dict[str, _Fault] = {}
        self._news = asyncio.Event()

    def fault(self, at: str, answer: Answer, *, times: float = float("inf")) -> asyncio.Event:
        """Answer so at GREETING, EHLO, STARTTLS, AUTH, MAIL, RCPT, DATA, BDAT, CONTENT, RSET, NOOP or QUIT from now on.

        Returns an event that is set when a client got there.
        """
        fault = self._faults[at] = _Fault(answer, times, asyncio.Event())
        return fault.reached

    def recover(self) -> None:
        """Stop misbehaving."""
        self._faults.clear()

    def drop(self) -> None:
        """Reset every connection, as a firewall or a restart does."""
        for connection in tuple(self.live):
            connection.drop()

    async def received(self, number: int, *, within: float = 10) -> list[Received]:
        """Wait until so many mails are here; fail the test when they do not come."""
        await self._until(lambda: len(self.mails) >= number, f"{number} mails", within)
        return self.mails

    async def connected(self, number: int, *, within: float = 10) -> None:
        """Wait until there were so many connections."""
        await self._until(lambda: self.connections >= number, f"{number} connections", within)

    async def left_alone(self, *, within: float = 10) -> None:
        """Wait until no connection is open."""
        await self._until(lambda: not self.live, "no open connection", within)

    async def _until(self, holds: Callable[[], bool], wanted: str, within: float) -> None:
        try:
            async with asyncio.timeout(within):
                while not holds():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            seen = f"{len(self.mails)} mails, {self.connections} connections, {len(self.live)} of them open"
            raise AssertionError(f"waited {within} s for {wanted}; there are {seen}") from None

    def take_fault(self, at: str) -> Answer | None:
        """Return how to answer there, if not as usual."""
        fault = self._faults.get(at)
        if fault is None or fault.times < 1:
            return None
        fault.times -= 1
        fault.reached.set()
        return fault.answer

    def tell(self) -> None:
        """Wake those who wait for something to happen."""
        self._news.set()

    def authenticate(self, _server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> AuthResult:
        """Check a login, for aiosmtpd."""
        assert isinstance(data, LoginPassword)
        login, password = data.login.decode(), data.password.decode()
        return AuthResult(success=self._users.get(login) == password, handled=False, auth_data=data)

    @property
    def wants_login(self) -> bool:
        """Whether MAIL needs a login."""
        return bool(self._users)


class _Connection(SMTP):
    transport: Any
    session: Any
    envelope: Any
    _reader: Any

    def __init__(self, server: Server, *, offers: tuple[str, ...], **options: Any) -> None:
        super().__init__(self, **options)
        self._server = server
        self._offers = offers
        self._greeted = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self not in self._server.live:
            self._server.connections += 1
            self._server.live.add(self)
            self._server.tell()
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        if self not in self._server.live:
            return
        super().connection_lost(error)
        self._server.live.discard(self)
        self._server.tell()

    def drop(self) -> None:
        """Reset; asyncio tells nobody of a connection that is lost in the middle of a handshake."""
        in_handshake = self._tls_protocol is not None and self.session.ssl is None
        # At once: `abort` waits for the loop, and a client that writes before that cannot know.
        connected = self.transport.get_extra_info("socket")
        if connected is None:  # the client has ended a TLS connection, and `connection_lost` is due
            return
        descriptor = os.dup(connected.fileno())
        with socket.socket(fileno=descriptor) as own, contextlib.suppress(OSError):  # the client may be gone
            own.shutdown(socket.SHUT_RDWR)
        self.transport.abort()
        if in_handshake:
            self.connection_lost(None)

    def eof_received(self) -> bool:
        """Close, whatever the connection was doing; aiosmtpd would leave a silent one half open."""
        super().eof_received()
        return False

    async def handle_exception(self, error: Exception) -> str:
        """Say what went wrong; after a failed handshake aiosmtpd hangs up by itself."""
        return f"500 5.3.0 {type(error).__name__}"

    async def push(self, status: AnyStr) -> None:
        """Send a reply; the first one is the greeting."""
        if not self._greeted:
            self._greeted = True
            if await self._misbehaves("GREETING"):
                return
        await super().push(status)

    async def _misbehaves(self, at: str) -> bool:
        self._server.commands[at] += 1
        match self._server.take_fault(at):
            case None:
                return False
            case Silence.HANG:
                await asyncio.Event().wait()
            case Silence.DROP:
                self.transport.abort()
            case Late(seconds):
                await asyncio.sleep(seconds)
                return False
            case str(answer):
                await super().push(answer)
                if answer.startswith("421") or at == "GREETING":
                    self.transport.close()
        return True

    async def handle_EHLO(  # noqa: N802  # aiosmtpd's name
        self, _server: Any, session: Any, _envelope: Any, hostname: str, lines: list[str]
    ) -> list[str]:
        session.host_name = hostname
        name, *wanted = [line for line in lines if self._server.wants_login or not line.startswith("250-AUTH")]
        return [name, *(f"250-{offer}" for offer in self._offers), *wanted]

    async def smtp_BDAT(self, arg: str | None) -> None:  # noqa: N802  # aiosmtpd's name for a command
        """Take a mail in one chunk (RFC 3030)."""
        octets, _, last = (arg or "").partition(" ")
        assert last == "LAST", "the provider sends one chunk"
        content = await self._reader.readexactly(int(octets))
        if await self._misbehaves("BDAT"):
            return
        if not self.envelope.rcpt_tos:
            await self.push("503 5.5.1 Error: need RCPT command")
            return
        self.envelope.content = self.envelope.original_content = content
        answer = await self.handle_DATA(self._server, self.session, self.envelope)
        self._set_post_data_state()  # type: ignore[no-untyped-call]  # aiosmtpd has no types here
        await self.push(answer)

    async def handle_DATA(self, _server: Any, session: Any, envelope: Any) -> str:  # noqa: N802  # aiosmtpd's name
        self._server.commands["CONTENT"] += 1
        answer = self._server.take_fault("CONTENT")
        if isinstance(answer, str):
            if answer.startswith("421"):
                self.loop.call_soon(self.transport.close)
            return answer
        self._server.mails.append(
            Received(
                time.time(),
                envelope.mail_from,
                ",".join(envelope.rcpt_tos),
                envelope.content,
                session.peer,
                session.auth_data.login.decode() if session.authenticated else None,
                self.transport.get_extra_info("sslcontext") is not None,
                session.host_name,
                tuple(envelope.mail_options),
            )
        )
        self._server.tell()
        if answer is HANG:
            await asyncio.Event().wait()
        if answer is DROP:
            self.transport.abort()
            await asyncio.Event().wait()
        if isinstance(answer, Late):
            await asyncio.sleep(answer.seconds)
        return f"250 2.0.0 Ok: queued as TEST{len(self._server.mails):04}"

    async def smtp_MAIL(self, arg: str | None) -> None:  # noqa: N802  # aiosmtpd's name
        """Ask for a login first, as a submission server does."""
        if await self._misbehaves("MAIL"):
            return
        if self._server.wants_login and not self.session.authenticated:
            await self.push("530 5.7.0 Authentication required")
            return
        await super().smtp_MAIL(arg)


def _misbehaving(command: str) -> Any:
    usual = getattr(SMTP, f"smtp_{command}")

    async def method(self: _Connection, arg: str | None) -> None:
        if not await self._misbehaves(command):
            await usual(self, arg)

    method.__doc__ = usual.__doc__
    return method


for _command in ("HELO", "EHLO", "STARTTLS", "AUTH", "RCPT", "DATA", "RSET", "NOOP", "QUIT"):
    setattr(_Connection, f"smtp_{_command}", _misbehaving(_command))


@cache
def authority() -> trustme.CA:
    """Return the one certificate authority of this run."""
    return trustme.CA()


def server_context(*names: str) -> ssl.SSLContext:
    """Return a server's side of TLS, with a certificate for these names."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority().issue_cert(*names).configure_cert(context)
    return context


@contextlib.asynccontextmanager
async def smtp_server(
    *,
    tls: Literal["none", "starttls", "implicit"] = "none",
    users: Mapping[str, str] | None = None,
    auth: tuple[str, ...] = ("PLAIN", "LOGIN"),
    certificate_for: tuple[str, ...] = (HOST, "localhost"),
    pipelining: bool = False,
    chunking: bool = False,
    smtputf8: bool = True,
    size: int = 33_554_432,
) -> AsyncIterator[Server]:
    """Run a server on a port of its own; with `users` nobody sends without a login.

    `pipelining` says whether PIPELINING is offered (aiosmtpd reads line by line, so it can keep that promise),
    `chunking` whether CHUNKING is.
    """
    offers = (*(["PIPELINING"] if pipelining else []), *(["CHUNKING"] if chunking else []))
    context = None if tls == "none" else server_context(*certificate_for)
    with authority().cert_pem.tempfile() as ca_file:
        server = Server(users or {}, Path(ca_file))
        loop = asyncio.get_running_loop()
        listener = await loop.create_server(
            lambda: _Connection(
                server,
                offers=offers,
                loop=loop,
                hostname="mx.test",
                enable_SMTPUTF8=smtputf8,
                data_size_limit=size,
                tls_context=context if tls == "starttls" else None,
                auth_require_tls=tls == "starttls",
                auth_exclude_mechanism=[way for way in ("PLAIN", "LOGIN") if way not in auth],
                authenticator=server.authenticate,
            ),
            HOST,
            0,
            ssl=context if tls == "implicit" else None,
        )
        server.port = listener.sockets[0].getsockname()[1]
        try:
            yield server
        finally:
            listener.close()
            server.drop()
            await server.left_alone()
            await listener.wait_closed()
