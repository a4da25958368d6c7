"""Logto's own connector notices no reload, and only what was in flight when the process that serves is killed."""

import secrets

import pytest

from tests.e2e.harness import unless
from tests.e2e.node import missing
from tests.e2e.reloads import USERS, run

TIMES = 5

pytestmark = unless(missing())


@pytest.mark.parametrize(("times", "provider_seconds"), [(TIMES, 0.0), (1, 0.9)])
async def test_no_call_fails_at_a_reload_and_no_code_is_sent_twice(
    times: int, provider_seconds: float, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor does a slow provider lengthen it. `make chaos` is the long run."""
    seed = secrets.randbelow(1_000_000)
    tally = await run("reload", times, seed=seed, provider_seconds=provider_seconds)
    with capsys.disabled():
        print(f"\n{times} reloads, {provider_seconds} s a mail: {tally}")  # noqa: T201 - a figure to look at
    assert (tally.failed, tally.lost, tally.repeated) == ([], [], []), f"{seed=}"
    assert tally.calls > times * USERS


async def test_a_process_that_is_killed_is_replaced_while_callers_wait(capsys: pytest.CaptureFixture[str]) -> None:
    """Calls that were in flight break, and nothing else: the socket is its parent's."""
    seed = secrets.randbelow(1_000_000)
    tally = await run("kill", TIMES, seed=seed)
    with capsys.disabled():
        print(f"\n{TIMES} kills of the process that serves: {tally}")  # noqa: T201 - likewise
    assert tally.lost == [], f"{seed=}"
    assert len(tally.failed) <= TIMES * USERS, f"{seed=}"
    assert "ECONNREFUSED" not in {answer.dropped for answer in tally.failed}, f"{seed=}"
