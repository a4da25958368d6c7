"""Logto's connector notices no reload, and of a killed process only the calls that were in flight.

`make chaos` is the long run of the same, with more users and more often.
"""

import secrets

import pytest

from tests.e2e import front, node
from tests.e2e.harness import unless
from tests.e2e.reloads import CALLS_BETWEEN, DIRECT, Action, Verdict, run

USERS = 6
"""About 30 calls/s; several are in flight at each reload, and each user's connection is idle at some."""
TIMES = 2
"""So that a process that was started by a reload is reloaded, too."""

pytestmark = unless(node.missing())
direct_and_proxied = pytest.mark.parametrize(
    ("proxy", "times"),
    [(DIRECT, TIMES), *(pytest.param(name, 1, marks=unless(front.missing(name))) for name in front.PROXIES)],
)


async def measure(
    capsys: pytest.CaptureFixture[str], action: Action, times: int, proxy: str = DIRECT, provider_seconds: float = 0.0
) -> Verdict:
    """Run it with a new seed and print what became of the calls."""
    seed = secrets.randbelow(1_000_000)
    verdict = await run(action, times, seed=seed, proxy=proxy, users=USERS, provider_seconds=provider_seconds)
    with capsys.disabled():
        where = f"{proxy or 'direct'}, {provider_seconds} s a mail, {seed=}"
        print(f"\n{action}, {times} times, {where}: {verdict}")  # noqa: T201 - a figure to look at
    return verdict


@direct_and_proxied
async def test_no_call_fails_at_a_reload_and_no_code_is_sent_twice(
    proxy: str, times: int, capsys: pytest.CaptureFixture[str]
) -> None:
    verdict = await measure(capsys, "reload", times, proxy)
    assert (verdict.calls.failed, verdict.lost, verdict.repeated) == ([], (), ())
    assert verdict.calls.calls > times * CALLS_BETWEEN


async def test_no_call_fails_at_a_reload_while_the_provider_is_slow(capsys: pytest.CaptureFixture[str]) -> None:
    """The old process goes on sending what it has accepted."""
    verdict = await measure(capsys, "reload", 1, provider_seconds=0.9)
    assert (verdict.calls.failed, verdict.lost, verdict.repeated) == ([], (), ())


@direct_and_proxied
async def test_a_killed_process_is_replaced_while_callers_wait(
    proxy: str, times: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only calls in flight break, because the parent holds the socket. Behind a proxy none of them leaks."""
    verdict = await measure(capsys, "kill", times, proxy)
    assert verdict.lost == ()
    assert len(verdict.calls.failed) <= times * USERS
    assert "ECONNREFUSED" not in {answer.dropped for answer in verdict.calls.failed}
    assert not (proxy and verdict.calls.leaks)
