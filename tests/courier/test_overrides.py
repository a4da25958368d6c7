"""Mails of one application or organization: another sender and other providers, also after a wait in the outbox."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

from msgspec.structs import replace

from mailroom.config.overrides import Override
from mailroom.courier import Channel, Courier, RatedLimiter, Rates, Routes
from mailroom.errors import Misconfigured
from mailroom.message import Address, Message, State
from mailroom.metrics import Metrics
from mailroom.outbox.sqlite.engine import SqliteOutbox
from tests.clock import START, FakeClock
from tests.courier.parts import SENDER, PlainRenderer, ScriptedProvider, message

OURS = {"when": {"organization": "org1"}, "from": "Lighthouse <no-reply@lighthouse.example>", "providers": ["own"]}


def of_organization(id_: str = "org1") -> Message:
    """Return a code for a sign-in to this organization."""
    new = message(now=START)
    return replace(new, payload={**new.payload, "organization": {"id": id_}})


@asynccontextmanager
async def courier(
    folder: Path, providers: dict[str, ScriptedProvider], *overrides: dict[str, Any]
) -> AsyncIterator[tuple[Courier, SqliteOutbox]]:
    """Run the courier on a real outbox; `main` is the default."""
    clock = FakeClock()
    outbox = await SqliteOutbox.open(folder / "mailroom.db", secret_keys=["s" * 32], clock=clock)
    made = Courier(
        outbox=outbox,
        renderer=PlainRenderer(),
        channels={name: Channel(one, RatedLimiter(1, Rates(clock)), SENDER) for name, one in providers.items()},
        routes=Routes({}, ("main",), tuple(Override.model_validate(table) for table in overrides)),
        reply_to=None,
        retention=timedelta(days=30),
        clock=clock,
        metrics=Metrics(),
        jitter=lambda: 0.0,
    )
    await made.start()
    try:
        yield made, outbox
    finally:
        for provider in providers.values():
            provider.answering.set()
        await made.drain(20)
        await outbox.close()


async def test_an_override_names_sender_and_providers(tmp_path: Path) -> None:
    providers = {"main": ScriptedProvider(), "own": ScriptedProvider()}
    async with courier(tmp_path, providers, OURS) as (made, _):
        await made.accept(of_organization())
        await made.accept(of_organization("org2"))
        async with asyncio.timeout(20):
            assert (await providers["own"].sent.get()).sender == Address("no-reply@lighthouse.example", "Lighthouse")
            assert (await providers["main"].sent.get()).sender == SENDER


async def test_a_provider_that_hangs_blocks_only_the_mails_of_its_override(tmp_path: Path) -> None:
    """More of them than there are slots; those that wait in the outbox are sent when it goes on."""
    providers = {"main": ScriptedProvider(), "own": ScriptedProvider()}
    providers["own"].answering.clear()
    async with courier(tmp_path, providers, OURS) as (made, outbox):
        waiting = [of_organization() for _ in range(20)]
        clock = cast("FakeClock", made._clock)
        for one in waiting:
            accepting = asyncio.create_task(made.accept(one))
            slots = made._admission.slots(one)
            while not accepting.done():  # the clock goes on only while it waits for a slot
                await (clock.advance(0.25) if slots.limiter._waiting else asyncio.sleep(0))
            await accepting
        assert len(await outbox.find(state=State.QUEUED)) > 0
        await made.accept(message(now=START))
        async with asyncio.timeout(20):
            assert (await providers["main"].sent.get()).sender == SENDER
            providers["own"].answering.set()
            assert {(await providers["own"].sent.get()).id for _ in waiting} == {one.id for one in waiting}


async def test_what_waits_takes_the_route_of_the_present_settings(tmp_path: Path) -> None:
    """Its override was corrected, added or removed by a restart."""
    refusing = {"main": ScriptedProvider([Misconfigured("535")]), "own": ScriptedProvider([Misconfigured("535")])}
    held = [of_organization(), of_organization("org2")]
    async with courier(tmp_path, refusing, OURS) as (made, outbox):
        for one in held:
            await made.accept(one)
        async with asyncio.timeout(20):
            while len(await outbox.find(state=State.HELD)) < len(held):  # noqa: ASYNC110 - nothing sets an event
                await asyncio.sleep(0)
    changed = {"when": {"organization": "org2"}, "providers": ["new"]}
    providers = {"main": ScriptedProvider(), "new": ScriptedProvider()}
    async with courier(tmp_path, providers, changed), asyncio.timeout(20):
        assert (await providers["main"].sent.get()).id == held[0].id
        assert (await providers["new"].sent.get()).id == held[1].id


async def test_what_was_stored_by_other_settings_takes_no_more_slots_than_its_providers_have(tmp_path: Path) -> None:
    """Its stored route is corrected, so that a provider that hangs does not fill the memory."""
    outbox = await SqliteOutbox.open(tmp_path / "mailroom.db", secret_keys=["s" * 32], clock=FakeClock())
    for _ in range(20):
        await outbox.put(of_organization(), route="gone")
    await outbox.close()
    providers = {"main": ScriptedProvider(), "own": ScriptedProvider()}
    providers["own"].answering.clear()
    async with courier(tmp_path, providers, OURS) as (made, _), asyncio.timeout(20):
        await providers["own"].sent.get()
        await made.accept(message(now=START))
        await providers["main"].sent.get()
        assert len(made._deliveries) <= 5
        providers["own"].answering.set()
        for _ in range(19):
            await providers["own"].sent.get()
