"""Opens the connection that a request goes over: a race, a proxy, TLS. What fails here is never the mail's fault."""

import asyncio
import errno
import socket
import ssl

from mailroom.errors import Misconfigured, SendingError, Unavailable
from mailroom.providers._http_proxy import open_tunnel
from mailroom.providers._http_settings import HttpSettings, parse_proxy
from mailroom.providers._http_wire import Lost, Wire
from mailroom.providers._race import race
from mailroom.providers._words import bounded

Origin = tuple[str, str, int]
"""Scheme, host, port."""


class Dialler:
    """Opens connections as the settings say."""

    def __init__(self, settings: HttpSettings) -> None:
        """Read what the settings say; nothing is dialled."""
        self._seconds = settings.connect_timeout
        self._local_address = settings.local_address
        self._proxy = parse_proxy(settings.proxy.get_secret_value()) if settings.proxy else None
        self._context = settings.tls_context()
        self._context.set_alpn_protocols(["http/1.1"])
        # A private authority of the endpoint's says nothing about the proxy.
        self._proxy_context = ssl.create_default_context() if settings.ca_file is None else self._context

    async def dial(self, origin: Origin) -> Wire:
        """Return a connection that is ready for its first request. Raises Misconfigured or Unavailable."""
        scheme, host, port = origin
        proxy = self._proxy
        # What a failure is reported of: with a proxy only the proxy is known by its address.
        where = f"the proxy {proxy.host}:{proxy.port}" if proxy else f"{host}:{port}"
        wires: list[Wire] = []
        try:
            async with asyncio.timeout(self._seconds):
                if proxy is None:
                    return await self._connect(wires, host, port, self._context if scheme == "https" else None)
                wire = await self._connect(
                    wires, proxy.host, proxy.port, self._proxy_context if proxy.scheme == "https" else None
                )
                await open_tunnel(wire, proxy, host, port)
                if scheme == "https":
                    where = f"{host}:{port} (through the proxy {proxy.host}:{proxy.port})"
                    await _encrypt(wire, self._context, host)
                return wire
        except BaseException as error:
            for wire in wires:
                wire.abort()
            if isinstance(error, TimeoutError):
                raise Unavailable(f"{where} was not ready for a request within {self._seconds:g} s") from None
            if isinstance(error, Lost | OSError):
                raise self._failure(where, error) from None
            raise

    async def _connect(self, wires: list[Wire], host: str, port: int, context: ssl.SSLContext | None) -> Wire:
        def wire() -> Wire:
            wires.append(Wire())
            return wires[-1]

        _, made = await asyncio.get_running_loop().create_connection(
            wire,
            sock=await race(host, port, self._local_address),
            ssl=context,
            server_hostname=host if context else None,
        )
        return made

    def _failure(self, where: str, error: Lost | OSError) -> SendingError:
        match error:
            case ssl.SSLCertVerificationError():
                return Misconfigured(
                    f"the certificate of {where} is not valid: {bounded(error.verify_message)}; "
                    "if it is signed by an authority of your own, name its file in ca_file"
                )
            case ssl.SSLError() if not isinstance(error, ssl.SSLEOFError):
                reason = (error.reason or "unknown").replace("_", " ").lower()
                return Misconfigured(f"no encryption with {where}: {bounded(reason)}")
            case socket.gaierror():
                # Unavailable although it may be misspelt: container networks answer so while a host restarts.
                local = self._local_address
                as_wanted = f" to an IPv{local.version} address, which local_address needs" if local else ""
                return Unavailable(f"the host name of {where} cannot be resolved{as_wanted}: {error.strerror}")
            case OSError(errno=errno.EADDRNOTAVAIL) if self._local_address is not None:
                return Misconfigured(f"this machine cannot send from local_address {self._local_address}")
            case OSError():
                return Unavailable(
                    f"cannot connect to {where}: {bounded(error.strerror or str(error)) or 'the connection was closed'}"
                )
        return Unavailable(f"cannot connect to {where}: {bounded(str(error))}")


async def _encrypt(wire: Wire, context: ssl.SSLContext, host: str) -> None:
    transport = await asyncio.get_running_loop().start_tls(wire.transport, wire, context, server_hostname=host)
    if transport is None:
        raise Lost("the connection was closed")
    wire.taken_over(transport)
