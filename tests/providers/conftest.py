"""What the providers' tests share."""

import asyncio
from collections.abc import Callable

import pytest


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
