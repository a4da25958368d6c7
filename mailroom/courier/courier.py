"""The courier: accepts messages, claims due ones from the outbox, delivers them and records their outcomes.

A message gets from accepted to sending in one of two ways:

1. `accept`: with a free slot it is stored with a lease and delivered from memory.
2. Without one it waits in the outbox, until `_claim` leases it for a slot that has become free, or when it is due.

`Delivery` then waits for a permit of a provider, renders the mail and hands it over.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any, Final

import structlog

from mailroom.clock import Clock, Instant
from mailroom.courier.admission import PATIENCE_SECONDS, Admission, Slots
from mailroom.courier.channels.channel import Channel
from mailroom.courier.channels.monitor import Monitor
from mailroom.courier.delivery import Delivery
from mailroom.courier.maintenance import Maintenance, cancel, every
from mailroom.courier.reporter import Reporter
from mailroom.courier.round import Selector
from mailroom.courier.routes import Routes
from mailroom.courier.supersede import Replacements, supersede_key
from mailroom.errors import CannotKeep
from mailroom.message import Address, Attempt, Message, State
from mailroom.metrics import Metrics
from mailroom.outbox import (
    HELD_MISCONFIGURED,
    ClaimLimit,
    DedupKey,
    Lease,
    Leased,
    Outbox,
    PutResult,
    Settlement,
    SettleResult,
)
from mailroom.rendering import Renderer

LEASE_SECONDS: Final = 300.0
"""Longer than all attempts of one round may take. Those of a dead process end sooner, see the engines."""
_POLL_SECONDS: Final = 1.0
"""How often to claim again after a claim that failed, or while no slot is free."""
_PROBE_SECONDS: Final = 300.0
"""How often one message that is held for misconfiguration is released to try again."""
_SETTLE_AGAIN_SECONDS: Final = 1.0
"""How often to try again to record an outcome that the outbox refuses."""
log = structlog.get_logger()


class Courier:
    """Sends the messages of the outbox.

    `delivers=False` only stores them (`role = "web"`): another process sends.
    """

    def __init__(
        self,
        *,
        outbox: Outbox,
        renderer: Renderer,
        channels: Mapping[str, Channel],
        routes: Routes,
        reply_to: Address | None,
        retention: timedelta,
        clock: Clock,
        metrics: Metrics,
        jitter: Callable[[], float],
        supersedes: bool = True,
        delivers: bool = True,
    ) -> None:
        self._outbox = outbox
        self._channels = channels
        self._routes = routes
        self._clock = clock
        self._delivers = delivers
        self._supersedes = supersedes
        self._replacements = Replacements()
        self._reporter = Reporter(metrics, clock)
        self._monitor = Monitor(channels, outbox, self._reporter, clock, wake=lambda: self._wake_at(clock.now()))
        self._selector = Selector(channels, clock)
        self._delivery = Delivery(
            selector=self._selector,
            routes=routes,
            renderer=renderer,
            reply_to=reply_to,
            clock=clock,
            jitter=jitter,
            record=outbox.attempt,
            on_result=self._monitor.record,
            is_replaced=self._replacements.is_replaced,
            is_ending=lambda: self._draining,
        )
        self._admission = Admission(channels, routes)
        self._maintenance = Maintenance(outbox, clock, retention=retention, report=self._reporter)
        self._deliveries: dict[str, asyncio.Task[None]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._wake = asyncio.Event()
        self._next_due: Instant | None = None
        self._draining = False

    async def accept(
        self,
        message: Message,
        *,
        repeat_of: bytes | None = None,
        once: Sequence[DedupKey] = (),
        due_at: Instant | None = None,
    ) -> PutResult:
        """Store a message and see that it is sent; durable when this returns. Raises CannotKeep and LimitExceeded."""
        key = self._supersede_key(message)
        slots, lease = self._admission.slots(message), None
        if self._delivers and not self._draining and not due_at:
            provider = self._selector.choose(self._routes.providers(message))
            if provider and await slots.acquire(message.priority):
                lease = Lease(provider, LEASE_SECONDS)
        try:
            result = await self._outbox.put(
                message,
                route=self._routes.name(message),
                repeat_of=repeat_of,
                once=once,
                supersede_key=key,
                lease=lease,
                due_at=due_at,
            )
        except BaseException:
            if lease:
                slots.release(message.priority)
            raise
        if result.to_be_sent:  # only now: a refused message replaces none, and an earlier one may have come meanwhile
            self._replacements.replace(key, message.id)
        if lease and result.to_be_sent:
            begun = Attempt(lease.provider, message.created_at)
            self._start_delivery(Leased(message, (), begun), slots, key)
        elif lease:
            slots.release(message.priority)
        elif result.to_be_sent and self._delivers:
            self._wake_for(message, slots, due_at)
        return result

    def _wake_for(self, message: Message, slots: Slots, due_at: Instant | None) -> None:
        """Claim a message that waits in the outbox, as soon as there is a slot or it is due."""
        if due_at:
            self._wake_at(due_at)
        else:
            slots.add_backlog(message.priority)
            self._wake.set()

    async def start(self) -> None:
        """Begin to send what is due, and to maintain the outbox. Raises OutboxError."""
        await self._monitor.start()
        jobs = self._maintenance.jobs()
        if self._delivers:
            jobs |= self._monitor.jobs()
            jobs["slots"] = every(PATIENCE_SECONDS, self._end_waits, clock=self._clock)
            jobs["claim"] = self._claim_forever()
            jobs["probe"] = every(_PROBE_SECONDS, partial(self._release, 1), clock=self._clock)
        self._tasks = [asyncio.create_task(job, name=f"courier.{name}") for name, job in jobs.items()]

    async def finish(self) -> None:
        """Start no more attempts, and wait until those under way have ended.

        Messages accepted from now on wait in the outbox for the next process.
        """
        await self._stop()
        while self._deliveries:
            await asyncio.wait(list(self._deliveries.values()))

    async def drain(self, seconds: float) -> None:
        """Do the same for at most so many seconds, then cancel the rest.

        Cancelled deliveries stay leased; the next process takes them over.
        """
        await self._stop()
        if under_way := list(self._deliveries.values()):
            await asyncio.wait(under_way, timeout=seconds)
            await cancel(under_way)
        await self._monitor.finish()

    async def _stop(self) -> None:
        """Start no more attempts; what waits for a permit returns to the outbox."""
        self._draining = True
        self._admission.close()
        for channel in self._channels.values():
            channel.limiter.close()
        await cancel(self._tasks)

    async def _end_waits(self) -> None:
        self._admission.end_waits(self._clock.now())

    async def _claim_forever(self) -> None:
        while True:
            self._wake.clear()
            is_due = self._next_due is not None and self._next_due <= self._clock.now()
            limits = self._admission.limits(is_due=is_due)
            if is_due:
                self._next_due = None  # from here on it is claimed, or a backlog; what becomes due meanwhile sets it
            if not (limits and await self._claim(limits)):
                await self._rest()

    async def _claim(self, limits: Mapping[Slots, ClaimLimit]) -> bool:
        """Lease due messages for the slots that are free; return whether there were any."""
        try:
            claimed = await self._outbox.claim(tuple(limits.values()), lease_seconds=LEASE_SECONDS)
        except Exception as error:  # without this loop nothing would be sent any more
            self._admission.abandon_claim(limits)
            if isinstance(error, CannotKeep):
                log.error("outbox.write_failed", problem=str(error))  # noqa: TRY400 - the text says it all
            else:
                log.exception("claim.failed")
            return False
        changed = await self._reroute(claimed.leased)
        # A lease may have run out while the outcome could not be recorded: its delivery goes on.
        leased = [one for one in claimed.leased if one.message.id not in {*self._deliveries, *changed}]
        self._admission.end_claim(limits, leased)
        if len(leased) < len(claimed.leased):
            self._admission.abandon_claim(limits)  # they used up its limit: more may wait
        for one in leased:
            key = self._supersede_key(one.message)
            self._start_delivery(one, self._admission.slots(one.message), key)
        if claimed.next_due is not None:
            self._wake_at(claimed.next_due)
        return bool(leased or changed)

    async def _reroute(self, leased: Sequence[Leased]) -> Collection[str]:
        """Queue again what was stored under other settings, to take slots of its present route; return its ids."""
        present = ((one, self._routes.name(one.message)) for one in leased)
        changed = {one.message.id: route for one, route in present if route != one.route}
        if changed:
            with suppress(CannotKeep):  # then they are due when their leases end
                await self._outbox.reroute(changed)
        return changed.keys()

    async def _rest(self) -> None:
        """Wait until there may be something to claim."""
        seconds: float | None = None
        if self._admission.has_backlog:
            seconds = _POLL_SECONDS
        elif self._next_due is not None:
            seconds = max(0.0, self._next_due - self._clock.now())
        wake = asyncio.ensure_future(self._wake.wait())
        waits: set[asyncio.Future[Any]] = {wake}
        if seconds is not None:
            waits.add(asyncio.ensure_future(self._clock.sleep(seconds)))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await cancel(waits)

    def _start_delivery(self, leased: Leased, slots: Slots, key: bytes | None) -> None:
        id_ = leased.message.id
        self._replacements.add(key, id_)
        self._deliveries[id_] = asyncio.create_task(self._deliver(leased, slots), name=f"deliver.{id_}")

    async def _deliver(self, leased: Leased, slots: Slots) -> None:
        message = leased.message
        try:
            settlement = await self._delivery.deliver(leased)
            result = await self._settle(settlement)
            if not result.is_recorded:
                log.warning("lease.lost", id=message.id, template=message.template)
                return
            for ended in result.superseded:
                self._reporter.ended(ended, State.SUPERSEDED)
            if message.is_code and settlement.state not in {State.SENT, State.QUEUED}:
                self._wake_at(self._clock.now())  # an older code may have waited for this one
            if settlement.due_at is not None:
                self._wake_at(settlement.due_at)
            if settlement.state is State.QUEUED and len(settlement.attempts) == len(leased.attempts):
                return  # no provider was asked
            self._reporter.settled(message, settlement)
            if self._monitor.take_recovered():  # its configuration may have been repaired
                await self._release(None)
        except Exception:  # the message is due again when its lease ends
            self._wake_at(self._clock.now() + LEASE_SECONDS)
            log.exception("delivery.failed", id=message.id, template=message.template)
        finally:
            del self._deliveries[message.id]
            self._replacements.remove(message.id)
            slots.release(message.priority)
            if slots.backlog:
                self._wake.set()

    async def _settle(self, settlement: Settlement) -> SettleResult:
        """Record an outcome, however long the disk is full: without a record the mail would be sent again."""
        logged = False
        while True:
            try:
                return await self._outbox.settle(settlement)
            except CannotKeep as error:
                if not logged:
                    log.error("outcome.not_recorded", id=settlement.id, problem=str(error))  # noqa: TRY400 - likewise
                logged = True
                await self._clock.sleep(_SETTLE_AGAIN_SECONDS)

    async def _release(self, limit: int | None) -> None:
        """Queue messages again that are held for misconfiguration."""
        try:
            released = await self._outbox.release(HELD_MISCONFIGURED, now=self._clock.now(), limit=limit)
        except CannotKeep as error:
            log.error("outbox.write_failed", problem=str(error))  # noqa: TRY400 - likewise
            return
        if released:
            self._wake_at(self._clock.now())

    def _wake_at(self, due_at: Instant) -> None:
        """Claim again at this moment at the latest."""
        if self._next_due is None or due_at < self._next_due:
            self._next_due = due_at
            self._wake.set()

    def _supersede_key(self, message: Message) -> bytes | None:
        return supersede_key(message) if self._supersedes else None
