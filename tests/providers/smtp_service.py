"""The SMTP servers of this suite, as `FakeService`s."""

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator
from email import message_from_bytes
from email.policy import default
from typing import Any, Literal

from mailroom.errors import Misconfigured, Rejected, SendingError, Unavailable
from mailroom.providers.smtp.smtp_provider import Settings
from tests.smtp_server import DROP, HANG, Server, smtp_server

USERNAME = "mailroom"
PASSWORD = "a password & more: Grüße"


class SmtpService:
    """`tests.smtp_server` under the contract's commands."""

    def __init__(self, server: Server, settings: Settings, listener: contextlib.AsyncExitStack, *, before: str) -> None:
        """`before` is the last command that is answered before the mail is handed over."""
        self._before = before
        self.server = server
        self.settings = settings
        self.secrets: tuple[str, ...] = (
            PASSWORD,
            base64.b64encode(PASSWORD.encode()).decode(),
            base64.b64encode(f"\0{USERNAME}\0{PASSWORD}".encode()).decode(),
        )
        self._listener = listener

    @property
    def connections(self) -> int:
        """How many connections were opened."""
        return self.server.connections

    def accept(self) -> None:
        """Accept everything again."""
        self.server.recover()

    def refuse(self, kind: type[SendingError]) -> None:
        """Send a response of this kind."""
        self.accept()
        at, answer = {
            Rejected: ("RCPT", "550 5.1.1 no such user here"),
            Misconfigured: ("MAIL", "553 5.7.1 you may not send from that address"),
            Unavailable: ("CONTENT", "451 4.3.0 try again later"),
        }[kind]
        self.server.fault(at, answer)

    def hang(self, *, handed_over: bool) -> asyncio.Event:
        """Stop responding."""
        return self.server.fault("CONTENT" if handed_over else self._before, HANG)

    def reset(self, *, handed_over: bool) -> None:
        """Reset the connection."""
        self.server.fault("CONTENT" if handed_over else self._before, DROP)

    def reset_idle(self) -> None:
        """Reset the connections that wait for their next mail."""
        self.server.drop()

    def send_garbage(self) -> None:
        """Send a reply that is not SMTP."""
        self.server.fault("MAIL", "HTTP/1.1 400 Bad Request")

    def echo(self) -> None:
        """Repeat the credentials in a refusal."""
        self.server.fault("AUTH", f"535 5.7.8 you said {self.secrets[2]}, that is: {PASSWORD}")

    async def subjects(self, number: int) -> list[str]:
        """Return the decoded subjects."""
        mails = await self.server.received(number)
        return [str(message_from_bytes(mail.content, policy=default)["Subject"]) for mail in mails]

    async def left_alone(self) -> None:
        """Return once no connection is open."""
        await self.server.left_alone()

    async def vanish(self) -> None:
        """Stop listening."""
        await self._listener.aclose()


@contextlib.asynccontextmanager
async def smtp_service(
    *,
    tls: Literal["none", "starttls", "implicit"] = "starttls",
    pipelining: bool = True,
    chunking: bool = False,
    **settings: Any,
) -> AsyncIterator[SmtpService]:
    """Run a server that requires a login, and return the settings for it."""
    async with contextlib.AsyncExitStack() as listener:
        server = await listener.enter_async_context(
            smtp_server(tls=tls, users={USERNAME: PASSWORD}, pipelining=pipelining, chunking=chunking)
        )
        fitting = {
            "host": server.host,
            "port": server.port,
            "tls": tls,
            "username": USERNAME,
            "password": PASSWORD,
            "ca_file": server.ca_file,
            "concurrency": 4,
        }
        before = "AUTH" if pipelining and chunking else "RCPT"
        yield SmtpService(server, Settings(**(fitting | settings)), listener, before=before)
