"""A vendor that allows few connections at the same time, on a real outbox: every mail is sent within seconds."""

from dataclasses import dataclass
from pathlib import Path

import structlog.testing

from mailroom.courier import Rates
from mailroom.errors import Unavailable
from mailroom.message import Email, Priority, Receipt, State
from tests.clock import FakeClock
from tests.courier.channels.test_rate_and_quota import Vendor, sending

_ALLOWED = 3
"""Microsoft 365's limit for a mailbox."""


@dataclass
class Crowded(Vendor):
    """Takes 0.2 s for a mail, and refuses what comes over a fourth connection."""

    on_the_wire: int = 0

    async def send(self, email: Email) -> Receipt:
        """Take the mail, or not."""
        if self.on_the_wire >= _ALLOWED:
            self.throttled += 1
            raise Unavailable("432 4.3.2 Concurrent", is_throttled=True, exceeds_concurrency=True)
        self.on_the_wire += 1
        try:
            await self.clock.sleep(0.2)
            return await super().send(email)
        finally:
            self.on_the_wire -= 1


async def test_mails_to_a_vendor_that_allows_few_connections_arrive_within_seconds(tmp_path: Path) -> None:
    clock = FakeClock()
    vendor = Crowded(clock)
    with structlog.testing.capture_logs() as lines:
        async with sending(tmp_path, clock, {"main": (vendor, Rates(clock))}) as it:
            for _ in range(15):
                await it.accept()
                await it.accept("Welcome", Priority.EVENT, lifetime=86400)
            await it.advance(20)
            assert {record.state for record in await it.records()} == {State.SENT}
            assert len(vendor.accepted) == 30
            assert vendor.throttled <= 10
    lowered = [line["concurrency"] for line in lines if line["event"] == "provider.too_many_connections"]
    assert lowered[:7] == [9, 8, 7, 6, 5, 4, 3]
    assert not [line for line in lines if line["event"] in ("provider.opened", "provider.slowed")]
