"""Connects to the first of a host's addresses that answers (happy eyeballs, RFC 8305).

connected = await open_socket("smtp.acme.example", 587)
"""

import asyncio
import socket
from ipaddress import IPv4Address, IPv6Address
from typing import Final

import aiohappyeyeballs

_NEXT_ADDRESS_SECONDS: Final = 0.25
"""After so long without an answer the next address is tried as well (RFC 8305 §5)."""
_FAMILIES: Final = {4: socket.AF_INET, 6: socket.AF_INET6}


async def open_socket(host: str, port: int, local_address: IPv4Address | IPv6Address | None = None) -> socket.socket:
    """Return a connected socket, bound to `local_address`, whose family is then the only one that is tried.

    Raises OSError, which `socket.gaierror` is. asyncio has this too; uvloop has not.
    """
    family = _FAMILIES[local_address.version] if local_address else 0
    found = await asyncio.get_running_loop().getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
    try:
        return await aiohappyeyeballs.start_connection(
            found,
            local_addr_infos=aiohappyeyeballs.addr_to_addr_infos((str(local_address), 0)) if local_address else None,
            happy_eyeballs_delay=_NEXT_ADDRESS_SECONDS,
        )
    except RuntimeError as error:  # uvloop raises it
        raise OSError(str(error)) from None
