"""One server for all tests that need no settings of their own."""

from collections.abc import Iterator

import pytest

from tests.clock import START
from tests.handlers.serving import WIRE, Endpoints, served

SIGNING_KEY = (WIRE / "webhooks" / "signing-key.txt").read_text().strip()


@pytest.fixture(scope="session")
def running() -> Iterator[Endpoints]:
    """Run a server with both doors open and the signing key of the captures."""
    with served(webhook={"signing_keys": ["another key", SIGNING_KEY]}) as doors:
        yield doors


@pytest.fixture
def doors(running: Endpoints) -> Endpoints:
    """Give the server, with nothing kept and its clock at the start."""
    running.parts.__init__(running.clock)  # type: ignore[misc]  # the doors hold on to this object: emptied in place
    running.clock.set(START)
    return running
