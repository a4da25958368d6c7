"""What Prometheus may know: counts, times and depths; never an address, a code or a message id."""

from prometheus_client import CollectorRegistry, Counter, Histogram


class Metrics:
    """The counters of one server, with a registry of their own so that tests do not share them."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.accepted = Counter(
            "mailroom_accepted_total", "Messages kept durably", ["door", "template"], registry=self.registry
        )
        """door: email, webhook"""
        self.refused = Counter(
            "mailroom_refused_total", "Requests answered with an error", ["door", "status"], registry=self.registry
        )
        self.attempts = Counter(
            "mailroom_attempts_total", "Attempts to hand a mail over", ["provider", "outcome"], registry=self.registry
        )
        """outcome: accepted, rejected, misconfigured, unavailable, uncertain"""
        self.settled = Counter(
            "mailroom_settled_total", "Messages by the state they went to", ["state"], registry=self.registry
        )
        """state: sent, failed, expired, held, …"""
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
