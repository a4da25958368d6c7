"""Sends mails over sessions that stay open between them.

    pool = Pool(lambda progress: open_session(server, login, progress), size=10, limits=TimeLimits(30))
    reply = await pool.send(Mail("no-reply@acme.example", "ada@reader.example", content))
    await pool.aclose()

The session used last is used first, so that the others grow old and are closed.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from math import inf
from typing import Final

from mailroom.smtpclient.exceptions import (
    ConnectionLost,
    Extension,
    ExtensionBroken,
    PoolClosed,
    ReplyError,
    TimedOut,
)
from mailroom.smtpclient.reply import Command, Reply
from mailroom.smtpclient.session import Mail, Session
from mailroom.smtpclient.time_limits import SharedTimer, TimeLimits
from mailroom.smtpclient.transactions import Progress

_CHECK_AFTER_SECONDS: Final = 10
"""A session that was idle for longer is checked: if a firewall dropped it, the mail would run into its time limit."""
_CHECK_SECONDS: Final = 2
"""A working server replies to NOOP sooner; a wrong verdict costs a new connection."""
_QUIT_SECONDS: Final = 2
"""How long `aclose` waits for what is unsent."""
_AVOID_SECONDS: Final = 6 * 3600.0
"""After so long an extension that did not work is tried again: the server may have been repaired."""
_TIMER_TOLERANCE_SECONDS: Final = 1e-3
"""A timer may fire a little early; it need not be set again for that."""


class Pool:
    """At most `size` sessions; `send` also raises what `open_session` raises."""

    def __init__(
        self,
        open_session: Callable[[Progress], Awaitable[Session]],
        *,
        size: int = 10,
        limits: TimeLimits = TimeLimits(),  # noqa: B008  # frozen
        idle_seconds: float = 60,
        mails_per_session: int = 100,
        avoided: Iterable[Extension] = (),
        on_broken: Callable[[Extension], None] = lambda _: None,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`limits` are those of mails for which `send` has no others; `avoided` extensions are never used.

        `on_broken` is called with an extension that does not work, and will not be used for hours.
        """
        self._open_session = open_session
        self._slots = asyncio.Semaphore(size)
        self._limits = limits
        self._timer = SharedTimer()
        self._idle_seconds = idle_seconds
        self._mails_per_session = mails_per_session
        self._monotonic = monotonic
        self._sleep = sleep
        self._idle: deque[tuple[float, Session]] = deque()
        """When each became idle, and the session; the one used last is last."""
        self._all: set[Session] = set()
        self._sweeper: asyncio.Task[None] | None = None
        self._avoided: dict[Extension, float] = dict.fromkeys(avoided, inf)
        """Extension → until when it is not used."""
        self._on_broken = on_broken
        self._closed = asyncio.Event()

    async def send(self, mail: Mail, limits: TimeLimits | None = None) -> Reply:
        """Send one mail and return the positive reply to its content. Raises SmtpError.

        An idle session that turns out to be lost before the mail was handed over is replaced by a new one.
        """
        progress = Progress(limits or self._limits)
        try:
            with self._timer.timeout(progress.limits.total, first=progress.limits.greeting) as progress.timeout:
                async with self._slots:
                    return await self._send(mail, progress)
        except TimeoutError:
            if progress.refusal is not None:
                raise progress.refusal from None
            self._avoid(progress.suspect)
            raise TimedOut(progress.step, progress.seconds, handed_over=progress.handed_over) from None
        except ConnectionLost:
            self._avoid(progress.suspect)
            raise

    async def verify(self, envelope: Mail | None = None) -> bool:
        """Open a new session, send NOOP, or this mail's envelope, close it, and return whether it was logged in.

        Raises SmtpError.
        """
        progress = Progress(self._limits)
        try:
            async with asyncio.timeout(progress.limits.total), self._slots:
                session = await self._open(progress)
                try:
                    await (session.check_envelope(envelope) if envelope else _check(session))
                    return session.is_logged_in
                finally:
                    session.quit()
        except TimeoutError:
            raise TimedOut(progress.step, progress.limits.total) from None

    def close_idle(self) -> None:
        """Close the sessions that are idle: the server has too many connections."""
        while self._idle:
            self._idle.popleft()[1].quit()

    async def aclose(self) -> None:
        """Close every session; one that is sending a mail is aborted."""
        self._closed.set()
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.wait([self._sweeper])
        idle = {session for _, session in self._idle}
        for session in idle:
            session.quit()
        for session in self._all - idle:
            session.abort()
        self._idle.clear()
        if self._all:
            await asyncio.wait([session.closed for session in self._all], timeout=_QUIT_SECONDS)
        for session in tuple(self._all):
            session.abort()
            await session.closed

    async def _send(self, mail: Mail, progress: Progress) -> Reply:
        if (idle := self._take_idle()) is not None:
            idle_since, session = idle
            try:
                return await self._send_over(session, mail, progress, self._monotonic() - idle_since)
            except (ConnectionLost, ReplyError) as error:
                if isinstance(error, ExtensionBroken):
                    self._avoid(error.extension)
                elif not _is_worth_a_new_connection(error):
                    raise
        session = await self._open(progress)
        try:
            return await self._send_over(session, mail, progress)
        except ExtensionBroken as error:
            self._avoid(error.extension)
            return await self._send(mail, progress)

    async def _send_over(self, session: Session, mail: Mail, progress: Progress, idle_seconds: float = 0) -> Reply:
        try:
            if idle_seconds > _CHECK_AFTER_SECONDS:
                await _check(session)
            return await session.send(mail, progress)
        finally:
            self._give_back(session)

    async def _open(self, progress: Progress) -> Session:
        if self._closed.is_set():
            raise PoolClosed("the pool is closed")
        progress.begin("greeting")
        session = await self._open_session(progress)
        for extension, until in self._avoided.items():
            if self._monotonic() < until:
                session.avoid(extension)
        self._all.add(session)
        session.closed.add_done_callback(lambda _: self._all.discard(session))
        if self._closed.is_set():  # by `aclose` in the meantime
            session.abort()
        return session

    def _avoid(self, extension: Extension | None) -> None:
        """Do not use an extension for hours."""
        if extension is None or self._monotonic() < self._avoided.get(extension, 0):
            return
        self._avoided[extension] = self._monotonic() + _AVOID_SECONDS
        for session in self._all:
            session.avoid(extension)
        self._on_broken(extension)

    def _take_idle(self) -> tuple[float, Session] | None:
        self._quit_old()
        while self._idle:
            idle_since, session = self._idle.pop()
            if session.is_usable:
                return idle_since, session
            session.abort()
        return None

    def _give_back(self, session: Session) -> None:
        if not session.is_usable:
            session.abort()
        elif self._closed.is_set() or session.mails >= self._mails_per_session:
            session.quit()
        else:
            self._idle.append((self._monotonic(), session))
            if self._sweeper is None:
                self._sweeper = asyncio.create_task(self._sweep())

    async def _sweep(self) -> None:
        """Close each session that has been idle for too long."""
        try:
            while self._idle:
                await self._sleep(self._idle[0][0] + self._idle_seconds - self._monotonic())
                self._quit_old()
        finally:
            self._sweeper = None

    def _quit_old(self) -> None:
        too_old = self._monotonic() - self._idle_seconds + _TIMER_TOLERANCE_SECONDS
        while self._idle and (not self._idle[0][1].is_usable or self._idle[0][0] < too_old):
            self._idle.popleft()[1].quit()


async def _check(session: Session) -> None:
    try:
        async with asyncio.timeout(_CHECK_SECONDS):
            await session.check()
    except TimeoutError:
        raise ConnectionLost(Command.NOOP, "the connection is dead") from None


def _is_worth_a_new_connection(error: ConnectionLost | ReplyError) -> bool:
    """Return whether the mail was not handed over and may be accepted over a new connection."""
    if error.handed_over or isinstance(error, ConnectionLost):
        return not error.handed_over
    return error.ends_connection and error.command is not Command.CONTENT
