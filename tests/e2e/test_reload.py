"""Logto's connector notices no reload, and of a killed process only the calls that were in flight.

`make chaos` is the long run of the same, with more users and more often.
"""

import secrets
from collections.abc import Sequence

import pytest

from tests.e2e import front, node
from tests.e2e.harness import unless
from tests.e2e.reloads import CALLS_BETWEEN, DIRECT, Action, Verdict, run

USERS = 6
"""About 30 calls/s; several are in flight at each reload, and each user's connection is idle at some."""
ONCE: Sequence[Action] = ("reload", "kill")
TWICE: Sequence[Action] = ("reload", "reload", "kill", "kill")
"""So that a process that was started by a reload is reloaded, too."""

pytestmark = [pytest.mark.alone, unless(node.missing())]


async def measure(
    capsys: pytest.CaptureFixture[str], actions: Sequence[Action], proxy: str = DIRECT, provider_seconds: float = 0.0
) -> Verdict:
    """Run it with a new seed and print what became of the calls."""
    seed = secrets.randbelow(1_000_000)
    verdict = await run(actions, seed=seed, proxy=proxy, users=USERS, provider_seconds=provider_seconds)
    with capsys.disabled():
        where = f"{proxy or 'direct'}, {provider_seconds} s a mail, {seed=}"
        print(f"\n{', '.join(actions)}, {where}: {verdict}")  # noqa: T201 - a figure to look at
    return verdict


@pytest.mark.parametrize(
    ("proxy", "actions"),
    [(DIRECT, TWICE), *(pytest.param(name, ONCE, marks=unless(front.missing(name))) for name in front.PROXIES)],
)
async def test_no_call_fails_at_a_reload_and_a_killed_process_is_replaced_while_callers_wait(
    proxy: str, actions: Sequence[Action], capsys: pytest.CaptureFixture[str]
) -> None:
    """Reloads send no code twice. Kills break only calls in flight, because the parent holds the socket.

    Behind a proxy none of those leaks.
    """
    verdict = await measure(capsys, actions, proxy)
    assert (verdict.failed_before_kill, verdict.repeated_before_kill, verdict.lost) == ((), (), ())
    assert verdict.calls.calls > len(actions) // 2 * CALLS_BETWEEN
    assert len(verdict.calls.failed) <= actions.count("kill") * USERS
    assert "ECONNREFUSED" not in {answer.dropped for answer in verdict.calls.failed}
    assert not (proxy and verdict.calls.leaks)


async def test_no_call_fails_at_a_reload_while_the_provider_is_slow(capsys: pytest.CaptureFixture[str]) -> None:
    """The old process goes on sending what it has accepted."""
    verdict = await measure(capsys, ("reload",), provider_seconds=0.9)
    assert (verdict.calls.failed, verdict.lost, verdict.repeated) == ([], (), ())
