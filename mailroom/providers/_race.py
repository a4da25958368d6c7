"""Connects to whichever of a host's addresses answers first (happy eyeballs, RFC 8305)."""

import asyncio
import socket
from ipaddress import IPv4Address, IPv6Address
from typing import Final

import aiohappyeyeballs

_NEXT_ADDRESS_SECONDS: Final = 0.25
"""An address that has not answered gets a rival after so long (RFC 8305 §5): it may swallow all packets."""
_FAMILIES: Final = {4: socket.AF_INET, 6: socket.AF_INET6}


async def race(host: str, port: int, local_address: IPv4Address | IPv6Address | None) -> socket.socket:
    """Return a connected socket; neither event loop races by itself on all versions.

    Leaving from `local_address` only addresses of its family run. Raises OSError, which `socket.gaierror` is.
    """
    family = _FAMILIES[local_address.version] if local_address else 0
    found = await asyncio.get_running_loop().getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
    try:
        return await aiohappyeyeballs.start_connection(
            found,
            local_addr_infos=aiohappyeyeballs.addr_to_addr_infos((str(local_address), 0)) if local_address else None,
            happy_eyeballs_delay=_NEXT_ADDRESS_SECONDS,
        )
    except RuntimeError as error:  # uvloop's
        raise OSError(str(error)) from None
