"""Time limits that cost next to nothing while they are kept.

`asyncio.timeout` sets a timer for each block: two of them would be a twentieth of a mail's work.
"""

import asyncio
from types import TracebackType


class TimeLimit:
    """Bounds blocks of code, all by the same time: `with limit():` raises TimeoutError as `asyncio.timeout` does.

    They share one timer, for they end in the order in which they began.
    """

    def __init__(self, seconds: float) -> None:
        """Bound each block to so many seconds; any event loop, one after the other."""
        self._seconds = seconds
        self._loop: asyncio.AbstractEventLoop | None = None
        self._under_way: dict[_Block, float] = {}
        """When each has to end, by the loop's time."""
        self._timed = False

    def __call__(self) -> "_Block":
        """Return a block that begins where it is entered."""
        return _Block(self)

    def _begin(self, block: "_Block") -> None:
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._loop, self._timed = loop, False
            self._under_way.clear()
        self._under_way[block] = end = loop.time() + self._seconds
        if not self._timed:
            self._timed = True
            loop.call_at(end, self._strike, loop)

    def _end(self, block: "_Block") -> None:
        self._under_way.pop(block, None)

    def _strike(self, loop: asyncio.AbstractEventLoop) -> None:
        """Cut off what is over, and come again for the next."""
        if loop is not self._loop:
            return
        self._timed = False
        now = loop.time()
        for block, end in tuple(self._under_way.items()):
            if end > now:
                self._timed = True
                loop.call_at(end, self._strike, loop)
                return
            self._end(block)
            block.cut_off()


class _Block:
    """One use of a time limit."""

    __slots__ = ("_cancelled_before", "_is_cut_off", "_limit", "_task")

    def __init__(self, limit: TimeLimit) -> None:
        self._limit = limit
        self._is_cut_off = False

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None  # a coroutine runs in one
        self._task = task
        self._cancelled_before = task.cancelling()
        self._limit._begin(self)  # noqa: SLF001 - a limit and its blocks are one thing

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._limit._end(self)  # noqa: SLF001 - likewise
        # Somebody else may have cancelled the task, too: then it stays cancelled.
        if self._is_cut_off and self._task.uncancel() <= self._cancelled_before and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def cut_off(self) -> None:
        """End the block, wherever it is."""
        self._is_cut_off = True
        self._task.cancel()
