"""Counts and logs what becomes of messages and providers: an ERROR line for every code that did not get through."""

from collections import Counter
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final

import structlog

from mailroom.clock import Clock, Instant
from mailroom.courier.channels.rates import LimitChange, Rates
from mailroom.errors import SendingError
from mailroom.message import Attempt, Message, Outcome, Priority, Receipt, State
from mailroom.metrics import Metrics
from mailroom.outbox import SENT_UNCERTAIN, EndedMessage, Settlement

_SUMMARY_SECONDS: Final = 60.0

log = structlog.get_logger()


class Reporter:
    """Logs ids, templates, providers, states and masked diagnostics only."""

    def __init__(self, metrics: Metrics, clock: Clock) -> None:
        """Bind the labels once: `labels()` costs more than counting."""
        self._clock = clock
        self._attempts = cache(metrics.attempts.labels)
        self._settled = cache(metrics.settled.labels)
        self._handover_seconds = {one: metrics.handover_seconds.labels(one.name.lower()) for one in Priority}
        self._provider_open = metrics.provider_open
        self._provider_rate = cache(metrics.provider_rate.labels)
        self._provider_quota_left = cache(metrics.provider_quota_left.labels)
        self._open: dict[str, str] = {}
        """Provider whose breaker is open -> reason."""
        self._sent_by: Counter[str] = Counter()
        """Provider -> mails that it has sent since the last summary."""
        self._failovers: dict[str, int] = {}
        """Provider -> mails since the last summary that it failed and another one sent."""
        self._summary_at: Instant = clock.now() + _SUMMARY_SECONDS

    def attempted(self, provider: str, result: Receipt | SendingError) -> None:
        """Count an attempt."""
        outcome = Outcome(result.outcome) if isinstance(result, SendingError) else Outcome.ACCEPTED
        self._attempts(provider, outcome).inc()
        if (self._open or self._failovers) and outcome is Outcome.ACCEPTED:
            self._sent_by[provider] += 1

    def opened(self, provider: str, reason: str) -> None:
        """Report that a provider is skipped from now on."""
        log.warning("provider.opened", provider=provider, reason=reason)
        self._provider_open.labels(provider).set(1)
        if not self._open:
            self._sent_by.clear()
        self._open[provider] = reason

    def recovered(self, provider: str) -> None:
        """Report that a provider works again."""
        log.info("provider.recovered", provider=provider)
        self._provider_open.labels(provider).set(0)
        self._open.pop(provider, None)

    def limited(self, provider: str, change: LimitChange, rates: Rates) -> None:
        """Report that a provider is slowed down or suspended, or no longer."""
        match change:
            case LimitChange.SLOWED:
                log.warning("provider.slowed", provider=provider, per_second=round(rates.per_second, 2))
            case LimitChange.RESTORED:
                log.info("provider.at_full_rate", provider=provider)
            case LimitChange.SUSPENDED:
                until = datetime.fromtimestamp(rates.suspended_until or 0.0, UTC).isoformat(timespec="seconds")
                event = "provider.quota_exhausted" if rates.is_exhausted else "provider.pause_requested"
                log.warning(event, provider=provider, until=until)
            case LimitChange.RESUMED:
                log.info("provider.suspension_ended", provider=provider, quota_left=rates.quota_left)

    def observe_rates(self, provider: str, rates: Rates) -> None:
        """Set the gauges of a provider's rate and quota."""
        self._provider_rate(provider).set(rates.per_second)
        if rates.quota_left is not None:
            self._provider_quota_left(provider).set(rates.quota_left)

    def summarize_failovers(self) -> None:
        """Report once a minute which providers fail or are skipped, and who sends instead."""
        now = self._clock.now()
        if now < self._summary_at:
            return
        self._summary_at = now + _SUMMARY_SECONDS
        failed_over = {provider: count for provider, count in self._failovers.items() if count}
        if self._open or failed_over:
            log.warning(
                "provider.failing", skipped=dict(self._open), failed_over=failed_over, sent_by=dict(self._sent_by)
            )
        self._sent_by.clear()
        self._failovers = dict.fromkeys(failed_over, 0)  # one without failovers for a minute is named again

    def settled(self, message: Message, settlement: Settlement) -> None:
        """Report the state that a message went to."""
        state, attempts = settlement.state, settlement.attempts
        if state is not State.QUEUED:
            self._settled(state).inc()
        last = attempts[-1] if attempts else None
        seconds = max(0.0, self._clock.now() - message.created_at)
        facts: dict[str, Any] = {
            "id": message.id,
            "template": message.template,
            "provider": last.provider if last else None,
            "tries": len(attempts),
            "seconds": round(seconds, 4),
        }
        if state is State.SENT:
            self._handover_seconds[message.priority].observe(seconds)
            for attempt in attempts[:-1]:
                self._note_failover(attempt, attempts[-1].provider)
            if settlement.reason == SENT_UNCERTAIN:
                log.warning("mail.sent_uncertain", **facts)
            else:
                log.info("mail.sent", **facts)
            return
        facts["diagnostic"] = last.diagnostic if last else ""
        facts["reason"] = settlement.reason
        if state is State.QUEUED:
            due_at = settlement.due_at or 0.0
            log.warning("mail.retried_later", **facts, in_seconds=round(due_at - self._clock.now(), 1))
        elif message.is_code:
            log.error("code.undelivered", state=state, **facts)
        else:
            log.warning("mail.undelivered", state=state, **facts)

    def _note_failover(self, attempt: Attempt, sent_by: str) -> None:
        """Count a mail that another provider sent; the first one names the provider that failed."""
        failed = attempt.provider
        if failed == sent_by:
            return
        if failed not in self._failovers:
            log.warning("provider.failed_over", provider=failed, sent_by=sent_by, diagnostic=attempt.diagnostic)
        self._failovers[failed] = self._failovers.get(failed, 0) + 1

    def ended(self, ended: EndedMessage, state: State) -> None:
        """Report a message that expired or was superseded while it waited."""
        self._settled(state).inc()
        facts = {"state": state, "id": ended.id, "template": ended.template}
        if state is State.SUPERSEDED:
            log.info("mail.superseded", **facts)
        elif ended.priority is Priority.CODE:
            log.error("code.undelivered", **facts)
        else:
            log.warning("mail.undelivered", **facts)
