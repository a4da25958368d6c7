"""Runs operations of one kind, all that wait in one transaction (group commit).

puts = Batches(put_all)
result = await puts.run(request)          # put_all gets the requests of all callers that wait
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Generic, TypeAlias, TypeVar, cast

import msgspec

from mailroom.errors import CannotKeep
from mailroom.outbox.postgres.database_pool import ANSWER_SECONDS

Argument = TypeVar("Argument")
Result = TypeVar("Result")

Work: TypeAlias = Callable[[Sequence[Argument]], Awaitable[Sequence[Result | Exception]]]
"""Runs one transaction for a list of arguments; returns a result for each, or the exception for its caller."""

_MAX_OPERATIONS: Final = 128
"""Operations per transaction. Each code takes an advisory lock, of which a small server has some thousands."""

_WORTH_ANOTHER: Final = 16
"""Operations that must wait before another batch begins beside the one under way: each has a cost of its own."""


class _Operation(msgspec.Struct, frozen=True, eq=False):
    argument: Any
    future: "asyncio.Future[Any]"


class Batches(Generic[Argument, Result]):
    """Runs batches of one kind of work, up to `at_once` at the same time.

    With two, this process prepares a batch while PostgreSQL works on another: a sixth more requests in bench row j.
    Work that may run beside itself locks rows as it would beside another process: in sorted order.
    """

    def __init__(
        self,
        work: Work[Argument, Result],
        *,
        seconds: float = ANSWER_SECONDS,
        at_once: int = 1,
    ) -> None:
        self._work = work
        self._seconds = seconds
        self._at_once = at_once
        self._waiting: list[_Operation] = []
        # Operations in order, with the loop's time at which each is given up: one timer for all of them uses a tenth
        # less CPU than one for each.
        self._deadlines: deque[tuple[float, asyncio.Future[Any]]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._flushing: set[asyncio.Task[None]] = set()
        self._closed = False

    async def run(self, argument: Argument) -> Result:
        """Return the operation's result once it is durable.

        Raises CannotKeep when it was not within the batches' `seconds`, and whatever the work raises. An operation
        whose caller has given up is not begun.
        """
        if self._closed:
            raise CannotKeep("the outbox is closed")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        self._waiting.append(_Operation(argument, future))
        while self._deadlines and self._deadlines[0][1].done():
            self._deadlines.popleft()
        self._deadlines.append((loop.time() + self._seconds, future))
        if self._timer is None:
            self._timer = loop.call_later(self._seconds, self._give_up)
        if not self._flushing or (len(self._flushing) < self._at_once and len(self._waiting) >= _WORTH_ANOTHER):
            self._flushing.add(asyncio.create_task(self._flush()))
        return await future

    async def close(self) -> None:
        """Finish the operations that wait."""
        self._closed = True
        while self._flushing:
            await asyncio.wait(self._flushing)
        if self._timer:
            self._timer.cancel()

    def _give_up(self) -> None:
        """Fail operations that have waited too long, and look again when the next one may have."""
        loop = asyncio.get_running_loop()
        while self._deadlines and (self._deadlines[0][1].done() or self._deadlines[0][0] <= loop.time()):
            _, future = self._deadlines.popleft()
            if not future.done():
                future.set_exception(CannotKeep(f"the database did not answer within {self._seconds:g} s"))
        self._timer = loop.call_at(self._deadlines[0][0], self._give_up) if self._deadlines else None

    async def _flush(self) -> None:
        try:
            while self._waiting:
                await asyncio.sleep(0)  # let requests that have arrived join this transaction
                batch, self._waiting = self._waiting[:_MAX_OPERATIONS], self._waiting[_MAX_OPERATIONS:]
                await self._run([operation for operation in batch if not operation.future.done()])
        finally:
            # Not by a callback, which would run later: an operation that comes in between must begin a flush.
            self._flushing.remove(cast("asyncio.Task[None]", asyncio.current_task()))

    async def _run(self, operations: list[_Operation]) -> None:
        """Run operations in one transaction; if one of them makes it fail, each half in its own."""
        if not operations:
            return
        arguments = [operation.argument for operation in operations]
        try:
            results = await self._work(arguments)
        except Exception as error:  # noqa: BLE001 - the callers get it
            if isinstance(error, CannotKeep) or len(operations) == 1:
                results = [error] * len(operations)
            else:
                middle = len(operations) // 2
                for half in (operations[:middle], operations[middle:]):
                    await self._run([operation for operation in half if not operation.future.done()])
                return
        for operation, result in zip(operations, results, strict=True):
            if operation.future.done():  # its caller was cancelled, or has given up
                continue
            if isinstance(result, Exception):
                operation.future.set_exception(result)
            else:
                operation.future.set_result(result)
