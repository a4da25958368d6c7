"""A message's delivery to SMTP servers that take the mail without saying so, or have too many connections."""

import asyncio
from typing import Any

import pytest

from mailroom.errors import Unavailable
from mailroom.message import Outcome, Priority, State
from mailroom.outbox import SENT_UNCERTAIN, Leased, Settlement
from mailroom.providers.smtp import Settings, connect
from tests.courier.parts import message
from tests.courier.test_delivery import Delivering
from tests.mails import email
from tests.providers.contract import context
from tests.providers.smtp.scripted_server import HANG_UP, SILENT, Script, Seen, scripted_smtp
from tests.wire_server import wire_server

BUSY = "432 4.3.2 Concurrent connections limit exceeded"


async def delivered(seen: Seen, priority: Priority, **settings: Any) -> tuple[Settlement, list[float]]:
    """Deliver a message until it is settled; return also after how many seconds each round followed."""
    provider = connect(Settings(host=seen.host, port=seen.port, tls="none", **settings), context())
    delivering, delays = Delivering(provider), list[float]()
    now = delivering.clock.now()
    sent = message(priority=priority, now=now, lifetime=86400)
    settlement = await delivering.settled(sent)
    while settlement.state is State.QUEUED:
        assert settlement.due_at is not None
        delays.append(settlement.due_at - now)
        leased = Leased(sent, settlement.attempts, rendered=settlement.rendered)
        settlement = await delivering.delivery.deliver(leased)
    await provider.aclose()
    return settlement, delays


@pytest.mark.parametrize("priority", [Priority.CODE, Priority.EVENT])
@pytest.mark.parametrize("reply", [HANG_UP, SILENT], ids=["hangs up", "says nothing"])
@pytest.mark.parametrize("extensions", [("PIPELINING",), ("PIPELINING", "CHUNKING")], ids=["DATA", "BDAT"])
async def test_a_server_that_takes_the_mail_without_saying_so_gets_three_copies(
    extensions: tuple[str, ...], reply: str, priority: Priority
) -> None:
    """A reader got eight copies of a code in 97 seconds (freescout#5457, kratos#3175)."""
    async with scripted_smtp(Script(extensions=extensions, replies={"CONTENT": reply})) as seen:
        settlement, _ = await delivered(seen, priority, timeout=0.2)
        assert (settlement.state, settlement.reason) == (State.SENT, SENT_UNCERTAIN)
        assert len(seen.recipients) == len(settlement.attempts) == 3


@pytest.mark.parametrize(
    ("extensions", "recipient", "hint"),
    [
        (("PIPELINING",), "jörg@example.com", "SMTPUTF8"),
        (("PIPELINING", "SIZE 10"), "ada@example.com", "too large for this provider"),
    ],
)
async def test_a_mail_that_a_server_cannot_take_goes_to_the_next_provider(
    extensions: tuple[str, ...], recipient: str, hint: str
) -> None:
    """Nothing is sent to the first, and its breaker stays closed."""
    async with (
        scripted_smtp(Script(extensions=extensions)) as first,
        scripted_smtp(Script(extensions=("SMTPUTF8",))) as second,
    ):
        providers = [
            connect(Settings(host=seen.host, port=seen.port, tls="none"), context()) for seen in (first, second)
        ]
        delivering = Delivering(*providers)
        settlement = await delivering.settled(message(recipient=recipient, now=delivering.clock.now()))
        for provider in providers:
            await provider.aclose()
        refused, accepted = settlement.attempts
        assert (refused.outcome, accepted.outcome) == (Outcome.MISCONFIGURED, Outcome.ACCEPTED)
        assert hint in refused.diagnostic
        assert delivering.channels["main"].is_available(delivering.clock.now())
        assert (len(first.recipients), len(second.recipients)) == (0, 1)


async def test_an_empty_line_before_the_last_reply_costs_no_copy() -> None:
    """A reader got five copies in 20 seconds (PHPMailer#1072)."""
    async with scripted_smtp(Script(blank_line=True)) as seen:
        settlement, _ = await delivered(seen, Priority.CODE)
        assert (settlement.state, settlement.reason) == (State.SENT, "")
        assert len(seen.recipients) == 1


@pytest.mark.parametrize("priority", [Priority.CODE, Priority.EVENT])
async def test_one_connection_too_many_costs_a_second(priority: Priority) -> None:
    """It cost five minutes (fastapi-mail#75, nodemailer#1613)."""
    async with scripted_smtp(Script(once={"CONTENT": BUSY})) as seen:
        settlement, delays = await delivered(seen, priority)
        assert [attempt.outcome for attempt in settlement.attempts] == [Outcome.UNAVAILABLE, Outcome.ACCEPTED]
        assert delays == [1]


async def test_idle_connections_are_closed_when_there_are_too_many() -> None:
    """The vendor counts them, too."""
    async with wire_server() as server:
        provider = connect(Settings(host=server.host, port=server.port, tls="none"), context())
        await asyncio.gather(*(provider.send(email()) for _ in range(3)))
        server.once["CONTENT"] = BUSY
        with pytest.raises(Unavailable) as caught:
            await provider.send(email())
        assert caught.value.exceeds_concurrency
        await server.until(lambda: server.verbs.count("QUIT") == 3)
        assert server.connections == 3
        await provider.aclose()
