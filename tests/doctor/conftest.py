"""What the doctor's tests share: a world whose DNS is made up."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from mailroom.doctor import SystemResolver
from tests.names import NameServer, Zones, name_server

World = Callable[[Zones], SystemResolver]


@pytest.fixture
def servers() -> list[NameServer]:
    """Return the name servers of this test, to see what they were asked."""
    return []


@pytest.fixture
def world(servers: list[NameServer]) -> Iterator[World]:
    """Return what makes a resolver that asks a real name server on loopback."""
    with ExitStack() as stack:

        def made(zones: Zones) -> SystemResolver:
            server = stack.enter_context(name_server(zones))
            servers.append(server)
            return SystemResolver(["127.0.0.1"], port=server.port, seconds=0.3)

        yield made
