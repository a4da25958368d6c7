"""The steps before the first mail: greeting, EHLO, STARTTLS, login.

Sources: RFC 5321, 3207, 4954, 4616 (PLAIN), 2195 (CRAM-MD5); LOGIN is Microsoft's, XOAUTH2 Google's.

    await read_greeting(connection)
    extensions = await say_hello(connection, "mail.acme.example")
    await log_in(connection, extensions, Login("ada", "secret"))

They raise ReplyError, NotOffered and ConnectionLost. `extensions` are keywords in lower case → parameters.
"""

import base64
import hmac
import re
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Final

from mailroom.smtpclient.connection import Connection
from mailroom.smtpclient.exceptions import NotOffered, ReplyError
from mailroom.smtpclient.reply import Command, Reply

_FULL_NAME: Final = re.compile(r"(?=.{1,255}\Z)[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+")
_GREETING: Final = 220
_NOT_UNDERSTOOD: Final = frozenset({500, 502, 504})
_PERMANENT: Final = range(500, 600)
_CONTINUE: Final = 334
_MOST_CHALLENGES: Final = 3
_SEPARATOR: Final = re.compile(r"[ =]+")
"""Old servers write `AUTH=LOGIN`."""


@dataclass(frozen=True, slots=True)
class Login:
    """Credentials, and the mechanisms that may be used: the first that the server offers, else the first."""

    username: str
    secret: str = field(repr=False)
    """A password; an access token for XOAUTH2."""
    mechanisms: tuple[str, ...] = ("PLAIN", "LOGIN", "CRAM-MD5")

    def initial_response(self, mechanism: str) -> str:
        """Return what is sent with AUTH; empty: nothing before the server's challenge."""
        match mechanism:
            case "PLAIN":
                return f"\0{self.username}\0{self.secret}"
            case "XOAUTH2":
                return f"user={self.username}\1auth=Bearer {self.secret}\1\1"
        return ""

    def response(self, mechanism: str, challenge: bytes, number: int) -> str:
        """Return the response to a challenge; `number` counts them from 0."""
        match mechanism:
            case "PLAIN":  # the server has ignored the initial response
                return self.initial_response(mechanism)
            case "LOGIN":
                prompt = challenge.lower()
                is_for_password = b"pass" in prompt or (number > 0 and b"user" not in prompt)
                return self.secret if is_for_password else self.username
            case "CRAM-MD5":
                return f"{self.username} {hmac.new(self.secret.encode(), challenge, 'md5').hexdigest()}"
        return ""  # XOAUTH2: the challenge is the error

    def is_repeated_in(self, text: str) -> bool:
        """Return whether a text holds the secret, in clear or in base64."""
        clear = (self.secret, *(self.initial_response(mechanism) for mechanism in ("PLAIN", "XOAUTH2")))
        forms = (self.secret, *(_base64(form).rstrip("=") for form in clear))
        without_blanks = "".join(text.split())
        return any(form in text or form in without_blanks for form in forms)


async def read_greeting(connection: Connection) -> None:
    """Wait for the 220."""
    reply = await connection.read_reply(Command.GREETING)
    if reply.code != _GREETING:
        raise ReplyError(Command.GREETING, reply)


async def say_hello(connection: Connection, name: str | None) -> dict[str, str]:
    """Send EHLO, or HELO to a server that does not know it, and return the extensions that the server offers.

    `name` is ours; default: this machine's name or address.
    """
    name = name or _own_name(connection)
    reply = await connection.send_command(Command.EHLO, f"EHLO {name}")
    if reply.code in _NOT_UNDERSTOOD:
        reply = await connection.send_command(Command.EHLO, f"HELO {name}")
        reply = Reply(reply.code, reply.lines[:1])  # HELO offers no extensions
    if not reply.is_positive:
        raise ReplyError(Command.EHLO, reply)
    extensions: dict[str, str] = {}
    for line in reply.lines[1:]:
        keyword, _, parameters = _SEPARATOR.sub(" ", line).partition(" ")
        earlier = extensions.get(keyword.lower(), "")
        extensions[keyword.lower()] = f"{earlier} {parameters}".strip()
    return extensions


async def start_tls(
    connection: Connection, extensions: Mapping[str, str], context: ssl.SSLContext, server_name: str
) -> None:
    """Encrypt (RFC 3207). Also raises OSError. Say hello again: extensions that were offered in clear do not count."""
    if "starttls" not in extensions:
        raise NotOffered("STARTTLS")
    reply = await connection.send_command(Command.STARTTLS, "STARTTLS")
    if not reply.is_positive:
        raise ReplyError(Command.STARTTLS, reply)
    await connection.start_tls(context, server_name)


async def log_in(connection: Connection, extensions: Mapping[str, str], login: Login) -> bool:
    """Log in; return False if the server offers no login and refuses one: relays that trust our address do.

    A mechanism that is not offered is tried if no other can be: some servers do not advertise what they accept. Not in
    clear beyond this machine, though: others hide AUTH so that no password is sent unencrypted. The text of a refusal
    that repeats the credentials is withheld.
    """
    offered = extensions.get("auth", "").upper().split()
    mechanism = next((wanted for wanted in login.mechanisms if wanted in offered), login.mechanisms[0])
    if mechanism not in offered and not connection.is_private:
        if not offered:
            return False
        raise NotOffered("AUTH", wanted=" or ".join(login.mechanisms), offered=" ".join(offered))
    reply = await _exchange(connection, login, mechanism)
    if reply.is_positive:
        return True
    if not offered and reply.code in _PERMANENT and mechanism != "XOAUTH2":
        return False
    if mechanism not in offered and reply.code in _NOT_UNDERSTOOD:
        raise NotOffered("AUTH", wanted=" or ".join(login.mechanisms), offered=" ".join(offered))
    if login.is_repeated_in(reply.text):
        reply = Reply(reply.code, (f"{reply.enhanced_code} (text withheld: it repeats the password)".lstrip(),))
    raise ReplyError(Command.AUTH, reply)


async def _exchange(connection: Connection, login: Login, mechanism: str) -> Reply:
    """Send AUTH, respond to the server's challenges, and return the last reply."""
    initial = _base64(login.initial_response(mechanism))
    reply = await connection.send_command(Command.AUTH, f"AUTH {mechanism} {initial}".rstrip())
    for number in range(_MOST_CHALLENGES):
        if reply.code != _CONTINUE:
            break
        response = login.response(mechanism, _challenge(reply), number)
        reply = await connection.send_command(Command.AUTH, _base64(response))
    return reply


def _challenge(reply: Reply) -> bytes:
    try:
        return base64.b64decode(reply.text)
    except ValueError:
        return b""  # not base64: the order of the challenges decides


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _own_name(connection: Connection) -> str:
    """Return this machine's full name, else its address as a literal (RFC 5321 §4.1.4)."""
    name = socket.gethostname()
    if _FULL_NAME.fullmatch(name):
        return name
    address = ip_address(connection.local_address.partition("%")[0])
    return f"[IPv6:{address}]" if address.version == 6 else f"[{address}]"  # noqa: PLR2004  # the protocol's name
