"""Asks a proxy for a tunnel: CONNECT (RFC 9110 §9.3.6) with Basic, SOCKS5 (RFC 1928) with a password (RFC 1929)."""

import base64
from ipaddress import ip_address
from typing import Final

import h11

from mailroom.errors import Misconfigured, SendingError, Unavailable
from mailroom.providers._egress import Proxy
from mailroom.providers._http_wire import Lost, Wire
from mailroom.providers._words import bounded

_OUR_FAULT: Final = frozenset({400, 401, 403, 405, 407})
_VERSION: Final = 5
_NO_LOGIN: Final = 0
_PASSWORD: Final = 2
_NONE_FITS: Final = 0xFF
_REPLIES: Final = {
    1: "general failure",
    2: "not allowed by its rules",
    3: "network unreachable",
    4: "host unreachable",
    5: "connection refused",
    6: "TTL expired",
    7: "command not supported",
    8: "address type not supported",
}
"""RFC 1928 §6."""
_NOT_ALLOWED: Final = 2
_ADDRESS_OCTETS: Final = {1: 4, 4: 16}


async def open_tunnel(wire: Wire, proxy: Proxy, host: str, port: int) -> None:
    """Return once everything that is written goes to that host.

    Raises Misconfigured for credentials or rules, Unavailable when the proxy cannot, Lost when it hangs up.
    """
    if proxy.scheme.startswith("socks5"):
        await _socks5(wire, proxy, host, port)
    else:
        await _connect(wire, proxy, host, port)


async def _connect(wire: Wire, proxy: Proxy, host: str, port: int) -> None:
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    headers = [("Host", target)]
    if proxy.username:
        both = f"{proxy.username}:{proxy.password}".encode()
        headers.append(("Proxy-Authorization", f"Basic {base64.b64encode(both).decode()}"))
    talk = h11.Connection(h11.CLIENT)
    await wire.write(talk.send(h11.Request(method="CONNECT", target=target, headers=headers)) or b"")
    await wire.write(talk.send(h11.EndOfMessage()) or b"")
    try:
        while (event := talk.next_event()) is h11.NEED_DATA or isinstance(event, h11.InformationalResponse):
            if event is h11.NEED_DATA:
                talk.receive_data(await wire.read())
    except h11.RemoteProtocolError:
        raise Unavailable(f"the proxy {proxy.host}:{proxy.port} does not speak HTTP") from None
    if not isinstance(event, h11.Response):
        raise Lost("the proxy closed the connection")
    if event.status_code not in range(200, 300):
        kind: type[SendingError] = Misconfigured if event.status_code in _OUR_FAULT else Unavailable
        reason = bounded(event.reason.decode("latin-1"))
        raise kind(f"the proxy opens no tunnel: {event.status_code} {reason}".rstrip(), code=str(event.status_code))


async def _socks5(wire: Wire, proxy: Proxy, host: str, port: int) -> None:
    reader = _Exactly(wire)
    ways = bytes((_NO_LOGIN, _PASSWORD)) if proxy.username else bytes((_NO_LOGIN,))
    await wire.write(bytes((_VERSION, len(ways))) + ways)
    version, way = await reader.read(2)
    if version != _VERSION:
        raise Unavailable(f"the proxy {proxy.host}:{proxy.port} does not speak SOCKS5")
    if way == _PASSWORD and proxy.username:
        user, password = proxy.username.encode(), proxy.password.encode()
        await wire.write(bytes((1, len(user))) + user + bytes((len(password),)) + password)
        if (await reader.read(2))[1]:
            raise Misconfigured("the proxy refuses the username and password", code="SOCKS5 login")
    elif way != _NO_LOGIN:
        raise Misconfigured("the proxy wants a login that we have not got", code="SOCKS5 login")
    await wire.write(bytes((_VERSION, 1, 0)) + _address(host) + port.to_bytes(2, "big"))
    _, reply, _, kind = await reader.read(4)
    length = _ADDRESS_OCTETS.get(kind) or (await reader.read(1))[0]
    await reader.read(length + 2)
    if reply:
        words = f"the proxy opens no tunnel: {_REPLIES.get(reply, 'unknown')}"
        raise (Misconfigured if reply == _NOT_ALLOWED else Unavailable)(words, code=f"SOCKS5 {reply}")


def _address(host: str) -> bytes:
    """Return the address as it stands in a request; a name is resolved by the proxy."""
    try:
        address = ip_address(host)
    except ValueError:
        name = host.encode("ascii")
        return bytes((3, len(name))) + name
    return bytes((1 if address.version == 4 else 4,)) + address.packed  # noqa: PLR2004  # the protocol's name


class _Exactly:
    """Reads so many octets, no more."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._unread = b""

    async def read(self, number: int) -> bytes:
        while len(self._unread) < number:
            self._unread += await self._wire.read()
        data, self._unread = self._unread[:number], self._unread[number:]
        return data
