"""One lane a provider: how many messages may be in memory for it, how many are on the wire, and who goes next."""

import heapq
from asyncio import CancelledError, Future, get_running_loop
from dataclasses import dataclass
from itertools import count
from types import TracebackType
from typing import Final

from mailroom.message import Priority

_PLACES_PER_TURN: Final = 2
"""While one mail is on the wire the next one is leased and ready; more would only fill the memory."""
_TURNS_PER_RESERVED: Final = 5
"""One turn in so many is the codes' alone."""


@dataclass(slots=True)
class Reservation:
    """Slots reserved for a claim, which takes them in another thread; `PriorityLimiter` counts what was leased."""

    places: int
    for_others: int
    """How many of them may go to messages that are no codes."""

    def spend(self, *, code: bool) -> bool:
        """Spend a place; False: there is none for this kind."""
        if self.places <= 0 or (not code and self.for_others <= 0):
            return False
        self.places -= 1
        if not code:
            self.for_others -= 1
        return True


class PriorityLimiter:
    """A provider's places (messages leased to us) and turns (messages on the wire), some of them the codes' alone.

    Lives on the event loop; only a `Reservation` leaves it.
    """

    def __init__(self, concurrency: int) -> None:
        self._turns = concurrency
        self._turns_for_others = max(1, concurrency - max(1, concurrency // _TURNS_PER_RESERVED))
        self._running = self._running_others = 0
        self._free = _PLACES_PER_TURN * self._turns
        self._free_for_others = _PLACES_PER_TURN * self._turns_for_others
        self._lent = (0, 0)
        self._wanting: list[tuple[bool, int, Future[bool]]] = []
        self._waiting: list[tuple[Priority, int, Future[None]]] = []
        self._sequence = count()

    def free(self, *, code: bool) -> int:
        """Return how many more messages of this kind may be leased."""
        return self._free if code else min(self._free, self._free_for_others)

    def take(self, *, code: bool) -> bool:
        """Take a place; False: there is none for this kind, or somebody wants it who goes first."""
        if self.free(code=code) <= 0 or (self._wanting and not (code and self._wanting[0][0])):
            return False
        self._count_place(code=code, by=-1)
        return True

    async def place(self, *, code: bool, patience_seconds: float) -> bool:
        """Take a place as soon as there is one: codes first, then in the order of asking. False: none came in time."""
        loop = get_running_loop()
        future: Future[bool] = loop.create_future()
        heapq.heappush(self._wanting, (not code, next(self._sequence), future))
        self._grant()
        timer = loop.call_later(patience_seconds, _give_up, future)
        try:
            return await future
        except CancelledError:
            if future.done() and not future.cancelled() and future.result():
                self.give_back(code=code)  # it came just as the wait was given up
            raise
        finally:
            timer.cancel()

    def give_back(self, *, code: bool) -> None:
        """Give a place back."""
        self._count_place(code=code, by=1)
        self._grant()

    def _count_place(self, *, code: bool, by: int) -> None:
        self._free += by
        if not code:
            self._free_for_others += by

    def _grant(self) -> None:
        while self._wanting:
            other, _, future = self._wanting[0]
            if not future.done():  # else nobody waits any more
                if self.free(code=not other) <= 0:
                    return
                self._count_place(code=not other, by=-1)
                future.set_result(True)
            heapq.heappop(self._wanting)

    def lend(self, most: int) -> Reservation:
        """Lend up to so many places to a claim. Until `take_back` nobody else has them."""
        places = max(0, min(self._free, most))
        loan = Reservation(places, max(0, min(places, self._free_for_others)))
        self._free -= loan.places
        self._free_for_others -= loan.for_others
        self._lent = (loan.places, loan.for_others)
        return loan

    def take_back(self, *, codes: int, others: int) -> None:
        """Take back what was lent but for the places of so many messages, which a claim has leased in the end.

        The loan itself does not tell: a transaction that was rolled back has spent, and so has its repetition.
        """
        places, for_others = self._lent
        self._free += places - codes - others
        self._free_for_others += for_others - others
        self._grant()

    def turn(self, priority: Priority) -> "Permit":
        """Return a turn on the wire, to be waited for with `async with`: codes first, then in the order of asking."""
        return Permit(self, priority)

    async def _begin(self, priority: Priority) -> None:
        code = priority is Priority.CODE
        if not self._waiting and self._may_run(code=code):
            self._count(code=code, by=1)
            return
        future: Future[None] = get_running_loop().create_future()
        heapq.heappush(self._waiting, (priority, next(self._sequence), future))
        self._call()
        try:
            await future
        except CancelledError:
            if future.done() and not future.cancelled():  # the turn came just as the wait was given up
                self._end(code=code)
            raise

    def _end(self, *, code: bool) -> None:
        self._count(code=code, by=-1)
        self._call()

    def _count(self, *, code: bool, by: int) -> None:
        self._running += by
        if not code:
            self._running_others += by

    def _may_run(self, *, code: bool) -> bool:
        return self._running < self._turns and (code or self._running_others < self._turns_for_others)

    def _call(self) -> None:
        """Let those run whose turn it is; the heap's order puts every code before everything else."""
        while self._waiting:
            priority, _, future = self._waiting[0]
            code = priority is Priority.CODE
            if not future.done():  # else it was cancelled while it waited
                if not self._may_run(code=code):
                    return
                self._count(code=code, by=1)
                future.set_result(None)
            heapq.heappop(self._waiting)


class Permit:
    """A message's turn on a lane's wire."""

    __slots__ = ("_lane", "_priority")

    def __init__(self, lane: PriorityLimiter, priority: Priority) -> None:
        self._lane = lane
        self._priority = priority

    async def __aenter__(self) -> None:
        await self._lane._begin(self._priority)  # noqa: SLF001 - a lane and its turns are one thing

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lane._end(code=self._priority is Priority.CODE)  # noqa: SLF001 - likewise


def _give_up(future: "Future[bool]") -> None:
    if not future.done():
        future.set_result(False)
