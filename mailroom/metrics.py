"""Metrics for Prometheus: counts, durations and depths; never an address, a code or a message id."""

from collections.abc import Collection, Mapping
from functools import partial
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from mailroom.clock import Instant
from mailroom.message import TEMPLATES, Priority
from mailroom.outbox import (
    HELD_EXHAUSTED,
    HELD_FLOOD,
    HELD_LINK,
    HELD_MISCONFIGURED,
    HELD_OPERATOR,
    HELD_REFUSED,
    HELD_RENDERING,
    Depth,
)

OTHER: Final = "other"
"""The label of every template or reason that is not known in advance: requests must not create labels."""


class Metrics:
    """The counters of one server, with a registry of their own so that tests do not share them."""

    def __init__(self, templates: Collection[str] = TEMPLATES) -> None:
        self.templates = frozenset(templates)
        """The templates that have a label of their own."""
        self.registry = CollectorRegistry()
        counter = partial(Counter, registry=self.registry)
        gauge = partial(Gauge, registry=self.registry)
        histogram = partial(Histogram, registry=self.registry)

        # endpoint: email, webhook
        self.accepted = counter("mailroom_accepted_total", "Messages stored durably", ["endpoint", "template"])
        self.refused = counter("mailroom_refused_total", "Requests answered with an error", ["endpoint", "status"])
        self.repeats = counter("mailroom_repeats_total", "Requests that had been stored before", ["endpoint"])
        self.accept_seconds = histogram(
            "mailroom_accept_seconds",
            "From the complete request to its response",
            ["endpoint"],
            buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5),
        )
        # limit: ip, recipient_domain, total
        self.busiest_codes = gauge(
            "mailroom_busiest_codes", "Codes of the busiest value within the duration of its limit", ["limit"]
        )
        # outcome: accepted, rejected, misconfigured, unavailable, uncertain
        self.attempts = counter("mailroom_attempts_total", "Attempts to hand a mail over", ["provider", "outcome"])
        # state: sent, failed, expired, held, …
        self.settled = counter("mailroom_settled_total", "Messages by their new state", ["state"])
        self.provider_open = gauge(
            "mailroom_provider_open", "1 while a provider is skipped because it fails", ["provider"]
        )
        self.provider_rate = gauge(
            "mailroom_provider_rate_per_second",
            "Most mails per second, by the settings and by the vendor's signals to slow down; +Inf: no limit",
            ["provider"],
        )
        self.provider_quota_left = gauge(
            "mailroom_provider_quota_left",
            "Mails that the quota of the settings leaves; 0: suspended until it renews",
            ["provider"],
        )
        self.handover_seconds = histogram(
            "mailroom_handover_seconds",
            "From the acceptance of a message to its acceptance by a provider",
            ["priority"],
            buckets=(0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 600, 3600),
        )
        self.draining = gauge("mailroom_draining", "1 while the server shuts down")
        self.connections = gauge("mailroom_connections", "Open connections to this server")
        # reason: descriptors, memory
        self.connections_evicted = counter(
            "mailroom_connections_evicted_total", "Connections ended early to spare descriptors or memory", ["reason"]
        )
        self._queued = gauge("mailroom_queued", "Messages that wait or are being sent", ["priority"])
        self._oldest_seconds = gauge("mailroom_queued_oldest_seconds", "Age of the oldest of them", ["priority"])
        self._held = gauge("mailroom_held", "Messages that wait for the operator", ["reason"])
        self._free_bytes = gauge("mailroom_free_bytes", "Free space for the outbox; NaN: unknown")

    def endpoint(self, name: str) -> "EndpointMetrics":
        """Return the counters of one endpoint."""
        return EndpointMetrics(self, name)

    def observe_outbox(
        self, depth: Mapping[Priority, Depth], held: Mapping[str, int], free_bytes: int | None, now: Instant
    ) -> None:
        """Set the gauges that are computed for a scrape."""
        for priority in Priority:
            waiting = depth.get(priority, Depth(0, None))
            oldest = now if waiting.oldest is None else waiting.oldest
            self._queued.labels(priority.name.lower()).set(waiting.count)
            self._oldest_seconds.labels(priority.name.lower()).set(max(0.0, now - oldest))
        reasons = dict.fromkeys((*_HELD.values(), OTHER), 0)
        for reason, count in held.items():
            reasons[_HELD.get(reason, OTHER)] += count
        for reason, count in reasons.items():
            self._held.labels(reason).set(count)
        self._free_bytes.set(float("nan") if free_bytes is None else free_bytes)

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self.registry)


_HELD: Final = {
    HELD_MISCONFIGURED: "misconfigured",
    HELD_REFUSED: "refused",
    HELD_EXHAUSTED: "exhausted",
    HELD_RENDERING: "rendering",
    HELD_LINK: "link",
    HELD_FLOOD: "flood",
    HELD_OPERATOR: "operator",
}
"""Reason → label."""


class EndpointMetrics:
    """The counters of one endpoint. Its labels are bound at the start, so that Prometheus sees the zeros, too."""

    def __init__(self, metrics: Metrics, name: str) -> None:
        self._accepted = {template: metrics.accepted.labels(name, template) for template in (*metrics.templates, OTHER)}
        self._seconds = metrics.accept_seconds.labels(name)
        self._repeats = metrics.repeats.labels(name)
        self._refused = metrics.refused
        self._name = name

    def answered(self, template: str, seconds: float, *, fresh: bool) -> None:
        """Count a message that was stored, now or before (`fresh=False`), and the duration of its request."""
        counter = (self._accepted.get(template) or self._accepted[OTHER]) if fresh else self._repeats
        counter.inc()
        self._seconds.observe(seconds)

    def refused(self, status: int) -> None:
        """Count a request that was answered with an error."""
        self._refused.labels(self._name, status).inc()
