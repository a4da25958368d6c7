"""What Prometheus may know: counts, times and depths; never an address, a code or a message id."""

from collections.abc import Collection, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from mailroom.clock import Instant
from mailroom.message import TEMPLATES, Priority
from mailroom.outbox import HELD_EXHAUSTED, HELD_LINK, HELD_MISCONFIGURED, HELD_REFUSED, HELD_RENDERING, Depth

OTHER: Final = "other"
"""The label of every template or reason that is not known beforehand: strangers must not make labels."""


class Metrics:
    """The counters of one server, with a registry of their own so that tests do not share them."""

    def __init__(self, templates: Collection[str] = TEMPLATES) -> None:
        self.templates = frozenset(templates)
        """The templates that have a label of their own."""
        self.registry = CollectorRegistry()
        self.accepted = Counter(
            "mailroom_accepted_total", "Messages kept durably", ["door", "template"], registry=self.registry
        )
        """door: email, webhook"""
        self.refused = Counter(
            "mailroom_refused_total", "Requests answered with an error", ["door", "status"], registry=self.registry
        )
        self.repeats = Counter(
            "mailroom_repeats_total", "Requests that had been kept before", ["door"], registry=self.registry
        )
        self.attempts = Counter(
            "mailroom_attempts_total", "Attempts to hand a mail over", ["provider", "outcome"], registry=self.registry
        )
        """outcome: accepted, rejected, misconfigured, unavailable, uncertain"""
        self.settled = Counter(
            "mailroom_settled_total", "Messages by the state they went to", ["state"], registry=self.registry
        )
        """state: sent, failed, expired, held, …"""
        self.provider_open = Gauge(
            "mailroom_provider_open",
            "1 while a provider is skipped because it fails",
            ["provider"],
            registry=self.registry,
        )
        self.accept_seconds = Histogram(
            "mailroom_accept_seconds",
            "From the whole request to its answer",
            ["door"],
            registry=self.registry,
            buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5),
        )
        self.handover_seconds = Histogram(
            "mailroom_handover_seconds",
            "From the acceptance of a message to the provider's yes",
            ["priority"],
            registry=self.registry,
            buckets=(0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 600, 3600),
        )
        self.draining = Gauge("mailroom_draining", "1 while the server is ending", registry=self.registry)
        self.connections = Gauge("mailroom_connections", "Open connections to this server", registry=self.registry)
        self.connections_evicted = Counter(
            "mailroom_connections_evicted_total",
            "Connections ended early to spare descriptors or memory",
            ["reason"],
            registry=self.registry,
        )
        """reason: descriptors, memory"""
        self._queued = Gauge(
            "mailroom_queued", "Messages that wait or are being sent", ["priority"], registry=self.registry
        )
        self._oldest_seconds = Gauge(
            "mailroom_queued_oldest_seconds", "Age of the oldest of them", ["priority"], registry=self.registry
        )
        self._held = Gauge("mailroom_held", "Messages that wait for the operator", ["reason"], registry=self.registry)
        self._free_bytes = Gauge(
            "mailroom_free_bytes", "Free room where the outbox lies; NaN: unknown", registry=self.registry
        )

    def door(self, name: str) -> "EndpointMetrics":
        """Return what one door counts."""
        return EndpointMetrics(self, name)

    def observe_outbox(
        self, depth: Mapping[Priority, Depth], held: Mapping[str, int], free_bytes: int | None, now: Instant
    ) -> None:
        """Set what is looked up when somebody asks."""
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
        """Return everything in Prometheus' text format."""
        return generate_latest(self.registry)


_HELD: Final = {
    HELD_MISCONFIGURED: "misconfigured",
    HELD_REFUSED: "refused",
    HELD_EXHAUSTED: "exhausted",
    HELD_RENDERING: "rendering",
    HELD_LINK: "link",
}
"""Reason -> label."""


class EndpointMetrics:
    """What one door counts. Its labels are bound once: `labels()` costs more than counting."""

    def __init__(self, metrics: Metrics, name: str) -> None:
        self._accepted = {template: metrics.accepted.labels(name, template) for template in (*metrics.templates, OTHER)}
        self._seconds = metrics.accept_seconds.labels(name)
        self._repeats = metrics.repeats.labels(name)
        self._refused = metrics.refused
        self._name = name

    def answered(self, template: str, seconds: float, *, fresh: bool) -> None:
        """Count a message that was kept, now or before (`fresh=False`), and how long its request took."""
        counter = (self._accepted.get(template) or self._accepted[OTHER]) if fresh else self._repeats
        counter.inc()
        self._seconds.observe(seconds)

    def refused(self, status: int) -> None:
        """Count a request that got an error for an answer."""
        self._refused.labels(self._name, status).inc()
