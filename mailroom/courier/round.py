"""One round of a message through the providers of its route: which one is next, and the wait for its permit."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from mailroom.clock import Clock
from mailroom.courier.channels.channel import Channel
from mailroom.errors import SendingError
from mailroom.message import Attempt, Email, Message

_PATIENCE_SECONDS: Final = 1.0
"""How long after a provider's last answer a code waits for its permit while another one can be asked."""
LONGEST_WAIT_SECONDS: Final = 150.0
"""How long a message waits for a permit before it goes back to the outbox: shorter than a lease."""


@dataclass(slots=True)
class Round:
    """How far a message has come in its round."""

    message: Message
    attempts: tuple[Attempt, ...]
    begun: Attempt | None
    """The attempt that is recorded already."""
    remaining: list[str]
    """Providers to ask, in order."""
    rendered: dict[str, Email]
    """Provider -> the mail that it may have sent."""
    passed_over: set[str] = field(default_factory=set)
    failures: list[SendingError] = field(default_factory=list)

    def pass_over(self, name: str) -> None:
        """Ask the other providers before this one, once."""
        self.passed_over.add(name)
        self.remaining.remove(name)
        self.remaining.append(name)


@dataclass(frozen=True, slots=True)
class Selector:
    """Chooses the providers of rounds."""

    channels: Mapping[str, Channel]
    clock: Clock

    def choose(self, providers: Sequence[str]) -> str | None:
        """Return the provider to ask: the first one that is available, else the first that may be used at all."""
        now = self.clock.now()
        if providers and self.channels[providers[0]].is_available(now):  # as nearly always
            return providers[0]
        usable = [name for name in providers if self.channels[name].is_usable]
        return next((name for name in usable if self.channels[name].is_available(now)), usable[0] if usable else None)

    def has_alternative(self, name: str, round_: Round) -> bool:
        """Return whether another provider can be asked instead of this one."""
        now = self.clock.now()
        others = (other for other in round_.remaining if other != name)
        return name not in round_.passed_over and any(self.channels[other].is_available(now) for other in others)

    async def acquire(self, name: str, round_: Round, is_over: Callable[[], bool]) -> str | None:
        """Wait for a permit of this provider; return whose permit was granted, None: the wait was ended.

        A code has little time, and none for a provider that has been silent already: then any provider will do. Other
        mail waits until the provider's breaker opens. `is_over`: the message needs no permit any more.
        """
        channel, priority, now = self.channels[name], round_.message.priority, self.clock.now()
        if channel.limiter.try_acquire(priority):  # as nearly always
            return name
        has_alternative = self.has_alternative(name, round_)
        is_hurried = has_alternative and round_.message.is_code
        give_up_at = channel.progress_at + _PATIENCE_SECONDS if is_hurried else now + LONGEST_WAIT_SECONDS
        if await channel.limiter.acquire(
            priority, give_up_at=give_up_at, has_alternative=has_alternative, is_over=is_over
        ):
            return name
        return await self._acquire_any(round_, is_over) if is_hurried else None

    async def _acquire_any(self, round_: Round, is_over: Callable[[], bool]) -> str | None:
        """Wait for a permit of any available provider; return whose was granted."""
        now = self.clock.now()
        waits = {
            name: asyncio.ensure_future(
                self.channels[name].limiter.acquire(
                    round_.message.priority,
                    give_up_at=now + LONGEST_WAIT_SECONDS,
                    has_alternative=True,
                    is_over=is_over,
                )
            )
            for name in round_.remaining
            if self.channels[name].is_available(now)
        }
        granted = None
        if not waits:
            return None
        try:
            await asyncio.wait(waits.values(), return_when=asyncio.FIRST_COMPLETED)
            granted = next((name for name, wait in waits.items() if wait.done() and wait.result()), None)
            return granted
        finally:
            for name, wait in waits.items():
                if not wait.cancel() and wait.result() and name != granted:  # several were granted at once
                    self.channels[name].limiter.release(round_.message.priority)
