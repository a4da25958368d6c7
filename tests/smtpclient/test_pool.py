"""Connections between mails: reused, checked by NOOP, closed when they are old."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from mailroom.smtpclient import Pool, SmtpError, TimedOut, TimeLimits
from tests.clock import FakeClock, settle
from tests.smtp_server import HANG, Server, smtp_server
from tests.smtpclient.pools import mail, pool_of


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with smtp_server() as server:
        yield server


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def open_pool(server: Server, clock: FakeClock) -> AsyncIterator[Callable[..., Awaitable[Pool]]]:
    async with contextlib.AsyncExitStack() as opened:

        async def open_one(**options: Any) -> Pool:
            options = {"monotonic": clock.monotonic, "sleep": clock.sleep, "limits": TimeLimits(30), **options}
            return await opened.enter_async_context(pool_of(server, **options))

        yield open_one


async def send_at_once(pool: Pool, number: int) -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(number):
            group.create_task(pool.send(mail()))


async def test_a_connection_idle_for_too_long_is_closed_and_not_used(
    server: Server, clock: FakeClock, open_pool: Callable[..., Awaitable[Pool]]
) -> None:
    pool = await open_pool(idle_seconds=60)
    await pool.send(mail())
    await clock.advance(59)
    await pool.send(mail())
    assert server.connections == 1
    await clock.advance(61)
    await pool.send(mail())
    assert server.connections == 2
    assert server.commands["QUIT"] == 1


async def test_the_connection_used_last_is_used_first(
    server: Server, clock: FakeClock, open_pool: Callable[..., Awaitable[Pool]]
) -> None:
    pool = await open_pool(idle_seconds=60, size=3)
    await send_at_once(pool, 3)
    assert server.connections == 3
    for _ in range(10):
        await clock.advance(7)
        await pool.send(mail())
    assert server.connections == 3
    assert len({mail.peer for mail in server.mails[3:]}) == 1
    assert server.commands["QUIT"] == 2


async def test_a_connection_idle_for_a_while_is_checked_by_noop(
    server: Server, clock: FakeClock, open_pool: Callable[..., Awaitable[Pool]]
) -> None:
    pool = await open_pool()
    await pool.send(mail())
    await clock.advance(9)
    await pool.send(mail())
    assert server.commands["NOOP"] == 0
    await clock.advance(11)
    await pool.send(mail())
    assert (server.commands["NOOP"], server.connections) == (1, 1)


async def test_a_connection_that_a_firewall_dropped_is_replaced_after_two_seconds(
    server: Server, clock: FakeClock, open_pool: Callable[..., Awaitable[Pool]], pass_time: Callable[[float], None]
) -> None:
    pool = await open_pool()
    await pool.send(mail())
    await clock.advance(11)
    asked = server.fault("NOOP", HANG)
    sending = asyncio.create_task(pool.send(mail()))
    await asked.wait()
    pass_time(2)
    await sending
    assert (len(server.mails), server.connections) == (2, 2)


async def test_a_connection_is_closed_after_so_many_mails(
    server: Server, open_pool: Callable[..., Awaitable[Pool]]
) -> None:
    pool = await open_pool(mails_per_session=2)
    for _ in range(5):
        await pool.send(mail())
    assert (server.connections, server.commands["QUIT"]) == (3, 2)


async def test_connections_are_replaced_after_a_restart_of_the_server(
    server: Server, open_pool: Callable[..., Awaitable[Pool]]
) -> None:
    pool = await open_pool(size=4)
    await send_at_once(pool, 4)
    server.drop()
    await send_at_once(pool, 4)
    assert len(server.mails) == 8


async def test_the_time_limit_includes_the_wait_for_a_connection(
    server: Server, open_pool: Callable[..., Awaitable[Pool]], pass_time: Callable[[float], None]
) -> None:
    """`timeout` bounds the whole, so that callers can plan with it."""
    pool = await open_pool(size=1)
    waiting = server.fault("CONTENT", HANG)
    first = asyncio.create_task(pool.send(mail()))
    await waiting.wait()
    second = asyncio.create_task(pool.send(mail()))
    await asyncio.sleep(0)
    pass_time(30)
    with pytest.raises(TimedOut) as caught:
        await second
    assert not caught.value.handed_over
    await asyncio.gather(first, return_exceptions=True)
    assert server.connections == 1


@pytest.mark.parametrize(
    ("at", "step"),
    [("GREETING", "greeting"), ("EHLO", "login"), ("MAIL", "envelope"), ("RCPT", "envelope"), ("CONTENT", "content")],
)
async def test_each_step_has_a_time_limit(
    server: Server, open_pool: Callable[..., Awaitable[Pool]], pass_time: Callable[[float], None], at: str, step: str
) -> None:
    """The limits are a mail's own; that of the content counts although it is longer than the whole."""
    pool = await open_pool()
    waiting = server.fault(at, HANG)
    limits = {"greeting": 3, "login": 5, "envelope": 7, "content": 40}
    sending = asyncio.create_task(pool.send(mail(), TimeLimits(20, **limits)))
    await waiting.wait()
    pass_time(limits[step] - 1)
    await settle()
    assert not sending.done()
    pass_time(1)
    with pytest.raises(TimedOut) as caught:
        await sending
    assert (caught.value.step, caught.value.seconds) == (step, limits[step])
    assert caught.value.handed_over == (step == "content")


async def test_a_connection_opened_during_aclose_is_closed(
    server: Server, open_pool: Callable[..., Awaitable[Pool]]
) -> None:
    pool = await open_pool()
    sending = asyncio.create_task(pool.send(mail()))
    await server.connected(1)
    await pool.aclose()
    with pytest.raises(SmtpError):
        await sending
    await server.left_alone()
    assert server.mails == []


async def test_idle_connections_are_closed_without_another_mail(
    server: Server, clock: FakeClock, open_pool: Callable[..., Awaitable[Pool]]
) -> None:
    pool = await open_pool(idle_seconds=60, size=3)
    await send_at_once(pool, 3)
    await clock.until_asleep()
    await clock.advance(59)
    assert len(server.live) == 3
    await clock.advance(1)
    await server.left_alone()
    assert server.commands["QUIT"] == 3
    assert clock.sleeping == 0
    await pool.send(mail())
    await clock.until_asleep()
    await pool.aclose()
    assert clock.sleeping == 0, "the timer ends with the pool"
