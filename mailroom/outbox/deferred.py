"""Opens the outbox as soon as that is possible; until then `UnavailableOutbox` takes its place."""

from collections.abc import Awaitable, Callable
from typing import Any, Final, NoReturn, TypeVar

import structlog

from mailroom.clock import Clock
from mailroom.errors import CannotKeep, OutboxError, OutboxInUse

T = TypeVar("T")

WAIT_SECONDS: Final = 12.0
"""How long to wait for another process that has the outbox: longer than its `shutdown_timeout`."""
_RETRY_SECONDS: Final = 2.0
_LOG_SECONDS: Final = 60.0

log = structlog.get_logger()


class UnavailableOutbox:
    """Takes the place of an outbox or a courier: every method raises CannotKeep."""

    shared = None

    @property
    def captured(self) -> "UnavailableOutbox":
        """The mails of the `capture` provider, unavailable too."""
        return self

    @property
    def secrets(self) -> "UnavailableOutbox":
        """The store of secrets, unavailable too."""
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
    """Return the result of `attempt`, which opens the outbox and waits at most so many seconds for another process.

    It is repeated while it raises OutboxError; the log has the problem once a minute. `in_trouble` is called after the
    first failure. Raises OutboxInUse when another process has the outbox at the first attempt, and other errors of
    `attempt` (SealBroken).
    """
    log_at: float | None = None
    while True:
        try:
            return await attempt(wait_seconds if log_at is None else 0.0)
        except OutboxError as error:
            if log_at is None:
                if isinstance(error, OutboxInUse):
                    raise
                in_trouble()
                log_at = clock.monotonic()
            if clock.monotonic() >= log_at:
                log.error("outbox.open_failed", problem=str(error), requests="are answered 503 until it opens")  # noqa: TRY400 - the text says it all
                log_at = clock.monotonic() + _LOG_SECONDS
        await clock.sleep(_RETRY_SECONDS)
