"""What the courier does with messages that the outbox refuses or holds, and with those that are sent later."""

from pathlib import Path

import pytest

from mailroom.errors import LimitExceeded
from mailroom.message import Priority, State
from mailroom.outbox.limits import RateLimit
from tests.courier.test_courier import Sending, sending


def _free(it: Sending) -> tuple[int, int]:
    return it.slots._free, it.slots._free_for_others


async def test_a_refused_code_returns_its_slot(tmp_path: Path) -> None:
    """Nothing is sent, and the codes before it go out."""
    async with sending(tmp_path, recipient_limit=RateLimit(2, 600)) as it:
        await it.caught_up()
        free = _free(it)
        for _ in range(2):
            await it.courier.accept(it.new())
        for _ in range(3):
            with pytest.raises(LimitExceeded):
                await it.courier.accept(it.new())
        await it.received(2)
        await it.quiet()
        assert it.provider.sent.empty()
        assert _free(it) == free


async def test_a_held_event_is_not_sent_until_it_is_released(tmp_path: Path) -> None:
    """Its slot is free again; codes are not affected."""
    async with sending(tmp_path, event_limit=RateLimit(1, 3600)) as it:
        await it.caught_up()
        free = _free(it)
        sent, held = [await it.courier.accept(it.new("Welcome", Priority.EVENT)) for _ in range(2)]
        code = await it.courier.accept(it.new())
        assert {mail.id for mail in await it.received(2)} == {sent.id, code.id}
        await it.quiet()
        assert _free(it) == free
        assert not it.courier._admission.has_backlog
        assert (await it.record(held.id)).state is State.HELD
        await it.outbox.release("flood", now=it.clock.now())
        it.courier._wake_at(it.clock.now())
        assert (await it.received(1))[0].id == held.id


async def test_a_delayed_message_is_sent_when_it_is_due(tmp_path: Path) -> None:
    """Not a second earlier, and without keeping new messages from being sent from memory."""
    async with sending(tmp_path) as it:
        await it.caught_up()
        delayed = it.new("Welcome", Priority.EVENT, lifetime=86400)
        await it.courier.accept(delayed, due_at=it.clock.now() + 3600)
        assert not it.courier._admission.has_backlog
        assert (await it.record(delayed.id)).state is State.QUEUED
        await it.clock.advance(3599)
        await it.quiet()
        assert it.provider.sent.empty()
        await it.clock.advance(1)
        assert (await it.received(1))[0].id == delayed.id
