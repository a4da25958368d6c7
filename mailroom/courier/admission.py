"""Admission: which messages may be in memory. Those without a slot wait in the outbox.

Each set of providers that a route names has slots of its own, so that a provider that hangs blocks only the messages
that have no other. A message keeps its slot from its acceptance, or its claim, until its outcome is recorded.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from mailroom.clock import Instant
from mailroom.courier.channels.channel import Channel
from mailroom.courier.channels.limiter import PriorityLimiter
from mailroom.courier.routes import Routes
from mailroom.message import Message, Priority
from mailroom.outbox import ClaimLimit, Leased

_SLOTS_PER_PERMIT: Final = 4
"""Messages that wait in memory for a permit are not rendered yet: a few kilobytes each."""

PATIENCE_SECONDS: Final = 0.25
"""How long a request waits for a slot; after that its message waits in the outbox."""
_ALL: Final = frozenset(Priority)


class Slots:
    """The slots of one set of providers, and which priorities wait in the outbox for one."""

    def __init__(self, channels: tuple[Channel, ...]) -> None:
        self._channels = channels
        clock = channels[0].limiter.clock
        self.limiter = PriorityLimiter(_SLOTS_PER_PERMIT * sum(channel.limiter.total for channel in channels), clock)
        self.backlog: frozenset[Priority] = _ALL  # until the first claim has seen what waits
        self._claiming: frozenset[Priority] = frozenset()

    async def acquire(self, priority: Priority) -> bool:
        """Wait for a slot, so that a flood is accepted no faster than it is sent.

        False: none became free in time, or messages of this priority or a better one wait in the outbox.
        """
        waiting = self.backlog | self._claiming
        if waiting and min(waiting) <= priority:
            return False
        return self.limiter.try_acquire(priority) or await self.limiter.acquire(
            priority, give_up_at=self.limiter.clock.now() + PATIENCE_SECONDS
        )

    def release(self, priority: Priority) -> None:
        """Return a slot."""
        self.limiter.release(priority)

    def add_backlog(self, priority: Priority) -> None:
        """Note that a message of this priority waits in the outbox; those that wait for a slot follow it there."""
        self.backlog |= {priority}
        self.limiter.end_waits()

    def limit_claim(self, *, is_due: bool) -> tuple[int, int]:
        """Return how many messages may be claimed, and how many of them may be no codes.

        `is_due`: a message has become due somewhere. Without a backlog half of the free slots stay for new messages.
        """
        if not (self.backlog or is_due):
            return 0, 0
        free = self.limiter.free(Priority.CODE)
        if not free or not any(channel.is_usable for channel in self._channels):
            self.backlog = _ALL  # slots that become free are for what is due, not for new messages
            return 0, 0
        total = free if self.backlog else -(-free // 2)
        return total, min(total, self.limiter.free(Priority.EVENT))

    def begin_claim(self) -> None:
        """Begin a claim, which shows what is left of the backlog; new messages do not overtake it meanwhile."""
        self._claiming, self.backlog = self.backlog, frozenset()

    def end_claim(self, limit: ClaimLimit, priorities: list[Priority]) -> None:
        """Take slots for what was leased. A limit that was reached means that more may wait."""
        for priority in priorities:
            self.limiter.take(priority)
        if len(priorities) >= limit.total:
            self.backlog |= self._claiming | {max(priorities)}
        elif sum(priority is not Priority.CODE for priority in priorities) >= limit.others:
            self.backlog |= self._claiming - {Priority.CODE} | {max([Priority.INVITATION, *priorities])}
        self._claiming = frozenset()

    def abandon_claim(self) -> None:
        """End a claim that failed: anything may wait."""
        self._claiming, self.backlog = frozenset(), _ALL


class Admission:
    """The slots of all routes."""

    def __init__(self, channels: Mapping[str, Channel], routes: Routes) -> None:
        self._slots = {names: Slots(tuple(channels[name] for name in names)) for names in routes.all()}
        self._routes = routes
        self._named = tuple(filter(None, map(routes.route_name, self._slots)))

    @property
    def has_backlog(self) -> bool:
        """Whether messages wait in the outbox for a slot."""
        return any(slots.backlog for slots in self._slots.values())

    def slots(self, message: Message) -> Slots:
        """Return the slots for a message."""
        return self._slots[self._routes.providers(message)]

    def end_waits(self, now: Instant) -> None:
        """End the waits for slots that have lasted long enough."""
        for slots in self._slots.values():
            slots.limiter.end_waits(now)

    def close(self) -> None:
        """Give no slot to new messages any more."""
        for slots in self._slots.values():
            slots.limiter.close()

    def limits(self, *, is_due: bool) -> dict[Slots, ClaimLimit]:
        """Return what a claim may lease now, and begin it; `is_due`: a message has become due."""
        limits = {}
        for names, slots in self._slots.items():
            total, others = slots.limit_claim(is_due=is_due)
            if total:
                name = self._routes.route_name(names)
                slots.begin_claim()
                # The default's also has routes that are not in the settings any more.
                limits[slots] = ClaimLimit((name,) if name else self._named, total, others, exclude=not name)
        return limits

    def end_claim(self, limits: Mapping[Slots, ClaimLimit], leased: Iterable[Leased]) -> None:
        """Take slots for what a claim has leased."""
        priorities: dict[Slots, list[Priority]] = {slots: [] for slots in limits}
        for one in leased:
            priorities[self.slots(one.message)].append(one.message.priority)
        for slots, limit in limits.items():
            slots.end_claim(limit, priorities[slots])

    def abandon_claim(self, limits: Iterable[Slots]) -> None:
        """End a claim that failed: everything may wait."""
        for slots in limits:
            slots.abandon_claim()
