"""Opens the stream under an SMTP session: addresses in a race, a proxy on the way, TLS if that comes first."""

import asyncio
import errno
import socket
import ssl
from pathlib import Path

from mailroom.errors import Misconfigured, SendingError, Unavailable
from mailroom.providers._egress import parse_proxy
from mailroom.providers._http_wire import Lost
from mailroom.providers._http_wire import Wire as RawWire
from mailroom.providers._race import race
from mailroom.providers._smtp_settings import Settings
from mailroom.providers._smtp_wire import Wire
from mailroom.providers._words import bounded


class Connector:
    """Opens streams to the one server that the settings name."""

    def __init__(self, settings: Settings) -> None:
        """Read what the settings say, files too; nothing is dialled."""
        self._settings = settings
        self._proxy = parse_proxy(settings.proxy)
        self._proxy_context = _trusting_too(settings.ca_file) if self._proxy and self._proxy.scheme == "https" else None
        self.context = None if settings.tls == "none" else settings.tls_context()
        self.servername = settings.servername or settings.host
        """The name that the server's certificate must have."""

    async def connect(self) -> Wire:
        """Return a connection; the greeting has not been read. Raises Misconfigured or Unavailable."""
        settings, proxy = self._settings, self._proxy
        where = f"the proxy {proxy.host}:{proxy.port}" if proxy else f"{settings.host}:{settings.port}"
        try:
            if proxy is None:
                return await self._direct()
            from mailroom.providers._http_proxy import open_tunnel  # noqa: PLC0415 - h11, for proxies only

            tunnel = _Tunnel()
            try:
                await asyncio.get_running_loop().create_connection(
                    lambda: tunnel,
                    sock=await race(proxy.host, proxy.port, settings.local_address),
                    ssl=self._proxy_context,
                    server_hostname=proxy.host if self._proxy_context else None,
                )
                host = settings.host.encode("idna").decode()  # no proxy knows other letters
                await open_tunnel(tunnel, proxy, host, settings.port)
                where = f"{settings.host}:{settings.port} (through {where})"
                if settings.tls == "implicit":
                    assert self.context is not None
                    await tunnel.encrypt(self.context, self.servername)
                return tunnel.handed_on()
            except BaseException:
                tunnel.abort()
                raise
        except (OSError, Lost) as error:
            raise connection_failure(where, error, settings) from None

    async def _direct(self) -> Wire:
        settings = self._settings
        context = self.context if settings.tls == "implicit" else None
        _, wire = await asyncio.get_running_loop().create_connection(
            Wire,
            sock=await race(settings.host, settings.port, settings.local_address),
            ssl=context,
            server_hostname=self.servername if context else None,
        )
        return wire


def _trusting_too(ca_file: Path | None) -> ssl.SSLContext:
    """Trust the usual authorities, and our own."""
    context = ssl.create_default_context()
    if ca_file is not None:
        context.load_verify_locations(ca_file)
    return context


class _Tunnel(RawWire):
    """A connection to a proxy, which becomes one to the server.

    It is read octet by octet, for behind the proxy's answer the server's greeting may have come in the same packet.
    """

    async def read(self) -> bytes:
        """Return one octet."""
        data = await super().read()
        self._unread[:0] = data[1:]
        return data[:1]

    async def encrypt(self, context: ssl.SSLContext, name: str) -> None:
        """Speak TLS with the server, inside whatever the proxy speaks."""
        loop = asyncio.get_running_loop()
        transport = await loop.start_tls(self.transport, self, context, server_hostname=name)
        if transport is None:
            raise Lost("the connection was closed")
        self.taken_over(transport)

    def handed_on(self) -> Wire:
        """Give the connection up, with what has come already."""
        if self._ended is not None:
            raise Lost(self._ended)
        wire = Wire()
        self.transport.set_write_buffer_limits()
        wire.take_over(self.transport, bytes(self._unread))
        return wire


def connection_failure(where: str, error: BaseException, settings: Settings, *, stage: str = "") -> SendingError:
    """Return what a connection that failed, or ended at that stage, means."""
    kind: type[SendingError] = Unavailable
    match error:
        case ssl.SSLCertVerificationError():
            kind = Misconfigured
            words = (
                f"the certificate of {where} is not valid: {bounded(error.verify_message)}; "
                "if it is signed by an authority of your own, name its file in ca_file"
            )
        case ssl.SSLError() if not isinstance(error, ssl.SSLEOFError):
            kind = Misconfigured
            reason = (error.reason or "unknown").replace("_", " ").lower()
            words = f"no encryption with {where}: {reason}; do port and tls belong together?"
        case socket.gaierror():
            # A name that does not exist is Unavailable too: container networks answer so for a relay that restarts,
            # and codes must not wait minutes for it. The words tell the operator who misspelt it.
            words = f"the host name of {where.rpartition(':')[0]} cannot be resolved: {error.strerror}"
        case OSError(errno=errno.EADDRNOTAVAIL) if settings.local_address is not None:
            kind = Misconfigured
            words = f"this machine cannot send from local_address {settings.local_address}"
        case _ if stage:
            words = f"{where} ended the connection at {stage}: {bounded(str(error))}"
        case _:
            words = f"cannot connect to {where}: {bounded(getattr(error, 'strerror', None) or str(error))}"
    return kind(words)
