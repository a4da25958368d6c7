"""Which codes replace which, and that an older one never arrives second."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from mailroom.courier.supersede import Replacements, supersede_key
from mailroom.errors import LimitExceeded, Rejected, Unavailable
from mailroom.message import Message, Priority, State
from mailroom.outbox.limits import RateLimit
from tests.courier.parts import message
from tests.courier.test_courier import Sending, sending

IP = "203.0.113.9"


def code(it: Sending | None = None, **changes: Any) -> Message:
    """Return a code that was asked for from one address."""
    return replace(message(now=it.clock.now() if it else 0.0), **{"ip": IP, **changes})


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({}, True),
        ({"recipient": "Ada@Example.com"}, True),
        ({"recipient": "bob@example.com"}, False),
        ({"template": "Register"}, False),
        ({"ip": "203.0.113.10"}, False),
        ({"payload": {"code": "271828", "application": {"id": "app2"}}}, False),
        ({"payload": {"code": "271828", "application": {"id": "app1"}}}, True),
    ],
)
def test_codes_replace_each_other_that_belong_to_one_sign_in(changes: dict[str, Any], same: bool) -> None:  # noqa: FBT001 - a parameter of the test
    one = code(payload={"code": "314159", "application": {"id": "app1"}})
    other = replace(code(payload={"code": "271828", "application": {"id": "app1"}}), **changes)
    assert (supersede_key(one) == supersede_key(other)) is same


def test_without_an_ip_the_user_tells_sessions_apart() -> None:
    """Without either nobody can know whether two codes belong together."""
    ada, bob, nobody = (
        code(ip=None, payload={"code": "1", "user": user}) for user in ({"id": "ada"}, {"id": "bob"}, "not an object")
    )
    assert supersede_key(ada) not in (None, supersede_key(bob))
    assert supersede_key(nobody) is None


def test_other_mail_replaces_nothing() -> None:
    assert supersede_key(replace(message("Welcome", Priority.EVENT), ip=IP)) is None


def test_a_newer_message_replaces_those_in_memory() -> None:
    """Until they are gone."""
    replacements = Replacements()
    for id_ in ("1", "2"):
        replacements.replace(b"key", id_)
        replacements.add(b"key", id_)
    replacements.replace(b"other", "3")
    assert [replacements.is_replaced(id_) for id_ in ("1", "2", "3")] == [True, False, False]
    for id_ in ("1", "2"):
        replacements.remove(id_)
    assert not replacements.is_replaced("1")
    assert not replacements._ids


async def test_after_a_pause_of_the_provider_only_the_newest_code_is_sent(tmp_path: Path) -> None:
    """A user clicked three times meanwhile."""
    async with sending(tmp_path, *[Unavailable("451 busy")] * 3) as it:
        await it.caught_up()
        clicks = []
        for _ in range(3):
            clicks.append(await it.courier.accept(code(it)))
            await it.received(1)
            await it.quiet()
        await it.clock.advance(1.1)
        assert (await it.received(1))[0].id == clicks[2].id
        await it.quiet()
        await it.clock.advance(60)
        assert [(await it.record(one.id)).state for one in clicks] == [State.SUPERSEDED, State.SUPERSEDED, State.SENT]
        assert it.provider.sent.empty()


async def test_a_code_in_memory_lets_the_newer_one_go_first(tmp_path: Path) -> None:
    """Both wait for the only permit; the older one is not sent at all."""
    async with sending(tmp_path, concurrency=1) as it:
        await it.caught_up()
        it.provider.answering.clear()
        await it.courier.accept(it.new())
        older, newer = await it.courier.accept(code(it)), await it.courier.accept(code(it))
        assert (await it.record(older.id)).state is State.SENDING
        it.provider.answering.set()
        assert (await it.received(2))[1].id == newer.id
        await it.quiet()
        assert (await it.record(older.id)).state is State.SUPERSEDED
        assert it.provider.sent.empty()


async def test_the_older_code_is_sent_when_the_newer_one_fails(tmp_path: Path) -> None:
    """Better an old code than none."""
    async with sending(tmp_path, Unavailable("451 busy"), Rejected("550 5.1.1 no such user")) as it:
        await it.caught_up()
        older = await it.courier.accept(code(it))
        await it.received(1)
        await it.quiet()
        newer = await it.courier.accept(code(it))
        await it.received(1)
        await it.quiet()
        assert (await it.record(newer.id)).state is State.FAILED
        await it.clock.advance(1.1)
        assert (await it.received(1))[0].id == older.id


async def test_no_attempt_on_an_older_code_starts_after_the_newer_one_was_sent(tmp_path: Path) -> None:
    """The older one is on the wire meanwhile; when that fails, it is not tried again."""
    async with sending(tmp_path, Unavailable("451 busy")) as it:
        await it.caught_up()
        it.provider.answering.clear()
        older = await it.courier.accept(code(it))
        await it.received(1)
        script, it.provider.script = it.provider.script, []
        newer = asyncio.create_task(it.courier.accept(code(it)))
        await it.received(1)
        it.provider.script = script
        it.provider.answering.set()
        await newer
        await it.quiet()
        assert (await it.record(older.id)).state is State.SUPERSEDED
        await it.clock.advance(60)
        assert it.provider.sent.empty()


async def test_supersession_can_be_switched_off(tmp_path: Path) -> None:
    """`supersede = false`: sessions are not told apart on the wire."""
    async with sending(tmp_path, Unavailable("451 busy"), supersedes=False) as it:
        await it.caught_up()
        codes = [await it.courier.accept(code(it)) for _ in range(2)]
        await it.received(2)
        await it.quiet()
        await it.clock.advance(1.1)
        await it.received(1)
        await it.quiet()
        assert [(await it.record(one.id)).state for one in codes] == [State.SENT, State.SENT]


async def test_of_two_codes_asked_for_at_the_same_moment_the_newer_one_goes_first(tmp_path: Path) -> None:
    """A double click: the older one is not in memory yet when the newer one comes."""
    async with sending(tmp_path, concurrency=1) as it:
        await it.caught_up()
        it.provider.answering.clear()
        await it.courier.accept(it.new())
        older, newer = await asyncio.gather(*[it.courier.accept(code(it)) for _ in range(2)])
        it.provider.answering.set()
        assert (await it.received(2))[1].id == newer.id
        await it.quiet()
        assert (await it.record(older.id)).state is State.SUPERSEDED
        assert it.provider.sent.empty()


async def test_a_code_that_was_refused_replaces_none(tmp_path: Path) -> None:
    """Its recipient's limit is reached; the code before it keeps its place."""
    async with sending(tmp_path, concurrency=1, recipient_limit=RateLimit(1, 600.0)) as it:
        await it.caught_up()
        it.provider.answering.clear()
        await it.courier.accept(it.new(recipient="first@example.com"))
        kept = await it.courier.accept(code(it))
        await it.courier.accept(it.new(recipient="last@example.com"))
        with pytest.raises(LimitExceeded):
            await it.courier.accept(code(it))
        it.provider.answering.set()
        assert (await it.received(2))[1].id == kept.id
