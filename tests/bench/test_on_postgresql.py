"""Row j of the bench with tiny numbers: its programs run, and its databases are what its figures say."""

import pytest

from bench import accepting
from bench.on_postgresql import growth, job_queues, whole_way
from bench.on_postgresql.measured_database import commit_milliseconds, create_database, postgresql, work_off
from bench.processes import SECRET_KEY
from mailroom.clock import SystemClock
from mailroom.message import State
from mailroom.outbox.postgres.postgres_engine import PostgresOutbox


def test_accepting_is_compared_with_an_endpoint_that_stores_and_one_that_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(whole_way, "_REQUESTS", "200")
    monkeypatch.setattr(accepting, "_REQUESTS", "200")
    figures = whole_way.measure_accepting(1)
    assert [figure.at_least for figure in figures] == [0.85, None, None, None, None]
    assert all(figure.ours > 0 and figure.theirs for figure in figures)


def test_job_queues_work_off_what_was_stored() -> None:
    """A worker that does less raises."""
    better, *others = job_queues.measure(1, jobs=200, slow_jobs=20)
    assert len(others) == 3
    assert better.at_least == 1.5
    assert better.theirs == max(other.theirs or 0 for other in others[:2])
    assert all(other.ours == better.ours > 0 for other in others)


async def test_a_history_is_filled_with_messages_like_a_real_one() -> None:
    with postgresql() as server:
        url = create_database(server, "filled")
        work_off("mailroom", url, 64)
        growth.fill(server, "filled", 1000)
        outbox = await PostgresOutbox.open(url, secret_keys=[SECRET_KEY], clock=SystemClock())
        records = await outbox.find(limit=2000)
        await outbox.close()
    assert len(records) == 1064
    assert {record.state for record in records} == {State.SENT}
    assert len({len(record.id) for record in records}) == 1
    ids = [record.id for record in sorted(records, key=lambda one: (one.created_at, one.id))]
    assert ids[:1000] == sorted(ids[:1000])
    assert 29 * 86400 < records[0].created_at - records[-1].created_at < 31 * 86400


def test_slow_commits_take_a_millisecond_more() -> None:
    """At least: the server sleeps, with nobody beside."""
    with postgresql(whole_way._SLOW_COMMITS) as server:
        assert commit_milliseconds(server) > 1
