"""Guessing the console's password is slow, and the right password is not delayed."""

import asyncio
from random import Random
from typing import Any
from urllib.parse import quote

import pytest
from starlette.requests import Request
from starlette.responses import Response
from structlog.testing import capture_logs

from handlers.console.console_session import Sessions, Throttled
from mailroom.errors import CannotKeep
from tests.clock import FakeClock, settle
from tests.handlers.parts import MemoryParts, settings

PASSWORD = "correct horse"
AT_ONCE = 600
"""Wrong passwords that one caller may try before any is refused without a look."""


class Browser:
    """Sends forms from an address, with its cookies."""

    def __init__(self, sessions: Sessions, address: str = "203.0.113.9", cookies: str = "") -> None:
        self._sessions = sessions
        self._address = address
        self.cookies = cookies

    def request(self, content: bytes = b"") -> Request:
        async def receive() -> dict[str, object]:
            return {"type": "http.request", "body": content}

        headers = [(b"cookie", self.cookies.encode())]
        scope = {"type": "http", "method": "POST", "scheme": "http", "headers": headers, "client": (self._address, 1)}
        return Request({**scope, "server": ("localhost", 80), "path": "/", "query_string": b""}, receive)

    async def types(self, password: str) -> bool:
        return await self._sessions.accepts(self.request(f"password={quote(password)}".encode()))

    async def signs_in(self) -> None:
        assert await self.types(PASSWORD)
        response = Response()
        self._sessions.begin(self.request(), response)
        self.cookies = "; ".join(value.partition(";")[0] for value in response.headers.getlist("set-cookie"))


def made(clock: FakeClock, parts: MemoryParts | None = None, **connector: Any) -> Sessions:
    """Return sessions for a console with a password."""
    chosen = settings(console={"password": PASSWORD}, connector={"authorization": "Bearer test-token", **connector})
    outbox = (parts or MemoryParts(clock)).outbox
    return Sessions(chosen, outbox=outbox, clock=clock, entropy=Random(1).randbytes)


async def wrongly(browser: Browser, times: int) -> list[asyncio.Task[bool]]:
    """Send this number of wrong passwords at once."""
    tasks = [asyncio.create_task(browser.types(f"wrong {number}")) for number in range(times)]
    await settle()
    return tasks


async def refused(browser: Browser, password: str = PASSWORD) -> float:
    """Return the seconds in the refusal of a password."""
    with pytest.raises(Throttled) as caught:
        await browser.types(password)
    return caught.value.seconds


async def test_the_right_password_is_accepted_at_once() -> None:
    assert await Browser(made(FakeClock())).types(PASSWORD)


@pytest.mark.parametrize(
    "content", [b"", b"password=", b"password=correct", b"a=1&a=1&a=1&a=1&a=1", b"\xff\xfe", b"x" * 2_000_000]
)
async def test_a_wrong_password_is_refused(content: bytes) -> None:
    clock = FakeClock()
    sessions = made(clock)
    guess = asyncio.create_task(sessions.accepts(Browser(sessions).request(content)))
    await clock.advance(1)
    assert not await guess


@pytest.mark.parametrize("addresses", [1, 100])
async def test_a_hundred_guessers_that_wait_for_responses_do_not_delay_the_right_password(addresses: int) -> None:
    """From one address, the operator's own, or from many; for ten minutes, after which they are at their slowest."""
    clock = FakeClock()
    sessions = made(clock)
    tried = 0

    async def guess(browser: Browser) -> None:
        nonlocal tried
        while not await browser.types(f"wrong {tried}"):
            tried += 1

    crowd = [Browser(sessions, f"198.51.100.{number % addresses}") for number in range(100)]
    guessing = [asyncio.create_task(guess(browser)) for browser in crowd]
    for _ in range(600):
        await clock.advance(1)
        assert await Browser(sessions, "198.51.100.0").types(PASSWORD)
        assert await Browser(sessions, "203.0.113.9").types(PASSWORD)
    assert tried < (600 * 5 if addresses == 1 else 600 * 10) + 100
    for task in guessing:
        task.cancel()


async def test_guesses_without_waiting_for_responses_are_not_compared_beyond_the_limit() -> None:
    """Only a browser that has signed in before gets in from the same address; from another address anyone does."""
    clock = FakeClock()
    sessions = made(clock)
    known = Browser(sessions)
    await known.signs_in()
    await wrongly(Browser(sessions), AT_ONCE)
    stranger = Browser(sessions)
    assert 0 < await refused(stranger) <= 0.2
    assert await known.types(PASSWORD)
    assert await Browser(sessions, "203.0.113.10").types(PASSWORD)
    await clock.advance(0.2)
    assert await stranger.types(PASSWORD), "five a second are looked at again"


async def test_a_browser_that_has_signed_in_before_guesses_no_faster() -> None:
    clock = FakeClock()
    sessions = made(clock)
    known = Browser(sessions)
    await known.signs_in()
    await wrongly(known, AT_ONCE)
    assert await refused(known)


@pytest.mark.parametrize("cookies", ["mailroom_browser=x", "mailroom_browser=ImEi.x", "mailroom_browser=ä"])
async def test_a_forged_cookie_is_not_a_known_browser(cookies: str) -> None:
    clock = FakeClock()
    sessions = made(clock)
    await wrongly(Browser(sessions), AT_ONCE)
    assert await refused(Browser(sessions, cookies=cookies))


async def test_all_callers_together_are_bounded_apart_from_those_without_a_failure() -> None:
    """Guessers at a thousand addresses: 1,200 at once, then ten a second."""
    clock = FakeClock()
    sessions = made(clock)
    crowd = [Browser(sessions, f"10.0.{number // 250}.{number % 250}") for number in range(1000)]
    for _ in range(3):
        await asyncio.gather(*(wrongly(browser, 1) for browser in crowd), return_exceptions=True)
    assert await refused(crowd[0])
    assert await Browser(sessions).types(PASSWORD)


async def test_addresses_of_one_ipv6_network_are_one_caller() -> None:
    clock = FakeClock()
    sessions = made(clock)
    await wrongly(Browser(sessions, "2001:db8::1"), AT_ONCE // 2)
    await wrongly(Browser(sessions, "2001:db8::2"), AT_ONCE // 2)
    assert await refused(Browser(sessions, "2001:db8::3"))
    assert await Browser(sessions, "2001:db8:0:1::3").types(PASSWORD)


async def test_behind_a_proxy_the_caller_is_the_forwarded_address() -> None:
    clock = FakeClock()
    sessions = made(clock, trusted_hops=1)

    def forwarded(address: str) -> Request:
        request = Browser(sessions).request(f"password={PASSWORD}".encode())
        request.scope["headers"].append((b"x-forwarded-for", f"spoofed, {address}".encode()))
        return request

    assert sessions.name_caller(forwarded("198.51.100.1")) == "198.51.100.1"
    assert sessions.name_caller(forwarded("2001:db8::1")) == "2001:db8::/64"
    assert sessions.name_caller(forwarded("\x1b[31m" * 1000)) == "unknown"


async def test_the_number_of_stored_callers_is_bounded() -> None:
    """And that of delayed responses: the rest is answered at once."""
    clock = FakeClock()
    sessions = made(clock)
    waiting = []
    for number in range(5000):
        address = f"10.{number // 65536}.{number // 256 % 256}.{number % 256}"
        waiting.append(asyncio.create_task(Browser(sessions, address).types("wrong")))
        if number % 10 == 0:
            await clock.advance(1)
    await settle()
    assert len(sessions._guesses._empty_at) == 4096
    assert clock.sleeping <= 256 + 1


async def test_failures_are_logged_by_caller_and_minute() -> None:
    clock = FakeClock()
    sessions = made(clock)
    with capture_logs() as logged:

        def lines() -> list[tuple[str, int]]:
            found = [(line["caller"], line["count"]) for line in logged if line["event"] == "console.login_failed"]
            logged.clear()
            return found

        await wrongly(Browser(sessions), 3)
        await wrongly(Browser(sessions, "203.0.113.10"), 1)
        assert lines() == [("203.0.113.9", 1), ("203.0.113.10", 1)]
        await clock.advance(60)
        assert lines() == [("203.0.113.9", 2)]
        await wrongly(Browser(sessions), 1)
        assert lines() == []
        await clock.advance(60)
        assert lines() == [("203.0.113.9", 1)]
        await clock.advance(60)
        assert lines() == []
        await wrongly(Browser(sessions), 1)
        assert lines() == [("203.0.113.9", 1)]


async def test_many_callers_have_a_hundred_log_lines_and_one_for_the_rest() -> None:
    clock = FakeClock()
    sessions = made(clock)
    with capture_logs() as logged:
        for number in range(150):
            await wrongly(Browser(sessions, f"198.51.100.{number}"), 1)
        assert len(logged) == 101
        await clock.advance(60)
        assert (logged[-1]["caller"], logged[-1]["count"]) == ("others", 49)


async def test_an_ended_session_stays_ended_after_a_restart() -> None:
    """Its end is in the outbox; another session of the same operator continues."""
    clock = FakeClock()
    parts = MemoryParts(clock)
    sessions = made(clock, parts)
    one, other = Browser(sessions), Browser(sessions)
    await one.signs_in()
    await other.signs_in()
    await sessions.end(one.request(), Response())
    for process in (sessions, made(clock, parts)):
        assert not await process.holds(one.request())
        assert await process.holds(other.request())


async def test_a_session_whose_end_cannot_be_stored_has_not_ended() -> None:
    clock = FakeClock()
    parts = MemoryParts(clock)
    sessions = made(clock, parts)
    browser = Browser(sessions)
    await browser.signs_in()
    parts.full = True
    response = Response()
    with pytest.raises(CannotKeep):
        await sessions.end(browser.request(), response)
    assert "set-cookie" not in response.headers
    assert await sessions.holds(browser.request())
