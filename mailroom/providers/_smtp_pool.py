"""Open sessions that wait for their next mail. The one used last goes first, so that the others can grow old."""

import asyncio
from collections import deque
from typing import Final

from mailroom.clock import Clock
from mailroom.providers._smtp_session import Session

_GOODBYE_SECONDS: Final = 2
_CLOSE_ENOUGH: Final = 1e-3
"""A timer may strike a little early; it need not be set again for that."""


class Pool:
    """Keeps sessions between mails. How many there are is bounded by who takes them."""

    def __init__(self, clock: Clock, *, idle_seconds: float, mails_per_connection: int) -> None:
        self._clock = clock
        self._idle_seconds = idle_seconds
        self._mails_per_connection = mails_per_connection
        self._idle: deque[Session] = deque()
        self._open: set[Session] = set()
        self._sweeper: asyncio.Task[None] | None = None
        self.closed = False

    def take(self) -> Session | None:
        """Return the session that was used last, or None if there is none worth using."""
        self._dismiss_old()
        while self._idle:
            session = self._idle.pop()
            if session.usable:
                return session
            session.abort()
        return None

    def idle_for(self, session: Session) -> float:
        """Return for how many seconds nobody has used it."""
        return self._clock.monotonic() - session.idle_since

    def add(self, session: Session) -> None:
        """Answer for a new session until it is closed."""
        session.idle_since = self._clock.monotonic()
        self._open.add(session)
        session.closed.add_done_callback(lambda _: self._open.discard(session))
        if self.closed:
            session.abort()

    def give_back(self, session: Session) -> None:
        """Keep a session for its next mail, or close it if it is not fit for one."""
        if not session.usable:
            session.abort()
        elif self.closed or session.mails >= self._mails_per_connection:
            session.quit()
        else:
            session.idle_since = self._clock.monotonic()
            self._idle.append(session)
            if self._sweeper is None:
                self._sweeper = asyncio.create_task(self._sweep())

    async def aclose(self) -> None:
        """Close every session; one with a mail on its way is cut off."""
        self.closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.wait([self._sweeper])
        for session in self._idle:
            session.quit()
        for session in self._open.difference(self._idle):
            session.abort()
        self._idle.clear()
        if goodbyes := [session.closed for session in self._open]:
            await asyncio.wait(goodbyes, timeout=_GOODBYE_SECONDS)
        for session in tuple(self._open):
            session.abort()
            await session.closed

    async def _sweep(self) -> None:
        """Close each session when it has been idle for too long, though no mail comes."""
        try:
            while self._idle:
                await self._clock.sleep(self._idle_seconds - self.idle_for(self._idle[0]))
                self._dismiss_old()
        finally:
            self._sweeper = None

    def _dismiss_old(self) -> None:
        while self._idle and (
            not self._idle[0].usable or self.idle_for(self._idle[0]) > self._idle_seconds - _CLOSE_ENOUGH
        ):
            self._idle.popleft().quit()
