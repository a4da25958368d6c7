"""A resolver that queries a name server with the zones of a test."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from mailroom.doctor import SystemResolver
from tests.names import SILENT, NameServer, Zones, name_server

Dns = Callable[[Zones], SystemResolver]


@pytest.fixture
def servers() -> list[NameServer]:
    """Return the name servers of this test, to inspect their queries."""
    return []


@pytest.fixture
def dns(servers: list[NameServer]) -> Iterator[Dns]:
    """Return a function that makes a resolver for zones, with a real name server on loopback."""
    with ExitStack() as stack:

        def made(zones: Zones) -> SystemResolver:
            server = stack.enter_context(name_server(zones))
            servers.append(server)
            # Only a test of silence waits for the time-out; a busy machine answers the others late.
            seconds = 0.5 if any(SILENT in records for records in zones.values()) else 20.0
            return SystemResolver(["127.0.0.1"], port=server.port, seconds=seconds)

        yield made
