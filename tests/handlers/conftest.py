"""One server for all tests that need no settings of their own."""

from collections.abc import Iterator

import pytest

from tests.clock import START
from tests.handlers.serving import WIRE, Running, served

SIGNING_KEY = (WIRE / "webhooks" / "signing-key.txt").read_text().strip()


@pytest.fixture(scope="session")
def running() -> Iterator[Running]:
    """Run a server with both endpoints and the signing key of the captures."""
    with served(webhook={"signing_keys": ["another key", SIGNING_KEY]}) as server:
        yield server


@pytest.fixture
def server(running: Running) -> Running:
    """Return the server, with nothing stored and its clock at the start."""
    running.parts.__init__(running.clock)  # type: ignore[misc]  # the endpoints refer to this object: emptied in place
    running.clock.set(START)
    return running
