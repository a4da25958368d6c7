"""The loop: claims due messages, starts their deliveries, settles them, and runs the outbox's maintenance."""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, Final

import structlog

from mailroom.clock import Clock, Instant
from mailroom.courier.delivery import Channel, Delivery
from mailroom.courier.limiter import PriorityLimiter, Reservation
from mailroom.courier.maintenance import Maintenance, every
from mailroom.courier.reporter import Reporter
from mailroom.courier.routes import Routes
from mailroom.errors import CannotKeep
from mailroom.message import Address, Attempt, Message, Priority, State
from mailroom.metrics import Metrics
from mailroom.outbox import HELD_MISCONFIGURED, Candidate, DedupKey, Lease, Leased, Outbox, PutResult, Settlement
from mailroom.rendering import Renderer

LEASE_SECONDS: Final = 300.0
"""Longer than all attempts of one round may take; a predecessor's leases end at once when its lock is ours."""
_POLL_SECONDS: Final = 1.0
"""How often to look again for what is due but could not be leased."""
_PROBE_SECONDS: Final = 300.0
"""How often one message that is held for misconfiguration tries whether it still is."""
_UNRECORDED_SECONDS: Final = 1.0
"""How often to try again to record an outcome when the outbox refuses; the message keeps its place meanwhile."""
_ADMITTED_WHILE_BEHIND: Final = 16
"""Maximum concurrent accepts while messages wait for a slot: a flood is accepted no faster than it can be sent."""

_PATIENCE_SECONDS: Final = 0.25
"""How long a request waits for a slot; after that its message waits in the outbox."""

log = structlog.get_logger()


class Courier:
    """Sends what the outbox keeps.

    `delivers=False` only keeps (`role = "web"`): another process sends.
    """

    def __init__(
        self,
        *,
        outbox: Outbox,
        writer: Renderer,
        channels: Mapping[str, Channel],
        routes: Routes,
        reply_to: Address | None,
        retention: timedelta,
        clock: Clock,
        metrics: Metrics,
        jitter: Callable[[], float],
        delivers: bool = True,
    ) -> None:
        self._outbox = outbox
        self._exits = channels
        self._routes = routes
        self._clock = clock
        self._delivers = delivers
        self._report = Reporter(metrics, clock)
        self._delivery = Delivery(
            channels=channels,
            routes=routes,
            writer=writer,
            reply_to=reply_to,
            clock=clock,
            jitter=jitter,
            record=outbox.attempt,
            count=self._report.attempted,
            is_ending=lambda: self._draining,
        )
        self._tidying = Maintenance(outbox, clock, retention=retention, report=self._report)
        self._deliveries: dict[str, asyncio.Task[None]] = {}
        self._chores: list[asyncio.Task[None]] = []
        self._wake = asyncio.Event()
        self._next_due: Instant | None = None
        self._behind: Priority | None = Priority.CODE  # until the first claim has seen what the last process left
        self._claiming: Priority | None = None
        self._turnstile = asyncio.Semaphore(_ADMITTED_WHILE_BEHIND)
        self._misconfigured: set[str] = set()
        self._draining = False

    async def accept(
        self, message: Message, *, repeat_of: bytes | None = None, once: Sequence[DedupKey] = ()
    ) -> PutResult:
        """Keep a message and see that it is sent; durable when this returns. Raises CannotKeep.

        With a free place it is born leased and handed over from memory; else it waits in the outbox.
        """
        if not self._is_behind(message.priority):
            return await self._accept(message, repeat_of, once)
        async with self._turnstile:
            return await self._accept(message, repeat_of, once)

    async def _accept(self, message: Message, repeat_of: bytes | None, once: Sequence[DedupKey]) -> PutResult:
        provider = await self._reserve(message)
        if provider is None:
            kept = await self._outbox.put(message, repeat_of=repeat_of, once=once)
            if kept.fresh and self._delivers:
                self._fall_behind(message.priority)
            return kept
        lane = self._exits[provider].lane
        lease = Lease(provider, until=message.created_at + LEASE_SECONDS)
        fresh = False
        try:
            kept = await self._outbox.put(message, repeat_of=repeat_of, once=once, lease=lease)
            fresh = kept.fresh
        finally:
            if not fresh:
                lane.give_back(code=message.is_code)
        if fresh:
            self._start(Leased(message, (Attempt(provider, message.created_at),)), lane)
        return kept

    async def _reserve(self, message: Message) -> str | None:
        """Take a place in the lane of the message's first provider, unless others wait in the outbox for one."""
        if self._draining or not self._delivers or self._is_behind(message.priority):
            return None
        provider = self._routes.providers(message.template)[0]
        lane = self._exits[provider].lane
        code = message.is_code
        if lane.take(code=code) or await lane.place(code=code, patience_seconds=_PATIENCE_SECONDS):
            return provider
        return None

    def _is_behind(self, priority: Priority) -> bool:
        """Tell whether messages of this priority, or better, wait in the outbox for a place."""
        return self._delivers and any(
            waiting is not None and waiting <= priority for waiting in (self._behind, self._claiming)
        )

    def _fall_behind(self, priority: Priority) -> None:
        self._behind = _better(self._behind, priority)
        self._wake.set()

    async def start(self) -> None:
        """Begin to send what is due, and to tidy."""
        chores = self._tidying.chores()
        if self._delivers:
            chores["claim"] = self._claim_for_ever()
            chores["probe"] = every(_PROBE_SECONDS, self._probe, clock=self._clock)
        else:
            self._behind = None
        self._chores = [asyncio.create_task(chore, name=f"courier.{name}") for name, chore in chores.items()]

    async def finish(self) -> None:
        """Start no mail any more and wait until those under way have ended.

        What is accepted from now on waits in the outbox for the next process.
        """
        self._draining = True
        await _cancel(self._chores)
        while self._deliveries:
            await asyncio.wait(list(self._deliveries.values()))

    async def drain(self, seconds: float) -> None:
        """Do the same for at most so many seconds, then cut off the rest.

        What is cut off stays leased; the next process takes it over.
        """
        self._draining = True
        await _cancel(self._chores)
        under_way = list(self._deliveries.values())
        if under_way:
            await asyncio.wait(under_way, timeout=seconds)
            await _cancel(under_way)

    async def _claim_for_ever(self) -> None:
        while True:
            self._wake.clear()
            now = self._clock.now()
            if self._behind is None and (self._next_due is None or self._next_due > now):
                await self._rest(None if self._next_due is None else self._next_due - now)
                continue
            try:
                leased = await self._claim(now)
            except CannotKeep as error:
                log.error("outbox.unwritable", problem=str(error))  # noqa: TRY400 - the text says it all
                leased = False
            except Exception:  # without this loop nothing would be sent any more
                log.exception("claim.failed")
                leased = False
            if not leased:
                await self._rest(_POLL_SECONDS)

    async def _claim(self, now: Instant) -> bool:
        """Lease what is due for the places that are free; tell whether there was anything."""
        share = 1 if self._behind is not None else 2  # while nobody waits, arriving messages find places too
        loans = {
            name: channel.lane.lend(-(-channel.lane.free(code=True) // share)) for name, channel in self._exits.items()
        }
        limit = sum(loan.places for loan in loans.values())
        if not limit:
            self._behind = Priority.CODE  # the next places are for what waits, not for what arrives
            return False
        waiting = Priority.EVENT if self._behind is None else self._behind
        self._claiming, self._behind = waiting, None
        leased: tuple[Leased, ...] = ()
        try:
            claimed = await self._outbox.claim(
                now=now,
                until=now + LEASE_SECONDS,
                limit=limit,
                choose=partial(self._choose, loans),
                without=[
                    template
                    for template, providers in self._routes.by_template.items()
                    if not loans[providers[0]].places
                ],
            )
            leased = claimed.leased
        except Exception:
            self._behind = _better(self._behind, waiting)
            raise
        finally:
            self._claiming = None
            for name, channel in self._exits.items():
                mine = [one.message.is_code for one in leased if one.attempts[-1].provider == name]
                channel.lane.take_back(codes=sum(mine), others=len(mine) - sum(mine))
        for one in leased:
            waiting = one.message.priority
            self._start(one, self._exits[one.attempts[-1].provider].lane)
        self._next_due = claimed.next_due
        if claimed.next_due is not None and claimed.next_due <= now:
            self._behind = _better(self._behind, waiting)
        return bool(leased)

    def _choose(self, loans: Mapping[str, Reservation], candidate: Candidate) -> str | None:
        """Name the provider that a due message goes to, if its lane has a place. Runs in the outbox's thread."""
        if candidate.id in self._deliveries:  # its lease ran out while its outcome could not be recorded
            return None
        provider = self._routes.order(candidate.template, candidate.priority, candidate.attempts)[0]
        return provider if loans[provider].spend(code=candidate.priority is Priority.CODE) else None

    async def _rest(self, seconds: float | None) -> None:
        """Wait until there is something new to claim, at most so many seconds."""
        wake = asyncio.ensure_future(self._wake.wait())
        waits: set[asyncio.Future[Any]] = {wake}
        if seconds is not None:
            waits.add(asyncio.ensure_future(self._clock.sleep(max(0.0, seconds))))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await _cancel(waits)

    def _start(self, leased: Leased, lane: PriorityLimiter) -> None:
        id_ = leased.message.id
        self._deliveries[id_] = asyncio.create_task(self._deliver(leased, lane), name=f"deliver.{id_}")

    async def _deliver(self, leased: Leased, lane: PriorityLimiter) -> None:
        message = leased.message
        try:
            settlement = await self._delivery.deliver(leased)
            if settlement is None or not await self._recorded(settlement):
                log.warning("lease.lost", id=message.id, template=message.template)
                return
            if settlement.state is State.QUEUED and len(settlement.attempts) < len(leased.attempts):
                return  # nothing was tried: it is left to the next process
            self._report.settled(message, settlement)
            if settlement.reason == HELD_MISCONFIGURED:
                self._misconfigured.update(self._routes.providers(message.template))
            if settlement.state is State.SENT:
                await self._recovered(settlement.attempts[-1].provider)
            elif settlement.due_at is not None and (self._next_due is None or settlement.due_at < self._next_due):
                self._next_due = settlement.due_at
                self._wake.set()
        except Exception:  # the message is due again when its lease ends
            log.exception("delivery.failed", id=message.id, template=message.template)
        finally:
            del self._deliveries[message.id]
            lane.give_back(code=message.is_code)
            if self._behind is not None or self._claiming is not None:
                self._wake.set()

    async def _recorded(self, settlement: Settlement) -> bool:
        """Record an outcome, however long the disk is full: a forgotten one would be sent again."""
        complained = False
        while True:
            try:
                return await self._outbox.settle(settlement)
            except CannotKeep as error:
                if not complained:
                    log.error("outcome.unrecorded", id=settlement.id, problem=str(error))  # noqa: TRY400 - likewise
                complained = True
                await self._clock.sleep(_UNRECORDED_SECONDS)

    async def _recovered(self, provider: str) -> None:
        """Release what is held for misconfiguration once a provider that refused us takes mail again."""
        if provider in self._misconfigured:
            self._misconfigured.discard(provider)
            log.info("provider.recovered", provider=provider)
            await self._release(None)

    async def _probe(self) -> None:
        await self._release(1)

    async def _release(self, limit: int | None) -> None:
        try:
            released = await self._outbox.release(HELD_MISCONFIGURED, now=self._clock.now(), limit=limit)
        except CannotKeep as error:
            log.error("outbox.unwritable", problem=str(error))  # noqa: TRY400 - likewise
            return
        if released:
            self._fall_behind(Priority.CODE)


def _better(one: Priority | None, other: Priority) -> Priority:
    return other if one is None else min(one, other)


async def _cancel(tasks: Collection[asyncio.Future[Any]]) -> None:
    """Cancel what has not ended and wait until it has."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
