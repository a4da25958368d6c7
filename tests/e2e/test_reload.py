"""Logto's own connector notices no reload, and only what was in flight when the process that serves is killed."""

import secrets

import pytest

from tests.e2e import front, node
from tests.e2e.harness import unless
from tests.e2e.reloads import DIRECT, USERS, run

TIMES = 5

pytestmark = unless(node.missing())
each_way = pytest.mark.parametrize(
    "proxy", [DIRECT, *(pytest.param(name, marks=unless(front.missing(name))) for name in front.PROXIES)]
)


@each_way
async def test_no_call_fails_at_a_reload_and_no_code_is_sent_twice(
    proxy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """`make chaos` is the long run."""
    seed = secrets.randbelow(1_000_000)
    verdict = await run("reload", TIMES, seed=seed, proxy=proxy)
    with capsys.disabled():
        print(f"\n{TIMES} reloads, {proxy or 'direct'}: {verdict}")  # noqa: T201 - a figure to look at
    assert (verdict.calls.failed, verdict.lost, verdict.repeated) == ([], (), ()), f"{seed=}"
    assert verdict.calls.calls > TIMES * USERS


async def test_nor_does_a_slow_provider_lengthen_it(capsys: pytest.CaptureFixture[str]) -> None:
    """The old process goes on sending what it has."""
    seed = secrets.randbelow(1_000_000)
    verdict = await run("reload", 1, seed=seed, provider_seconds=0.9)
    with capsys.disabled():
        print(f"\n1 reload, 0.9 s a mail: {verdict}")  # noqa: T201 - likewise
    assert (verdict.calls.failed, verdict.lost, verdict.repeated) == ([], (), ()), f"{seed=}"


@each_way
async def test_a_process_that_is_killed_is_replaced_while_callers_wait(
    proxy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Calls that were in flight break, and nothing else: the socket is its parent's. Behind a proxy none leaks."""
    seed = secrets.randbelow(1_000_000)
    times = 2 if proxy else TIMES
    verdict = await run("kill", times, seed=seed, proxy=proxy)
    with capsys.disabled():
        print(f"\n{times} kills, {proxy or 'direct'}: {verdict}")  # noqa: T201 - likewise
    assert verdict.lost == (), f"{seed=}"
    assert len(verdict.calls.failed) <= times * USERS, f"{seed=}"
    assert "ECONNREFUSED" not in {answer.dropped for answer in verdict.calls.failed}, f"{seed=}"
    assert not (proxy and verdict.calls.leaks), f"{seed=}"
