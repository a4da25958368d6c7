"""Opens TCP connections, and looks for unread data on them.

connected = await open_socket("smtp.acme.example", 587)
"""

import asyncio
import select
import socket
from ipaddress import IPv4Address, IPv6Address
from typing import Final

import aiohappyeyeballs

_NEXT_ADDRESS_SECONDS: Final = 0.25
"""After so long without an answer the next address is tried as well (RFC 8305 §5)."""
_FAMILIES: Final = {4: socket.AF_INET, 6: socket.AF_INET6}


async def open_socket(host: str, port: int, local_address: IPv4Address | IPv6Address | None = None) -> socket.socket:
    """Return a socket connected to the first of the host's addresses that answers (happy eyeballs, RFC 8305).

    It is bound to `local_address`, of whose family the host's address then is. Raises OSError, of which
    `socket.gaierror` is one. asyncio can do this too; uvloop cannot.
    """
    family = _FAMILIES[local_address.version] if local_address else 0
    addresses = await asyncio.get_running_loop().getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
    try:
        return await aiohappyeyeballs.start_connection(
            addresses,
            local_addr_infos=aiohappyeyeballs.addr_to_addr_infos((str(local_address), 0)) if local_address else None,
            happy_eyeballs_delay=_NEXT_ADDRESS_SECONDS,
        )
    except RuntimeError as error:  # uvloop raises it
        raise OSError(str(error)) from None


def has_unread_data(transport: asyncio.BaseTransport) -> bool:
    """Return whether something waits to be read: data, or a FIN or reset that the event loop has not seen yet."""
    poll = select.poll()
    poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
    return bool(poll.poll(0))
