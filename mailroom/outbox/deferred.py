"""Opens the outbox as soon as that is possible, and stands in for it until then."""

from collections.abc import Awaitable, Callable
from typing import Any, Final, NoReturn, TypeVar

import structlog

from mailroom.clock import Clock
from mailroom.errors import CannotKeep, OutboxError, OutboxInUse

T = TypeVar("T")

_RETRY_SECONDS: Final = 2.0
_LOG_SECONDS: Final = 60.0

log = structlog.get_logger()


class UnavailableOutbox:
    """Stands in for an outbox, and for a courier: whatever is called raises CannotKeep."""

    @property
    def captured(self) -> "UnavailableOutbox":
        """The mail catcher's store, not open either."""
        return self

    def __getattr__(self, name: str) -> Any:
        return self._refuse

    async def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise CannotKeep("the outbox is not open yet")


async def open_with_retry(
    attempt: Callable[[float | None], Awaitable[T]],
    *,
    wait_seconds: float | None,
    clock: Clock,
    in_trouble: Callable[[], object],
) -> T:
    """Return what `attempt` returns: it opens the outbox, and waits at most so many seconds for another process.

    While it raises OutboxError it is repeated, and the log says once a minute what is wrong; `in_trouble` is called
    the first time. Raises OutboxInUse when another process holds the outbox at the first attempt, and what else
    `attempt` raises (SealBroken).
    """
    try:
        return await attempt(wait_seconds)
    except OutboxInUse:
        raise
    except OutboxError as error:
        problem = str(error)
    in_trouble()
    log_at = clock.monotonic()
    while True:
        if clock.monotonic() >= log_at:
            log.error("outbox.unopened", problem=problem, requests="are answered 503 until it opens")
            log_at = clock.monotonic() + _LOG_SECONDS
        await clock.sleep(_RETRY_SECONDS)
        try:
            return await attempt(0.0)
        except OutboxError as error:
            problem = str(error)
