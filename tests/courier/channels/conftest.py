"""A clock, and counts that the limiters of several processes share."""

import pytest

from tests.clock import FakeClock
from tests.courier.channels.counts import CountsInMemory


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def counts(clock: FakeClock) -> CountsInMemory:
    return CountsInMemory(clock)
