"""What every test stands on."""

from collections.abc import Iterator
from typing import Any

import pytest
import structlog


@pytest.fixture(autouse=True)
def _loggers_of_one_test(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep one test's logging out of the next: a cached logger would hold on to the first configuration."""
    configure = structlog.configure

    def uncached(**options: Any) -> None:
        configure(**{**options, "cache_logger_on_first_use": False})

    monkeypatch.setattr(structlog, "configure", uncached)
    yield
    structlog.reset_defaults()
