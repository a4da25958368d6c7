"""Bounds a server's connections: their number, the time that each may take, and the memory of their requests.

A connection from which the server awaits something is in one list, the oldest first. All connections of a list have the
same time limit, so only the first ones can be overdue, and no connection needs a timer of its own.
"""

import contextlib
import resource
from typing import TYPE_CHECKING, Final

import structlog

from mailroom.metrics import Metrics

if TYPE_CHECKING:
    from handlers.http_connection import TrackedConnection

HEAD_SECONDS: Final = 10.0
"""For the head of a request, from its first octet; of a new connection from the start."""
IDLE_SECONDS: Final = 75
"""Between two requests. Well past the idle time of Logto and of the proxies in between."""
_BODY_SECONDS: Final = 10.0
"""For the whole body."""
_BLOCKED_SECONDS: Final = 10.0
"""For a client that does not read its responses."""
_CLOSING_SECONDS: Final = 10.0
"""For the rest of a request after its response (RFC 9112 §9.6)."""
_UNUSED_SECONDS: Final = 6.0
"""Logto closes a connection that it has not used for 5 s, so an older one can be closed."""
_FEW: Final = 4
"""Less than this part of all connections."""
_LONGEST_TICK_SECONDS: Final = 1.0
"""The rest of a longer one does not count: this process was stopped, and its sockets may hold unread octets."""

MOST_CONNECTIONS: Final = 4096
"""Even if there are more descriptors: an idle connection takes 3 to 6 KiB."""
_RESERVED_DESCRIPTORS: Final = 256
"""For the outbox, the providers, the logs, and for connections that are being closed."""
MOST_HELD: Final = 16 * 1024 * 1024
"""Octets of all unfinished requests without Logto's authorization; with Python's overhead 20 to 26 MiB."""
MOST_HELD_AUTHORIZED: Final = 64 * 1024 * 1024
"""Octets of those with it, counted apart: more than 200 mails of 300 kB at once."""

_REPORT_SECONDS: Final = 60.0

log = structlog.get_logger()


class WaitingList(dict["TrackedConnection", float]):
    """Connection → deadline (seconds), in the order of the deadlines."""

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
        """Expire overdue connections; `clock` is the monotonic time. Must be called several times a second."""
        self.now += min(clock - self._clock, _LONGEST_TICK_SECONDS)
        self._clock = clock
        for waiting in (self.idle, self.heads, self.bodies, self.blocked, self.closing):
            while waiting and waiting[first := next(iter(waiting))] <= self.now:
                first.expire()
        if self._unreported and self.now >= self._reported_at + _REPORT_SECONDS:
            log.warning("connections.evicted", count=self._unreported, most=self._most)
            self._unreported, self._reported_at = 0, self.now

    def make_room(self, count: int) -> bool:
        """Evict a connection if `count` is too many for one more; return False if all are being served."""
        if count < self._most:
            return True
        victim = self._longest_unused() or self._oldest_body()
        if victim is None:
            return False
        victim.evict()
        self._report("descriptors")
        return True

    def hold(self, connection: "TrackedConnection", octets: int) -> None:
        """Count what a connection holds now. Beyond the budget, refuse the requests that are unfinished for longest.

        Complete requests without a response may exceed it by half: 64 mails of 300 kB may arrive before the
        authorization of the first is checked.
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

    def _longest_unused(self) -> "TrackedConnection | None":
        for waiting, seconds in ((self.idle, _UNUSED_SECONDS), (self.closing, 1.0), (self.blocked, 1.0)):
            first = next(iter(waiting), None)
            if first is not None and waiting[first] - waiting.seconds + seconds <= self.now:
                return first
        # If few connections await a head, even the oldest may be new, and the rest of its head may be on the way.
        are_few = len(self.heads) <= self._most // _FEW
        lists = (self.idle, self.heads) if are_few else (self.heads, self.idle)
        return next((first for waiting in (*lists, self.closing, self.blocked) for first in waiting), None)

    def _longest_unfinished(self, *, is_authorized: bool) -> "TrackedConnection | None":
        """Return what to shed: for requests without Logto's authorization never one that has it."""
        body = next((connection for connection in self.bodies if connection.is_authorized is is_authorized), None)
        head = None if is_authorized else next((connection for connection in self.heads if connection.held), None)
        if body is None or head is None:
            return body or head
        return body if self.bodies[body] - _BODY_SECONDS <= self.heads[head] - HEAD_SECONDS else head

    def _oldest_body(self) -> "TrackedConnection | None":
        anonymous = (connection for connection in self.bodies if not connection.is_authorized)
        return next(anonymous, None) or next(iter(self.bodies), None)

    def _report(self, reason: str) -> None:
        self._unreported += 1
        self._metrics.connections_evicted.labels(reason).inc()


def connection_limit() -> int:
    """Raise this process's limit of open files to the hard limit; return how many connections it allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS: the kernel's own limit is lower
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return MOST_CONNECTIONS
    return min(MOST_CONNECTIONS, soft - min(_RESERVED_DESCRIPTORS, soft // 4))
