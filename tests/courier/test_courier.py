"""The loop on a real outbox: what is accepted is sent, whatever happens in between."""

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from email.header import Header
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import pytest
import structlog.testing
from msgspec import structs

from mailroom.courier import Channel, Courier, RatedLimiter, Rates, Routes
from mailroom.courier.admission import Slots
from mailroom.courier.courier import LEASE_SECONDS
from mailroom.errors import CannotKeep, Declined, Misconfigured, OutboxError, Rejected, SendingError, Unavailable
from mailroom.message import MASK, Email, Message, Outcome, Priority, Receipt, State
from mailroom.metrics import Metrics
from mailroom.outbox import HELD_MISCONFIGURED, HELD_REFUSED, ClaimResult, Leased, Record
from mailroom.outbox.sqlite.engine import SqliteOutbox
from mailroom.outbox.sqlite.operator import SqliteOperator, open_for_operator
from tests.clock import FakeClock
from tests.courier.parts import SENDER, PlainRenderer, ScriptedProvider, message

SECRET = "a secret key of at least thirty-two characters"


class Sending:
    """An outbox, a courier and one provider."""

    def __init__(
        self, outbox: SqliteOutbox, clock: FakeClock, provider: ScriptedProvider, *, concurrency: int, supersedes: bool
    ) -> None:
        self.outbox = outbox
        self.clock = clock
        self.provider = provider
        self.metrics = Metrics()
        self.limiter = RatedLimiter(concurrency, Rates(clock))
        self.courier = Courier(
            outbox=outbox,
            renderer=PlainRenderer(),
            channels={"main": Channel(provider, self.limiter, SENDER)},
            routes=Routes({}, ("main",)),
            reply_to=None,
            retention=timedelta(days=30),
            clock=clock,
            metrics=self.metrics,
            jitter=lambda: 0.0,
            supersedes=supersedes,
        )

    def new(self, template: str = "SignIn", priority: Priority = Priority.CODE, **facts: Any) -> Message:
        """Return a message that was created now."""
        return message(template, priority, now=self.clock.now(), **facts)

    async def accept(self, *messages: Message) -> None:
        """Accept messages at the same time; those that find no slot wait until the clock has gone on."""
        accepting = [asyncio.create_task(self.courier.accept(one)) for one in messages]
        async with asyncio.timeout(20):
            while not all(task.done() for task in accepting):
                await self.clock.advance(0.25)
        await asyncio.gather(*accepting)

    async def received(self, count: int) -> list[Email]:
        """Return the next mails that the provider got."""
        async with asyncio.timeout(20):
            return [await self.provider.sent.get() for _ in range(count)]

    async def quiet(self) -> None:
        """Return once no delivery is under way."""
        async with asyncio.timeout(20):
            while under_way := list(self.courier._deliveries.values()):
                await asyncio.wait(under_way)

    async def caught_up(self) -> None:
        """Return once the courier has seen that nothing waits: from here on messages are born leased."""
        async with asyncio.timeout(20):
            while self.courier._admission.has_backlog or self.slots._claiming:  # noqa: ASYNC110 - it sets no event
                await asyncio.sleep(0)
        await self.quiet()

    @property
    def slots(self) -> Slots:
        """Return the slots of the one route."""
        return self.courier._admission.slots(message("SignIn"))

    async def record(self, id_: str) -> Record:
        """Return a message's record."""
        record = await self.outbox.get(id_)
        assert record is not None
        return record


@asynccontextmanager
async def sending(
    path: Path,
    *script: Any,
    concurrency: int = 10,
    supersedes: bool = True,
    clock: FakeClock | None = None,
    **limits: Any,
) -> AsyncIterator[Sending]:
    """Open an outbox and start a courier; its provider answers by the script."""
    clock = clock or FakeClock()
    outbox = await SqliteOutbox.open(path / "mailroom.db", secret_keys=[SECRET], clock=clock, **limits)
    opened = Sending(outbox, clock, ScriptedProvider(list(script)), concurrency=concurrency, supersedes=supersedes)
    await opened.courier.start()
    try:
        yield opened
    finally:
        opened.provider.answering.set()
        await opened.courier.drain(20)
        await outbox.close()


async def test_what_is_accepted_is_sent_from_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One insert, one update: it is never claimed."""
    async with sending(tmp_path) as it:
        await it.caught_up()
        claims: list[int] = []
        claim = it.outbox.claim

        async def spied(*limits: Any, **facts: Any) -> Any:
            claims.append(1)
            return await claim(*limits, **facts)

        monkeypatch.setattr(it.outbox, "claim", spied)
        kept = await it.courier.accept(it.new())
        assert (await it.received(1))[0].id == kept.id
        await it.quiet()
        record = await it.record(kept.id)
        assert (record.state, [a.outcome for a in record.attempts]) == (State.SENT, [Outcome.ACCEPTED])
        assert claims == []


async def test_a_flood_that_the_provider_keeps_up_with_goes_on_from_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has a slot; none has to be claimed from the outbox."""
    async with sending(tmp_path, concurrency=20) as it:
        await it.caught_up()
        claims: list[int] = []
        claim = it.outbox.claim

        async def spied(*limits: Any, **facts: Any) -> Any:
            claims.append(1)
            return await claim(*limits, **facts)

        monkeypatch.setattr(it.outbox, "claim", spied)
        await asyncio.gather(*(it.courier.accept(it.new()) for _ in range(100)))
        await it.received(100)
        await it.quiet()
        assert it.provider.most_on_the_wire <= 20
        assert claims == []


async def test_a_message_that_is_due_again_gets_a_slot_in_a_flood(tmp_path: Path) -> None:
    """What arrives steps back for what waits, though there is always somebody who takes the next place."""
    async with sending(tmp_path, Unavailable("450 busy"), concurrency=1) as it:
        await it.caught_up()
        retried = await it.courier.accept(it.new())
        await it.received(1)
        await it.quiet()
        posted = 0

        async def flood() -> None:
            nonlocal posted
            while posted < 500 and (await it.record(retried.id)).state is not State.SENT:
                posted += 1
                await it.courier.accept(it.new())

        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            for _ in range(5):
                group.create_task(flood())
            await it.clock.advance(1.5)
        assert posted < 500


async def test_a_repeat_is_answered_with_the_same_id_and_sent_once(tmp_path: Path) -> None:
    """And its place is free again."""
    async with sending(tmp_path) as it:
        await it.caught_up()
        first = await it.courier.accept(it.new(), repeat_of=b"the same body")
        second = await it.courier.accept(it.new(), repeat_of=b"the same body")
        assert (second.id, second.fresh) == (first.id, False)
        await it.quiet()
        assert it.provider.sent.qsize() == 1
        assert it.slots.limiter.free(Priority.CODE) == 40


async def test_what_cannot_be_kept_is_not_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asked is told, and the place is free again."""
    async with sending(tmp_path) as it:
        await it.caught_up()

        async def full(*_: Any, **__: Any) -> Any:
            raise CannotKeep("database or disk is full")

        monkeypatch.setattr(it.outbox, "put", full)
        with pytest.raises(CannotKeep):
            await it.courier.accept(it.new())
        assert it.provider.sent.empty()
        assert it.slots.limiter.free(Priority.CODE) == 40


async def test_a_backlog_is_worked_off_in_a_bounded_memory_codes_first(tmp_path: Path) -> None:
    """However much waits, no more than the slots are in memory."""
    async with sending(tmp_path, concurrency=2) as it:
        await it.caught_up()
        it.provider.answering.clear()
        welcomes = [it.new("Welcome", Priority.EVENT, lifetime=86400) for _ in range(200)]
        await it.accept(*welcomes)
        codes = [it.new() for _ in range(100)]
        await it.accept(*codes)
        assert len(it.courier._deliveries) <= 16
        it.provider.answering.set()
        order = [email.template for email in await it.received(300)]
        await it.quiet()
        assert it.provider.most_on_the_wire <= 2
        last_code = len(order) - order[::-1].index("SignIn")
        assert order[:last_code].count("Welcome") <= 50, order
        for sent in (*welcomes, *codes):
            assert (await it.record(sent.id)).state is State.SENT


async def test_other_mail_does_not_keep_a_code_waiting(tmp_path: Path) -> None:
    """While every other turn hangs on the wire a code goes at once."""
    async with sending(tmp_path, concurrency=5) as it:
        await it.caught_up()
        it.provider.answering.clear()
        await it.accept(*(it.new("Welcome", Priority.EVENT, lifetime=86400) for _ in range(50)))
        await it.received(4)
        kept = await it.courier.accept(it.new())
        assert (await it.received(1))[0].id == kept.id


async def test_a_failed_round_is_tried_again_when_it_is_due(tmp_path: Path) -> None:
    """Not before, and without polling."""
    async with sending(tmp_path, Unavailable("450 busy"), Unavailable("450 busy")) as it:
        await it.caught_up()
        kept = await it.courier.accept(it.new())
        await it.received(1)
        await it.quiet()
        assert (await it.record(kept.id)).state is State.QUEUED
        await it.clock.advance(0.9)
        assert it.provider.sent.empty()
        await it.clock.advance(0.2)
        await it.received(1)
        await it.quiet()
        await it.clock.advance(2.1)
        await it.received(1)
        await it.quiet()
        record = await it.record(kept.id)
        assert record.state is State.SENT
        assert [a.outcome for a in record.attempts] == [Outcome.UNAVAILABLE, Outcome.UNAVAILABLE, Outcome.ACCEPTED]


async def test_the_next_process_sends_what_the_last_one_could_not(tmp_path: Path) -> None:
    """Cut off on the wire or still waiting: everything that was acknowledged goes."""
    clock = FakeClock()
    async with sending(tmp_path, concurrency=1, clock=clock) as killed:
        await killed.caught_up()
        killed.provider.answering.clear()
        kept = [killed.new() for _ in range(10)]
        await killed.accept(kept[0])
        await killed.accept(*kept[1:])
        await killed.received(1)
        await killed.courier.drain(0)
    async with sending(tmp_path, clock=clock) as it:
        ids = {email.id for email in await it.received(10)}
        await it.quiet()
        assert ids == {one.id for one in kept}
        cut_off = [a.outcome for a in (await it.record(kept[0].id)).attempts]
        assert cut_off == [None, Outcome.ACCEPTED]


async def test_what_is_held_for_our_faults_goes_once_they_are_mended(tmp_path: Path) -> None:
    """One message probes every five minutes; when it is taken, all others follow."""
    refused = [Misconfigured("535 5.7.8 bad credentials")] * 4
    async with sending(tmp_path, *refused) as it:
        await it.caught_up()
        invitations = [it.new("OrganizationInvitation", Priority.INVITATION, lifetime=86400) for _ in range(3)]
        for invitation in invitations:
            await it.courier.accept(invitation)
        await it.received(3)
        await it.quiet()
        assert await it.outbox.held() == {HELD_MISCONFIGURED: 3}
        await it.clock.until_asleep(4)
        await it.clock.advance(301)
        await it.received(1)  # the probe, refused
        await it.quiet()
        assert it.provider.sent.empty()
        await it.clock.advance(300)
        await it.received(3)
        await it.quiet()
        assert [(await it.record(one.id)).state for one in invitations] == [State.SENT] * 3


async def test_a_refused_invitation_keeps_its_link_and_goes_after_the_repair(tmp_path: Path) -> None:
    """Mail that the provider takes meanwhile does not release it: each time it would be refused again."""
    clock = FakeClock()
    async with sending(tmp_path, Declined("554 5.7.0 we do not like it"), clock=clock) as it:
        await it.caught_up()
        invitation = it.new("OrganizationInvitation", Priority.INVITATION, lifetime=86400)
        await it.courier.accept(structs.replace(invitation, payload={"link": "https://app.example/i?t=1"}))
        await it.received(1)
        for _ in range(3):
            await it.courier.accept(it.new())
            assert (await it.received(1))[0].template == "SignIn"
        await it.quiet()
        assert it.provider.sent.empty()
        assert await it.outbox.held() == {HELD_REFUSED: 1}
    async with sending(tmp_path, clock=clock) as repaired:
        await repaired.received(1)
        await repaired.quiet()
        assert (await repaired.record(invitation.id)).state is State.SENT


ECHOES: dict[str, Callable[[str], str]] = {
    "as it is": "<{}@mx.example>".format,
    "spaced": " ".join,
    "in two": lambda code: f"{code[:3]}-{code[3:]}",
    "base64": lambda code: b64encode(f"Subject: {code} is your code".encode()).decode(),
    "an encoded word": lambda code: Header(f"Код {code}", "utf-8").encode(),
}


@pytest.mark.parametrize("echo", ECHOES.values(), ids=ECHOES)
@pytest.mark.parametrize("refusal", [None, Rejected, Misconfigured], ids=["accepted", "rejected", "held"])
async def test_a_code_that_the_provider_echoes_is_not_in_the_databases_files(
    tmp_path: Path, echo: Callable[[str], str], refusal: type[SendingError] | None
) -> None:
    """Neither in its words nor as its own id of the mail: not in the file, not in the write-ahead log."""
    codes = [f"{716253 + 1117 * number}" for number in range(50)]

    def answer(email: Email) -> Receipt:
        said = echo(email.text.rpartition(" ")[2])
        if refusal:
            raise refusal(said, code=said)
        return Receipt(said, said)

    async with sending(tmp_path, *[answer] * 50) as it:
        kept = [await it.courier.accept(it.new(code=code)) for code in codes]
        await it.received(50)
        await it.quiet()
        records = [await it.record(one.id) for one in kept]
        files = _octets_in(tmp_path)
    assert {record.state for record in records} <= {State.SENT, State.FAILED, State.HELD}
    assert files.count(MASK.encode()) >= 50, "something was recorded"
    assert [code for code in codes if code.encode() in files or echo(code).encode() in files] == []


def _octets_in(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.iterdir())


async def test_an_expired_code_is_never_sent_and_is_an_error_line(tmp_path: Path) -> None:
    """The person on duty sees it; its payload is gone."""
    async with sending(tmp_path, Unavailable("450 busy", retry_after=500)) as it:
        await it.caught_up()
        kept = await it.courier.accept(it.new())
        await it.received(1)
        await it.quiet()
        it.provider.script = [Unavailable("450 busy")]
        it.clock.set(it.clock.now() + 571)
        with structlog.testing.capture_logs() as lines:
            await it.clock.advance(5)
            await _until(lambda: _told(lines))
        assert (await it.record(kept.id)).state is State.EXPIRED
        errors = [line for line in lines if line["log_level"] == "error"]
        assert [(line["event"], line["id"]) for line in errors] == [("code.undelivered", kept.id)]
        assert it.provider.sent.empty()


async def test_an_outcome_that_cannot_be_recorded_is_insisted_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk must not make us send twice: the message keeps its place until it is written down."""
    async with sending(tmp_path) as it:
        await it.caught_up()
        settle, tries = it.outbox.settle, 0

        async def full(settlement: Any) -> Any:
            nonlocal tries
            tries += 1
            if tries <= 3:
                raise CannotKeep("database or disk is full")
            return await settle(settlement)

        monkeypatch.setattr(it.outbox, "settle", full)
        kept = await it.courier.accept(it.new())
        await it.received(1)
        for _ in range(3):
            await it.clock.until_asleep(7)  # eight jobs and the delivery
            await it.clock.advance(1)
        await it.quiet()
        assert (await it.record(kept.id)).state is State.SENT
        assert it.provider.sent.empty()


async def test_drain_lets_what_is_on_the_wire_end(tmp_path: Path) -> None:
    """And takes nothing more."""
    async with sending(tmp_path) as it:
        await it.caught_up()
        it.provider.answering.clear()
        kept = await it.courier.accept(it.new())
        await it.received(1)
        draining = asyncio.create_task(it.courier.drain(20))
        await asyncio.sleep(0)
        later = await it.courier.accept(it.new())
        it.provider.answering.set()
        await draining
        assert (await it.record(kept.id)).state is State.SENT
        assert (await it.record(later.id)).state is State.QUEUED


async def test_what_waits_for_its_turn_at_the_end_is_left_to_the_next_process(tmp_path: Path) -> None:
    """It was not dialled, so nothing is recorded of an attempt, and nobody need fear that it was sent."""
    async with sending(tmp_path, concurrency=1) as it:
        await it.caught_up()
        it.provider.answering.clear()
        on_the_wire = await it.courier.accept(it.new())
        await it.received(1)
        waiting = await it.courier.accept(it.new())
        assert (await it.record(waiting.id)).state is State.SENDING
        accepted_at = it.clock.now()
        it.clock.set(accepted_at + 3)
        finishing = asyncio.create_task(it.courier.finish())
        await asyncio.sleep(0)
        assert not finishing.done()
        it.provider.answering.set()
        await finishing
        assert (await it.record(on_the_wire.id)).state is State.SENT
        left = await it.record(waiting.id)
        assert (left.state, left.attempts, left.due_at) == (State.QUEUED, (), accepted_at)


async def test_a_web_process_keeps_and_does_not_send(tmp_path: Path) -> None:
    """`role = "web"`: another process sends."""
    clock = FakeClock()
    outbox = await SqliteOutbox.open(tmp_path / "mailroom.db", secret_keys=[SECRET], clock=clock)
    provider = ScriptedProvider()
    courier = Courier(
        outbox=outbox,
        renderer=PlainRenderer(),
        channels={"main": Channel(provider, RatedLimiter(10, Rates(clock)), SENDER)},
        routes=Routes({}, ("main",)),
        reply_to=None,
        retention=timedelta(days=30),
        clock=clock,
        metrics=Metrics(),
        jitter=lambda: 0.0,
        delivers=False,
    )
    await courier.start()
    kept = await courier.accept(message(now=clock.now()))
    record = await outbox.get(kept.id)
    await courier.drain(1)
    await outbox.close()
    assert record is not None
    assert record.state is State.QUEUED
    assert provider.sent.empty()


async def test_old_records_are_purged(tmp_path: Path) -> None:
    """After the retention nothing is left of a settled message."""
    async with sending(tmp_path, Receipt("1")) as it:
        await it.caught_up()
        kept = await it.courier.accept(it.new())
        await it.received(1)
        await it.quiet()
        it.clock.set(it.clock.now() + 31 * 86400)
        await it.clock.until_asleep(4)
        await it.clock.advance(61)
        await _until(lambda: _gone(it, kept.id))


async def test_no_exception_ends_the_loop_that_claims(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor one that nobody thought of: it is logged, and a second later the loop goes on."""
    async with sending(tmp_path) as it:
        await it.caught_up()
        claim, faults = it.outbox.claim, [ZeroDivisionError("of the tests"), OutboxError("of the tests")]

        async def broken(*limits: Any, **facts: Any) -> Any:
            if faults:
                raise faults.pop()
            return await claim(*limits, **facts)

        monkeypatch.setattr(it.outbox, "claim", broken)
        await it.outbox.put(it.new())
        with structlog.testing.capture_logs() as lines:
            it.slots.add_backlog(Priority.CODE)
            it.courier._wake.set()
            for _ in range(2):
                await it.clock.until_asleep(7)  # eight jobs and the loop
                await it.clock.advance(1)
            await it.received(1)
        assert [line["event"] for line in lines if line["log_level"] == "error"] == ["claim.failed"] * 2


async def test_a_delivery_that_breaks_harms_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its place is given back, and the message is tried again when its lease ends."""
    async with sending(tmp_path, concurrency=1) as it:
        await it.caught_up()
        settle, faults = it.outbox.settle, [ZeroDivisionError("of the tests")]

        async def broken(settlement: Any) -> Any:
            if faults:
                raise faults.pop()
            return await settle(settlement)

        monkeypatch.setattr(it.outbox, "settle", broken)
        with structlog.testing.capture_logs() as lines:
            first = await it.courier.accept(it.new())
            await it.received(1)
            await it.quiet()
        assert [(line["event"], line["id"]) for line in lines] == [("delivery.failed", first.id)]
        others = [await it.courier.accept(it.new()) for _ in range(3)]
        assert {mail.id for mail in await it.received(3)} == {kept.id for kept in others}


@pytest.mark.parametrize("job", ["expire", "index", "purge", "truncate_log", "release"])
async def test_a_maintenance_job_that_fails_runs_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, job: str
) -> None:
    """Each of them, five minutes of them all."""
    async with sending(tmp_path) as it:
        await it.caught_up()
        calls: list[int] = []

        async def broken(*_: Any, **__: Any) -> Any:
            calls.append(1)
            raise ZeroDivisionError("of the tests")

        monkeypatch.setattr(it.outbox, job, broken)
        with structlog.testing.capture_logs() as lines:
            while len(calls) < 3:
                await it.clock.until_asleep(6)
                await it.clock.advance(1)
        assert [line["event"] for line in lines] == ["maintenance.failed"] * len(calls)


async def test_a_settled_payload_leaves_the_log_within_a_minute(tmp_path: Path) -> None:
    """On an idle server; the log was the last to have it."""
    async with sending(tmp_path) as it:
        await it.caught_up()
        it.provider.answering.clear()
        await it.courier.accept(it.new())
        ((sealed,),) = await it.outbox._reader.rows("SELECT sealed FROM messages")
        it.provider.answering.set()
        await it.received(1)
        await it.quiet()
        log = tmp_path / "mailroom.db-wal"
        assert sealed in _content(log)
        for _ in range(60):
            await it.clock.until_asleep(6)
            await it.clock.advance(1)
        await _until(lambda: _lacks(log, sealed))
    assert sealed not in _content(tmp_path / "mailroom.db")


def _content(file: Path) -> bytes:
    return file.read_bytes()


async def _lacks(file: Path, content: bytes) -> bool:
    return content not in _content(file)


async def test_a_clock_that_is_set_is_told_once(tmp_path: Path) -> None:
    """With what follows from it."""
    async with sending(tmp_path) as it:
        await it.caught_up()
        it.clock.set_wall(-3600)
        with structlog.testing.capture_logs() as lines:
            for _ in range(180):
                await it.clock.until_asleep(6)
                await it.clock.advance(1)
        assert [(line["event"], line["seconds_ahead"]) for line in lines] == [("clock.set", -3600)]


async def _told(lines: list[Any]) -> bool:
    return any(line["log_level"] == "error" for line in lines)


async def _gone(it: Sending, id_: str) -> bool:
    return await it.outbox.get(id_) is None


async def _until(true: Callable[[], Awaitable[bool]]) -> None:
    """Return once it is true; each look is a turn through the outbox's thread."""
    async with asyncio.timeout(20):
        while not await true():  # noqa: ASYNC110 - nobody could set an event
            await asyncio.sleep(0)


@pytest.fixture
async def operator(tmp_path: Path) -> AsyncIterator[Callable[[], Awaitable[SqliteOperator]]]:
    """Return a function that opens the outbox as an operator's command does."""
    async with AsyncExitStack() as stack:

        async def open_() -> SqliteOperator:
            opened = await open_for_operator(tmp_path / "mailroom.db", secret_keys=[SECRET])
            stack.push_async_callback(opened.close)
            return opened

        yield open_


async def test_a_paused_provider_sends_nothing_until_it_is_resumed(
    tmp_path: Path, operator: Callable[[], Awaitable[SqliteOperator]]
) -> None:
    """The server notices both within a second; codes wait in the outbox."""
    async with sending(tmp_path) as it:
        await it.caught_up()
        beside = await operator()
        await beside.pause("main", now=it.clock.now())
        await it.clock.advance(1)
        await _until(lambda: _is_paused(it))
        kept = await it.courier.accept(it.new())
        assert (await it.record(kept.id)).state is State.QUEUED
        await beside.resume("main")
        while it.provider.sent.empty():
            await it.clock.until_asleep(7)
            await it.clock.advance(1)
        assert (await it.received(1))[0].id == kept.id


async def test_what_an_operator_changed_is_read_again_when_reading_fails(
    tmp_path: Path, operator: Callable[[], Awaitable[SqliteOperator]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The outbox reports a change once only."""
    async with sending(tmp_path) as it:
        await it.caught_up()
        paused, faults = it.outbox.paused, [OutboxError("of the tests")]

        async def broken() -> Any:
            if faults:
                raise faults.pop()
            return await paused()

        monkeypatch.setattr(it.outbox, "paused", broken)
        await (await operator()).pause("main", now=it.clock.now())
        async with asyncio.timeout(20):
            while not await _is_paused(it):
                await it.clock.until_asleep(7)
                await it.clock.advance(1)
        assert not faults


async def test_a_held_message_that_an_operator_retries_is_sent(
    tmp_path: Path, operator: Callable[[], Awaitable[SqliteOperator]]
) -> None:
    async with sending(tmp_path, Declined("554 5.7.0 we do not like it")) as it:
        await it.caught_up()
        kept = await it.courier.accept(it.new())
        await it.received(1)
        await it.quiet()
        assert (await (await operator()).retry([kept.id], now=it.clock.now())).changed == (kept.id,)
        while it.provider.sent.empty():
            await it.clock.until_asleep(7)
            await it.clock.advance(1)
        assert (await it.received(1))[0].id == kept.id


async def _is_paused(it: Sending) -> bool:
    return it.courier._channels["main"].is_paused


async def test_the_reason_for_which_a_provider_is_skipped_shows_no_code(tmp_path: Path) -> None:
    """A provider repeats the subject in its refusal; the log is read by others than the reader of the mail."""

    def refuse(email: Email) -> Receipt:
        raise Misconfigured(f"<{email.subject}> the sender is not verified")

    async with sending(tmp_path, refuse) as it:
        await it.caught_up()
        with structlog.testing.capture_logs() as lines:
            await it.courier.accept(it.new(code="271828"))
            await it.received(1)
            await it.quiet()
        (opened,) = (line for line in lines if line["event"] == "provider.opened")
        assert "the sender is not verified" in opened["reason"]
        assert "271828" not in str(lines)


async def test_a_message_whose_delivery_broke_is_tried_again_when_its_lease_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also on a server that has nothing else to do."""
    async with sending(tmp_path) as it:
        await it.caught_up()
        with monkeypatch.context() as patched:
            patched.setattr(it.outbox, "settle", AsyncMock(side_effect=ZeroDivisionError("of the tests")))
            first = await it.courier.accept(it.new())
            await it.received(1)
            await it.quiet()
        await it.clock.advance(LEASE_SECONDS + 1)
        assert (await it.received(1))[0].id == first.id


async def test_what_becomes_due_during_a_claim_is_claimed_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The claim was for other providers, so that its result does not know of it."""
    async with sending(tmp_path) as it:
        await it.caught_up()
        claim, queued = it.outbox.claim, it.new()

        async def of_others(*limits: Any, **facts: Any) -> Any:
            monkeypatch.setattr(it.outbox, "claim", claim)
            result = await claim(*limits, **facts)
            await it.outbox.put(queued)
            it.courier._wake_at(queued.created_at)
            return result

        monkeypatch.setattr(it.outbox, "claim", of_others)
        it.courier._wake_at(it.clock.now())
        assert (await it.received(1))[0].id == queued.id


async def test_a_claim_of_what_is_under_way_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Leases that ended during a delivery use up its limit: it is claimed again."""
    async with sending(tmp_path) as it:
        await it.caught_up()
        it.provider.answering.clear()
        under_way, queued = it.new(), it.new()
        await it.courier.accept(under_way)
        await it.received(1)
        await it.outbox.put(queued)
        claim = it.outbox.claim

        async def of_one(*_limits: Any, **_facts: Any) -> Any:
            monkeypatch.setattr(it.outbox, "claim", claim)
            return ClaimResult((Leased(under_way, ()),), None)

        monkeypatch.setattr(it.outbox, "claim", of_one)
        it.courier._wake_at(it.clock.now())
        await it.clock.until_asleep(7)
        await it.clock.advance(1)
        assert (await it.received(1))[0].id == queued.id
