"""What the log says of failovers."""

from typing import Any

import structlog.testing

from mailroom.courier.reporter import Reporter
from mailroom.message import Attempt, Outcome, Receipt, State
from mailroom.metrics import Metrics
from mailroom.outbox import Settlement
from tests.clock import FakeClock
from tests.courier.parts import message


def failover(reporter: Reporter) -> None:
    """Report a mail that `main` failed and `backup` sent."""
    one = message()
    attempts = (
        Attempt("main", 0.0, 0.1, Outcome.UNAVAILABLE, "451 busy"),
        Attempt("backup", 0.1, 0.1, Outcome.ACCEPTED),
    )
    reporter.attempted("backup", Receipt())
    reporter.settled(one, Settlement(one.id, State.SENT, attempts))


def warnings(lines: Any) -> list[Any]:
    """Return the warnings without their levels."""
    return [
        {key: value for key, value in line.items() if key != "log_level"}
        for line in lines
        if line["log_level"] == "warning"
    ]


async def test_a_failover_is_named_once_and_then_summed_up() -> None:
    """A provider without a failover for a minute is named again."""
    clock = FakeClock()
    reporter = Reporter(Metrics(), clock)
    with structlog.testing.capture_logs() as lines:
        for _ in range(3):
            failover(reporter)
        reporter.summarize_failovers()
    assert warnings(lines) == [
        {"event": "provider.failed_over", "provider": "main", "sent_by": "backup", "diagnostic": "451 busy"}
    ]
    await clock.advance(60)
    with structlog.testing.capture_logs() as lines:
        reporter.summarize_failovers()
        await clock.advance(60)
        reporter.summarize_failovers()
    summary = {"event": "provider.failing", "skipped": {}, "failed_over": {"main": 3}, "sent_by": {"backup": 2}}
    assert warnings(lines) == [summary]
    with structlog.testing.capture_logs() as lines:
        failover(reporter)
    assert [line["event"] for line in warnings(lines)] == ["provider.failed_over"]


async def test_a_provider_that_is_skipped_is_in_the_summary_with_its_reason() -> None:
    clock = FakeClock()
    reporter = Reporter(Metrics(), clock)
    reporter.opened("main", "535 bad credentials")
    reporter.attempted("backup", Receipt())
    await clock.advance(60)
    with structlog.testing.capture_logs() as lines:
        reporter.summarize_failovers()
        reporter.recovered("main")
        await clock.advance(60)
        reporter.summarize_failovers()
    (summary,) = warnings(lines)
    assert (summary["skipped"], summary["sent_by"]) == ({"main": "535 bad credentials"}, {"backup": 1})
