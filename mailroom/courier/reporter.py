"""Tells metrics and logs what became of messages; one ERROR line for every code that did not get through."""

from functools import cache

import structlog

from mailroom.clock import Clock
from mailroom.message import Message, Outcome, Priority, State
from mailroom.metrics import Metrics
from mailroom.outbox import ExpiredMessage, Settlement

log = structlog.get_logger()


class Reporter:
    """Counts and logs; ids, templates, providers, states and masked words only."""

    def __init__(self, metrics: Metrics, clock: Clock) -> None:
        """Bind the labels once: `labels()` costs more than counting."""
        self._clock = clock
        self._attempts = cache(metrics.attempts.labels)
        self._settled = cache(metrics.settled.labels)
        self._handover_seconds = {one: metrics.handover_seconds.labels(one.name.lower()) for one in Priority}

    def attempted(self, provider: str, outcome: Outcome) -> None:
        """Count an attempt."""
        self._attempts(provider, outcome).inc()

    def settled(self, message: Message, settlement: Settlement) -> None:
        """Report where a message went."""
        state, attempts = settlement.state, settlement.attempts
        if state is not State.QUEUED:
            self._settled(state).inc()
        last = attempts[-1] if attempts else None
        seconds = max(0.0, self._clock.now() - message.created_at)
        facts = {
            "id": message.id,
            "template": message.template,
            "provider": last.provider if last else None,
            "tries": len(attempts),
            "seconds": round(seconds, 4),
        }
        if state is State.SENT:
            self._handover_seconds[message.priority].observe(seconds)
            log.info("mail.sent", **facts)
            return
        facts["words"] = last.words if last else ""
        facts["reason"] = settlement.reason
        if state is State.QUEUED:
            due_at = settlement.due_at or 0.0
            log.warning("mail.retried_later", **facts, in_seconds=round(due_at - self._clock.now(), 1))
        elif message.is_code:
            log.error("code.undelivered", state=state, **facts)
        else:
            log.warning("mail.undelivered", state=state, **facts)

    def expired(self, ended: ExpiredMessage) -> None:
        """Report a message that expired while it waited."""
        self._settled(State.EXPIRED).inc()
        say = log.error if ended.priority is Priority.CODE else log.warning
        event = "code.undelivered" if ended.priority is Priority.CODE else "mail.undelivered"
        say(event, state=State.EXPIRED, id=ended.id, template=ended.template)
