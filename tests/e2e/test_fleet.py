"""Codes are handed over in time while one provider works, whatever the others do; and the judge can say no."""

import os
import secrets
from pathlib import Path

import pytest

from mailroom.message import Attempt, Outcome, Priority, State
from mailroom.outbox import Record
from tests.e2e.fleet import run
from tests.e2e.fleet_judge import Arrival, judge

pytestmark = pytest.mark.alone

SECONDS = 15


async def test_faulty_providers_lose_no_code_while_one_works(tmp_path: Path) -> None:
    """The short run; `make fleet` is the long one. `FLEET_SEED` plays the same script again."""
    seed = int(os.environ.get("FLEET_SEED") or secrets.randbelow(1_000_000))

    verdict = await run(tmp_path, seconds=SECONDS, seed=seed)

    assert not verdict.faults, f"FLEET_SEED={seed}: {verdict}\n{(tmp_path / 'server.log').read_text()[-10_000:]}"
    assert verdict.accepted > 0
    assert verdict.failed_over > 0


def attempt(provider: str, at: float, outcome: Outcome = Outcome.ACCEPTED, *, seconds: float = 1.0) -> Attempt:
    """Return an attempt that began then."""
    return Attempt(provider, at, seconds, outcome)


def record(id_: str, *attempts: Attempt, state: State = State.SENT, recipient: str = "ada@example.com") -> Record:
    """Return what is recorded of a code that was accepted at 100 and expires at 190."""
    ended = attempts[-1].started_at + (attempts[-1].duration_seconds or 0) if attempts else 190.0
    return Record(
        id=id_,
        state=state,
        template="SignIn",
        priority=Priority.CODE,
        recipient=recipient,
        created_at=100.0,
        expires_at=190.0,
        settled_at=ended,
        due_at=None,
        attempts=attempts,
        reason="",
        provider_message_id="",
        languages=(),
        payload={},
    )


SENT = record("a", attempt("good", 100))
UNCERTAIN = record("a", attempt("one", 100, Outcome.UNCERTAIN), attempt("good", 115))
REFUSED = record("a", attempt("one", 100, Outcome.UNAVAILABLE), attempt("good", 115))
LATE = record("a", attempt("good", 189.5))
EXPIRED = record("a", state=State.EXPIRED)
NOT_RECORDED, TWICE = "arrived without an attempt", "sent twice without an uncertain attempt"
FIRST = Arrival("one", "a", 100.5)
SECOND = Arrival("good", "a", 115.5)


@pytest.mark.parametrize(
    ("records", "arrivals", "faults"),
    [
        ([SENT], [Arrival("good", "a", 100.5)], set()),
        ([UNCERTAIN], [FIRST, SECOND], set()),
        ([REFUSED], [SECOND], set()),
        ([], [], {"lost"}),
        ([EXPIRED], [], {"lost", "expired"}),
        ([LATE], [Arrival("good", "a", 190.0)], {"sent too late"}),
        ([SENT], [], {"sent, and never arrived"}),
        ([REFUSED], [FIRST, SECOND], {TWICE}),
        ([UNCERTAIN], [FIRST, SECOND, Arrival("two", "a", 100.5)], {NOT_RECORDED, TWICE}),
        ([SENT], [Arrival("good", "a", 110)], {NOT_RECORDED}),
        ([SENT], [Arrival("good", "a", 100.5), Arrival("good", "b", 100.5)], {NOT_RECORDED}),
    ],
)  # fmt: skip
def test_the_judge(records: list[Record], arrivals: list[Arrival], faults: set[str]) -> None:
    """It finds each fault, and none where there is none."""
    assert judge(["a"], records, arrivals).faults.keys() == faults


def test_the_judge_of_superseded_codes() -> None:
    """No attempt on the older one begins after the newer one's acceptance was recorded; one under way may end."""
    newer = record("b", attempt("good", 110))  # recorded at 111
    before = record("a", attempt("one", 110.9, Outcome.UNAVAILABLE), state=State.SUPERSEDED)
    after = record("a", attempt("one", 111.1, Outcome.UNAVAILABLE), state=State.SUPERSEDED)
    of_another = record("a", attempt("good", 111.1), recipient="eve@example.com")
    arrivals = [Arrival("good", "b", 110.5)]

    assert not judge(["a", "b"], [newer, before], arrivals).faults
    assert judge(["a", "b"], [newer, after], arrivals).faults == {"sent after its successor": ("a",)}
    assert not judge(["a", "b"], [newer, of_another], [*arrivals, Arrival("good", "a", 111.5)]).faults


def test_what_the_judge_counts() -> None:
    """Duplicates, failovers, mails that a server threw away, and seconds from acceptance to hand-over."""
    verdict = judge(["a"], [UNCERTAIN], [Arrival("one", "a", 100.5, is_dropped=True), SECOND], rate=200)
    assert (verdict.duplicates, verdict.failed_over, verdict.dropped, verdict.seconds) == (1, 1, 1, (16.0,))
    assert verdict.outcomes == {"uncertain": 1, "accepted": 1}
    assert (verdict.percentile(50), verdict.percentile(99)) == (16.0, 16.0)
    assert "1 codes, 200/s" in str(verdict)
