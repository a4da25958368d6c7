"""What is said before the first mail: greetings, STARTTLS, the login (RFC 5321, 3207, 4954; XOAUTH2 is Google's)."""

import base64
import re
import socket
import ssl
from ipaddress import ip_address
from typing import Final

from mailroom.providers._smtp_replies import Reply, Stage
from mailroom.providers._smtp_wire import Wire

_FULL_NAME: Final = re.compile(r"(?=.{1,255}\Z)[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+")
_GREETING: Final = 220
_NOT_UNDERSTOOD: Final = frozenset({500, 502, 504})
_GO_ON: Final = 334
_BETWEEN: Final = re.compile(r"[ =]+")
"""Old servers write `AUTH=LOGIN`."""


class Refused(Exception):
    """The server answered something else than was hoped for."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.words)
        self.reply = reply


class Talk:
    """One dialogue, up to where mails can be sent. Its methods raise Refused, Lost, OSError; `stage` tells how far."""

    def __init__(self, wire: Wire) -> None:
        """Begin before the server's greeting."""
        self._wire = wire
        self.stage = Stage.GREETING
        self.extensions: dict[str, str] = {}
        """What EHLO answered last: names in lower case, and what stands behind them."""

    @property
    def logins(self) -> tuple[str, ...]:
        """The ways to log in that the server offers, in capitals."""
        return tuple(self.extensions.get("auth", "").upper().split())

    async def hear_greeting(self) -> None:
        """Wait for the server's first words."""
        reply = await self._wire.reply()
        if reply.code != _GREETING:
            raise Refused(reply)

    async def greet(self, name: str | None) -> None:
        """Say who we are; without a name this machine's own, or its address."""
        self.stage = Stage.EHLO
        self.extensions = {}
        name = name or _own_name(self._wire)
        reply = await self._answer(f"EHLO {name}")
        if reply.code in _NOT_UNDERSTOOD:
            reply = await self._answer(f"HELO {name}")
            if reply.is_positive:
                return
        if not reply.is_positive:
            raise Refused(reply)
        for line in reply.lines[1:]:
            keyword, _, told = _BETWEEN.sub(" ", line).partition(" ")
            known = self.extensions.get(keyword.lower(), "")
            self.extensions[keyword.lower()] = f"{known} {told}".strip()

    async def encrypt(self, context: ssl.SSLContext, name: str) -> None:
        """Go on in TLS."""
        self.stage = Stage.STARTTLS
        reply = await self._answer("STARTTLS")
        if not reply.is_positive:
            raise Refused(reply)
        await self._wire.encrypt(context, name)

    async def log_in(self, way: str, username: str, secret: str) -> None:
        """Log in by PLAIN, LOGIN or XOAUTH2."""
        self.stage = Stage.AUTH
        first, second = {
            "PLAIN": (f"\0{username}\0{secret}", None),
            "LOGIN": (username, secret),
            "XOAUTH2": (f"user={username}\1auth=Bearer {secret}\1\1", ""),  # a 334 holds the error; the answer is empty
        }[way]
        reply = await self._answer(f"AUTH {way} {_base64(first)}")
        if reply.code == _GO_ON and second is not None:
            reply = await self._answer(_base64(second))
        if not reply.is_positive:
            raise Refused(reply)

    async def _answer(self, command: str) -> Reply:
        self._wire.write(f"{command}\r\n".encode("ascii"))
        return await self._wire.reply()


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _own_name(wire: Wire) -> str:
    """Return this machine's name if it is a full one, else its address as a literal (RFC 5321 §4.1.4)."""
    name = socket.gethostname()
    if _FULL_NAME.fullmatch(name):
        return name
    address = ip_address(wire.our_address.partition("%")[0])
    return f"[IPv6:{address}]" if address.version == 6 else f"[{address}]"  # noqa: PLR2004  # the protocol's name
