"""Bounds a server's connections: their number, how long each is waited for, and what their requests hold in memory.

A connection that is waited for stands in one list, the longest waiting first. Every connection of a list is given the
same time, so only its first ones can be overdue, and no connection needs a timer of its own.
"""

import contextlib
import resource
from collections.abc import Hashable
from typing import Final, Protocol

import structlog

from mailroom.metrics import Metrics

HEAD_SECONDS: Final = 10.0
"""For the head of a request, from its first octet; for a new connection from the start."""
IDLE_SECONDS: Final = 75
"""Between two requests. Well past the idle time of Logto and of the proxies in between."""
_BODY_SECONDS: Final = 15.0
"""For a body that no endpoint bounds itself: those in `reading` give it 10 s and answer in their own words."""
_BLOCKED_SECONDS: Final = 10.0
"""For a client that does not read its responses."""
_CLOSING_SECONDS: Final = 10.0
"""For the rest of a request that was answered already (RFC 9112 §9.6)."""
_UNUSED_SECONDS: Final = 6.0
"""Logto closes a connection that it has not used for 5 s: nobody misses an older one."""
_FEW: Final = 4
"""Less than this part of all connections."""
_LONGEST_TICK_SECONDS: Final = 1.0
"""Of a longer one the rest is not counted: this process was stopped, and octets may be waiting for it."""

MOST_CONNECTIONS: Final = 4096
"""Also where there are more descriptors: an idle connection takes 3 to 6 KiB."""
_RESERVED_DESCRIPTORS: Final = 256
"""For the outbox, the providers, the logs, and for connections that are being closed."""
MOST_HELD: Final = 16 * 1024 * 1024
"""Octets of all unfinished requests without Logto's authorization; with what Python adds, 20 to 26 MiB."""
MOST_HELD_AUTHORIZED: Final = 64 * 1024 * 1024
"""Octets of those with it, which have an account of their own: more than 200 mails of 300 kB at once."""

_REPORT_SECONDS: Final = 60.0

log = structlog.get_logger()


class Connection(Hashable, Protocol):
    """What the table knows of a connection."""

    held: int
    """Octets of unfinished requests that are counted for it."""
    account: "MemoryBudget | None"
    """Where they are counted."""

    @property
    def is_authorized(self) -> bool:
        """Whether the request under way has shown Logto's authorization."""

    def expire(self) -> None:
        """End a wait that took too long: refuse an unfinished request with 408, close an idle connection."""

    def shed(self) -> None:
        """Refuse an unfinished request with 503, to spare memory."""

    def evict(self) -> None:
        """Refuse an unfinished request with 503, close an idle connection, and give the descriptor back at once."""


class WaitingList(dict[Connection, float]):
    """Connections that are waited for, and until when; in the order of their deadlines."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds


class MemoryBudget:
    """Octets that requests hold in memory."""

    def __init__(self, most: int) -> None:
        self.octets = 0
        self.most = most


class ConnectionTable:
    """The connections of one server."""

    def __init__(self, now: float, *, most: int, metrics: Metrics) -> None:
        self.now = now
        """Seconds, advanced by `sweep`."""
        self.idle = WaitingList(IDLE_SECONDS)
        self.heads = WaitingList(HEAD_SECONDS)
        """The head of a request is not complete."""
        self.bodies = WaitingList(_BODY_SECONDS)
        """The body of a request is not complete, and there is no response yet."""
        self.blocked = WaitingList(_BLOCKED_SECONDS)
        """The client does not read."""
        self.closing = WaitingList(_CLOSING_SECONDS)
        """The response is sent, and what still comes is discarded."""
        self.anonymous = MemoryBudget(MOST_HELD)
        self.authorized = MemoryBudget(MOST_HELD_AUTHORIZED)
        self._most = most
        self._metrics = metrics
        self._clock = now
        self._unreported = 0
        self._reported_at = float("-inf")

    def sweep(self, clock: float) -> None:
        """Expire what is overdue; `clock` is the monotonic time. To be called several times a second."""
        self.now += min(clock - self._clock, _LONGEST_TICK_SECONDS)
        self._clock = clock
        for waiting in (self.idle, self.heads, self.bodies, self.blocked, self.closing):
            while waiting and waiting[first := next(iter(waiting))] <= self.now:
                first.expire()
        if self._unreported and self.now >= self._reported_at + _REPORT_SECONDS:
            log.warning("connections.evicted", count=self._unreported, most=self._most)
            self._unreported, self._reported_at = 0, self.now

    def make_room(self, count: int) -> bool:
        """Evict until a connection more than `count` may stay; False: all are being served."""
        if count < self._most:
            return True
        victim = self._longest_unused() or self._oldest_body()
        if victim is None:
            return False
        victim.evict()
        self._report("descriptors")
        return True

    def hold(self, connection: Connection, octets: int) -> None:
        """Count what a connection holds now. If all hold too much, refuse what has been unfinished for longest.

        Half as much again may be held by requests that are complete and have no response yet: 64 mails of 300 kB may
        arrive before the first of them can show its authorization.
        """
        if connection.account is not None:
            connection.account.octets -= connection.held
        account = self.authorized if connection.is_authorized else self.anonymous
        account.octets += octets
        connection.held, connection.account = octets, account
        while account.octets > account.most and connection.held:
            victim = self._longest_unfinished(is_authorized=account is self.authorized) or connection
            if victim is connection and account.octets <= 1.5 * account.most:
                return
            victim.shed()
            self._report("memory")

    def _longest_unused(self) -> Connection | None:
        for waiting, seconds in ((self.idle, _UNUSED_SECONDS), (self.closing, 1.0), (self.blocked, 1.0)):
            first = next(iter(waiting), None)
            if first is not None and waiting[first] - waiting.seconds + seconds <= self.now:
                return first
        # Where heads are few, even the oldest may have come just now, and the rest of it is on the way.
        are_few = len(self.heads) <= self._most // _FEW
        lists = (self.idle, self.heads) if are_few else (self.heads, self.idle)
        return next((first for waiting in (*lists, self.closing, self.blocked) for first in waiting), None)

    def _longest_unfinished(self, *, is_authorized: bool) -> Connection | None:
        """Nobody pushes out a body with Logto's authorization but those that have it, too."""
        body = next((connection for connection in self.bodies if connection.is_authorized is is_authorized), None)
        head = None if is_authorized else next((connection for connection in self.heads if connection.held), None)
        if body is None or head is None:
            return body or head
        return body if self.bodies[body] - _BODY_SECONDS <= self.heads[head] - HEAD_SECONDS else head

    def _oldest_body(self) -> Connection | None:
        anonymous = (connection for connection in self.bodies if not connection.is_authorized)
        return next(anonymous, None) or next(iter(self.bodies), None)

    def _report(self, reason: str) -> None:
        self._unreported += 1
        self._metrics.connections_evicted.labels(reason).inc()


def connection_limit() -> int:
    """Raise this process's limit of open files as far as it may; return how many connections that has room for."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS: the kernel's own limit is lower
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return MOST_CONNECTIONS
    return min(MOST_CONNECTIONS, soft - min(_RESERVED_DESCRIPTORS, soft // 4))
