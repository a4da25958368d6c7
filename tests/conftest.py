"""What every test stands on, and which come first."""

import asyncio
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, settings

from tests.bundled import share_bundled_templates
from tests.postgres_server import PostgresServer

settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")  # how long an example takes depends on what else the machine does
share_bundled_templates()  # before test modules are imported, which build renderers

_SLOWEST = (
    "e2e/test_reload.py",
    "rendering/test_look.py",
    "e2e/test_faults.py",
    "test_container.py",
    "e2e/test_clock_set.py",
    "lint/",
    "e2e/test_on_postgresql.py",
    "rendering/",
    "e2e/test_start_trouble.py",
    "test_server.py",
    "e2e/",
    "test_deploy.py",
    "cli/",
    "providers/",
    "bench/",
)
"""Files and folders that take longest, those that wait and those that compute in turn, so that neither go together
for long. Those not named here come after them."""


def pytest_xdist_auto_num_workers() -> int:
    """Return two workers more than there are cores: some tests wait for seconds, as for a drain."""
    return (os.cpu_count() or 1) + 2


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, so that no worker is left with it while the others have nothing more to do."""
    items.sort(key=lambda item: next((n for n, name in enumerate(_SLOWEST) if f"tests/{name}" in item.nodeid), 99))


@pytest.fixture(autouse=True)
def _loggers_of_one_test(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep one test's logging out of the next: a cached logger would hold on to the first configuration."""
    configure = structlog.configure

    def uncached(**options: Any) -> None:
        configure(**{**options, "cache_logger_on_first_use": False})

    monkeypatch.setattr(structlog, "configure", uncached)
    yield
    structlog.reset_defaults()


@pytest.fixture
async def pass_time(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Return a function that lets the event loop's time jump ahead: time-outs strike without waiting."""
    loop = asyncio.get_running_loop()
    usual = loop.time
    ahead = 0.0

    def jump(seconds: float) -> None:
        nonlocal ahead
        ahead += seconds

    monkeypatch.setattr(loop, "time", lambda: usual() + ahead)
    return jump


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """Return a running PostgreSQL that tests share; each makes a database of its own."""
    with tempfile.TemporaryDirectory() as folder:  # not below pytest's, which only its owner may enter
        Path(folder).chmod(0o755)
        server = PostgresServer.create(Path(folder))
        server.start()
        yield server
        server.stop("immediate")
