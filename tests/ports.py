"""Ports for programs that must be told one before they listen; whoever can should bind port 0 instead."""

import random
import socket

_FIRST, _LAST = 10_000, 32_000
"""Below the ephemeral ports (32,768 to 60,999): no outgoing connection takes one between our look and its use."""


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody has; it is random, since several test runs may share the machine."""
    while True:
        port = random.SystemRandom().randint(_FIRST, _LAST)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
