"""Several processes share a PostgreSQL, and what is acknowledged is sent whatever fails; and the judge can say no."""

import os
import secrets
from pathlib import Path

import pytest

from mailroom.message import Attempt, Outcome
from tests.e2e.cluster import Fault, judge, run
from tests.e2e.test_fleet import attempt, record
from tests.outbox.postgres.conftest import new_url
from tests.postgres_server import PostgresServer

pytestmark = pytest.mark.alone

SECONDS = 25.0


async def test_faults_of_workers_and_of_the_database_lose_nothing(tmp_path: Path, postgres: PostgresServer) -> None:
    """The short run; `make cluster` is the long one. `CLUSTER_SEED` plays the same faults again."""
    new_url(postgres)
    seed = int(os.environ.get("CLUSTER_SEED") or secrets.randbelow(1_000_000))

    verdict = await run(tmp_path, postgres, seconds=SECONDS, seed=seed)

    assert not verdict.violations, f"CLUSTER_SEED={seed}: {verdict}"
    assert verdict.acknowledged > 0
    assert {kind.partition(" ")[0] for kind in verdict.faults} == {"killed", "stopped", "cut", "database"}


CUT_OFF = Attempt("main", 100.0)
"""Its outcome was not recorded."""
WHO = "ada@example.com"
KILL = Fault("killed", 100.2, 100.2)
TWICE, UNEXPLAINED = "arrived more often than attempts allow", "without a recorded outcome, and without a fault"


@pytest.mark.parametrize(
    ("attempts", "moments", "faults", "violations"),
    [
        ([attempt("main", 100)], [100.5], [], set()),
        ([CUT_OFF, attempt("main", 107)], [100.5, 107.5], [KILL], set()),
        ([CUT_OFF, attempt("main", 107)], [107.5], [KILL], set()),
        ([attempt("main", 100)], [], [KILL], {"lost"}),
        ([attempt("main", 100), attempt("main", 107)], [100.5, 107.5], [KILL], {TWICE}),
        ([CUT_OFF, attempt("main", 107)], [100.5, 107.5, 108.0], [KILL], {TWICE}),
        ([CUT_OFF, attempt("main", 107)], [100.5, 107.5], [Fault("killed", 110.0, 110.0)], {UNEXPLAINED}),
        ([attempt("main", 107, Outcome.UNCERTAIN)], [107.5], [KILL], {UNEXPLAINED}),
        ([attempt("main", 107)], [300.5], [KILL], {"stale"}),
    ],
)  # fmt: skip
def test_the_judge_of_the_cluster(
    attempts: list[Attempt], moments: list[float], faults: list[Fault], violations: set[str]
) -> None:
    """It finds each violation, and none where there is none."""
    verdict = judge({WHO: 100.1}, {WHO: moments}, [record("a", *attempts, recipient=WHO)], faults)
    assert verdict.violations.keys() == violations
