"""Opens a session: connects, through a proxy if there is one, encrypts, says EHLO and logs in.

    server = Server("smtp.acme.example", 587)
    session = await open_session(server, Login("ada", "secret"))

It has no time limit of its own: use `asyncio.timeout`, or the `Progress` of a mail that a `Pool` sends.
"""

import asyncio
import ssl
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Literal

from mailroom.smtpclient.connection import Connection
from mailroom.smtpclient.exceptions import ConnectionFailed, NotOffered
from mailroom.smtpclient.handshake import Login, log_in, read_greeting, say_hello, start_tls
from mailroom.smtpclient.session import Session
from mailroom.smtpclient.sockets import open_socket
from mailroom.smtpclient.transactions import Progress

TlsMode = Literal["starttls", "implicit", "opportunistic", "none"]


@dataclass(frozen=True, slots=True)
class Server:
    """A server's address, and how to connect to it."""

    host: str
    port: int = 587
    tls: TlsMode = "starttls"
    """`starttls`: by STARTTLS or not at all; `implicit`: from the first octet (port 465); `opportunistic`: by STARTTLS
    if it is offered, but no login without it, except on loopback; `none`: in clear, the login too."""
    context: ssl.SSLContext = field(default_factory=ssl.create_default_context)
    server_name: str = ""
    """The name that the certificate must be valid for; default: `host`."""
    helo_name: str | None = None
    """Our name; default: this machine's full name, or its address."""
    local_address: IPv4Address | IPv6Address | None = None
    """Source address of the connection."""
    proxy_url: str = field(default="", repr=False)
    """`socks5://user:password@host:1080`, `http://host:3128`, or `https://` for TLS to the proxy as well."""
    proxy_context: ssl.SSLContext | None = None
    """For an `https://` proxy; default: the system's authorities."""

    @property
    def name(self) -> str:
        """Host and port."""
        return f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether the host is this machine and no proxy is used."""
        if self.proxy_url:
            return False
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


async def open_session(server: Server, login: Login | None = None, progress: Progress | None = None) -> Session:
    """Return a session that is ready for its first mail. Raises SmtpError."""
    connection: Connection | None = None
    try:
        connection = await _connect(server)
        await read_greeting(connection)
        if progress is not None:
            progress.begin("login")
        return await _shake_hands(connection, server, login)
    except BaseException as error:
        if connection is not None:
            connection.abort()
        if isinstance(error, OSError):
            raise ConnectionFailed(server.name, error) from None
        raise


async def _connect(server: Server) -> Connection:
    context = server.context if server.tls == "implicit" else None
    server_name = server.server_name or server.host
    if server.proxy_url:
        from mailroom.smtpclient.proxy import connect_through_proxy  # noqa: PLC0415 - python-socks, only for proxies

        connection = await connect_through_proxy(
            server.proxy_url,
            server.host,
            server.port,
            local_address=server.local_address,
            context=server.proxy_context,
        )
        if context is not None:
            await connection.start_tls(context, server_name)
        return connection
    _, connection = await asyncio.get_running_loop().create_connection(
        Connection,
        sock=await open_socket(server.host, server.port, server.local_address),
        ssl=context,
        server_hostname=server_name if context else None,
    )
    return connection


async def _shake_hands(connection: Connection, server: Server, login: Login | None) -> Session:
    """Encrypt and log in; the session has the extensions that the server offers after encryption."""
    encrypted = server.tls == "implicit"
    extensions = await say_hello(connection, server.helo_name)
    if server.tls == "starttls" or (server.tls == "opportunistic" and "starttls" in extensions):
        await start_tls(connection, extensions, server.context, server.server_name or server.host)
        encrypted = True
        extensions = await say_hello(connection, server.helo_name)
    session = Session(connection, extensions)
    if login is not None:
        if not encrypted and server.tls != "none" and not server.is_loopback:
            raise NotOffered("STARTTLS")
        session.is_logged_in = await log_in(connection, extensions, login)
    return session
