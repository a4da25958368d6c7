"""Connections between mails: used again, asked whether they live, closed when they are old."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from mailroom.errors import Unavailable
from mailroom.providers.smtp import Settings, Smtp, connect
from tests.clock import FakeClock
from tests.mails import email
from tests.providers.contract import surroundings
from tests.smtp_server import HANG, Server, smtp_server


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with smtp_server() as server:
        yield server


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def open_provider(server: Server, clock: FakeClock) -> AsyncIterator[Callable[..., Smtp]]:
    opened: list[Smtp] = []
    around = surroundings(clock=clock)

    def open_one(**changes: Any) -> Smtp:
        provider = connect(Settings(host=server.host, port=server.port, tls="none", **changes), around)
        opened.append(provider)
        return provider

    yield open_one
    for provider in opened:
        await provider.aclose()


async def send_at_once(provider: Smtp, number: int) -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(number):
            group.create_task(provider.send(email()))


async def test_a_connection_idle_for_too_long_is_closed_and_not_used(
    server: Server, clock: FakeClock, open_provider: Callable[..., Smtp]
) -> None:
    provider = open_provider(idle_seconds=60)
    await provider.send(email())
    await clock.advance(59)
    await provider.send(email())
    assert server.connections == 1
    await clock.advance(61)
    await provider.send(email())
    assert server.connections == 2
    assert server.commands["QUIT"] == 1


async def test_the_connection_used_last_goes_first_so_that_the_others_can_grow_old(
    server: Server, clock: FakeClock, open_provider: Callable[..., Smtp]
) -> None:
    provider = open_provider(idle_seconds=60, concurrency=3)
    await send_at_once(provider, 3)
    assert server.connections == 3
    for _ in range(10):
        await clock.advance(7)
        await provider.send(email())
    assert server.connections == 3
    assert len({mail.peer for mail in server.mails[3:]}) == 1
    assert server.commands["QUIT"] == 2


async def test_a_connection_idle_for_a_while_is_asked_whether_it_lives(
    server: Server, clock: FakeClock, open_provider: Callable[..., Smtp]
) -> None:
    provider = open_provider()
    await provider.send(email())
    await clock.advance(9)
    await provider.send(email())
    assert server.commands["NOOP"] == 0
    await clock.advance(11)
    await provider.send(email())
    assert (server.commands["NOOP"], server.connections) == (1, 1)


async def test_a_connection_that_a_firewall_forgot_costs_five_seconds_and_no_mail(
    server: Server, clock: FakeClock, open_provider: Callable[..., Smtp], pass_time: Callable[[float], None]
) -> None:
    provider = open_provider()
    await provider.send(email())
    await clock.advance(11)
    asked = server.fault("NOOP", HANG)
    sending = asyncio.create_task(provider.send(email()))
    await asked.wait()
    pass_time(5)
    await sending
    assert (len(server.mails), server.connections) == (2, 2)


async def test_a_connection_is_closed_after_so_many_mails(server: Server, open_provider: Callable[..., Smtp]) -> None:
    provider = open_provider(mails_per_connection=2)
    for _ in range(5):
        await provider.send(email())
    assert (server.connections, server.commands["QUIT"]) == (3, 2)


async def test_a_restart_of_the_server_is_no_failure(server: Server, open_provider: Callable[..., Smtp]) -> None:
    provider = open_provider(concurrency=4)
    await send_at_once(provider, 4)
    server.drop()
    await send_at_once(provider, 4)
    assert len(server.mails) == 8


async def test_waiting_for_a_connection_counts_as_time(
    server: Server, open_provider: Callable[..., Smtp], pass_time: Callable[[float], None]
) -> None:
    """`timeout` bounds the whole, so that the courier can plan with it."""
    provider = open_provider(concurrency=1)
    waiting = server.fault("CONTENT", HANG)
    first = asyncio.create_task(provider.send(email()))
    await waiting.wait()
    second = asyncio.create_task(provider.send(email()))
    await asyncio.sleep(0)
    pass_time(30)
    with pytest.raises(Unavailable):
        await second
    await asyncio.gather(first, return_exceptions=True)
    assert server.connections == 1


async def test_a_connection_that_is_being_opened_while_everything_closes_is_not_left_behind(
    server: Server, open_provider: Callable[..., Smtp]
) -> None:
    provider = open_provider()
    sending = asyncio.create_task(provider.send(email()))
    await server.connected(1)
    await provider.aclose()
    with pytest.raises(Unavailable):
        await sending
    await server.left_alone()
    assert server.mails == []


async def test_idle_connections_are_closed_though_no_mail_comes(
    server: Server, clock: FakeClock, open_provider: Callable[..., Smtp]
) -> None:
    provider = open_provider(idle_seconds=60, concurrency=3)
    await send_at_once(provider, 3)
    await clock.until_asleep()
    await clock.advance(59)
    assert len(server.live) == 3
    await clock.advance(1)
    await server.left_alone()
    assert server.commands["QUIT"] == 3
    assert clock.sleeping == 0
    await provider.send(email())
    await clock.until_asleep()
    await provider.aclose()
    assert clock.sleeping == 0, "the timer ends with the provider"
