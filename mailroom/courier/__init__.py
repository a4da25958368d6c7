"""Sends the messages of the outbox: claim, render, hand over to the route's providers in order, settle."""

from collections.abc import Sequence
from typing import Protocol

from mailroom.clock import Instant
from mailroom.courier.channels.channel import Channel
from mailroom.courier.channels.limiter import PriorityLimiter
from mailroom.courier.channels.rates import Rates
from mailroom.courier.courier import Courier
from mailroom.courier.routes import Routes
from mailroom.message import Message
from mailroom.outbox import DedupKey, PutResult

__all__ = ["Acceptor", "Channel", "Courier", "PriorityLimiter", "Rates", "Routes"]


class Acceptor(Protocol):
    """What the endpoints use of the courier."""

    async def accept(
        self,
        message: Message,
        *,
        repeat_of: bytes | None = None,
        once: Sequence[DedupKey] = (),
        due_at: Instant | None = None,
    ) -> PutResult:
        """Store a message and see that it is sent; durable when this returns. Raises CannotKeep and LimitExceeded.

        `repeat_of`, `once` and `due_at` are those of `Outbox.put`.
        """
