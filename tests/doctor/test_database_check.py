"""The examination of a real PostgreSQL."""

import asyncio
from collections.abc import Iterator

import pytest

from mailroom.clock import SystemClock
from mailroom.doctor import CheckResult, Mark, check_database
from mailroom.doctor.database_check import check_failover, check_skew
from mailroom.outbox.postgres.postgres_engine import PostgresOutbox
from tests.clock import FakeClock
from tests.outbox.postgres.conftest import SECRET, new_url
from tests.postgres_server import PostgresServer

USER = "doctor_test"


@pytest.fixture
def url(postgres: PostgresServer) -> Iterator[str]:
    """Return the URL of an outbox; its server's settings are put back."""
    url = new_url(postgres)

    async def create() -> None:
        outbox = await PostgresOutbox.open(url, secret_keys=[SECRET], clock=SystemClock())
        await outbox.close()

    asyncio.run(create())
    postgres.psql(f"CREATE ROLE {USER} LOGIN")
    yield url
    _set(postgres)
    postgres.psql(f"DROP OWNED BY {USER}")
    postgres.psql(f"DROP ROLE {USER}")


def _set(postgres: PostgresServer, **settings: str) -> None:
    postgres.psql("ALTER SYSTEM RESET ALL")
    for name, value in settings.items():
        postgres.psql(f"ALTER SYSTEM SET {name} = '{value}'")
    postgres.psql("SELECT pg_reload_conf()")


def _check(url: str) -> dict[str, CheckResult]:
    return {result.about: result for result in asyncio.run(check_database(url, SystemClock()))}


def _wrong(results: dict[str, CheckResult]) -> set[str]:
    return {about for about, result in results.items() if result.mark is Mark.WRONG}


def test_nothing_is_wrong_with_a_database_as_it_is_installed(url: str) -> None:
    results = _check(url)
    assert not _wrong(results)
    assert results["version"].text.startswith("18")
    assert "no standby is connected" in results["failover"].text


def test_settings_that_lose_mails_are_found(postgres: PostgresServer, url: str) -> None:
    """One that our transactions overrule is no fault."""
    _set(postgres, autovacuum="off", fsync="off", synchronous_commit="off")
    assert _wrong(_check(url)) == {"autovacuum", "commits"}
    _set(postgres, synchronous_commit="off")
    results = _check(url)
    assert not _wrong(results)
    assert "Mailroom's transactions use on" in results["commits"].text


def test_missing_rights_are_found(postgres: PostgresServer, url: str) -> None:
    as_user = url.replace("postgres@", f"{USER}@")
    assert "GRANT SELECT" in _check(as_user)["rights"].todo
    postgres.psql(f"GRANT USAGE ON SCHEMA mailroom TO {USER}")
    postgres.psql(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA mailroom TO {USER}")
    assert "may not create tables" in _check(as_user)["rights"].text
    postgres.psql(f"GRANT CREATE ON SCHEMA mailroom TO {USER}")
    assert not _wrong(_check(as_user))


def test_a_database_out_of_reach_is_one_fault() -> None:
    assert _wrong(_check("postgresql://postgres@127.0.0.1:9/none")) == {"connection"}


def test_a_clock_that_differs_is_found(url: str) -> None:
    """Of the machine on which the command runs."""
    results = asyncio.run(check_database(url, FakeClock()))
    assert [result.about for result in results if result.mark is Mark.WRONG] == ["clocks"]
    assert check_skew(1.0).mark is Mark.GOOD
    assert "3.0 s behind" in check_skew(-3.0).text


@pytest.mark.parametrize(
    ("names", "standbys", "mark", "text"),
    [
        ("", (0, 0, 0), Mark.GOOD, "not in a backup is lost"),
        ("", (2, 0, 0), Mark.GOOD, "2 asynchronous standbys, 0.2 s behind now: loses mails"),
        ("*", (2, 1, 0), Mark.GOOD, "to 1 synchronous standby: loses nothing"),
        ("*", (2, 0, 2), Mark.GOOD, "to a synchronous standby: loses nothing"),
        ("*", (0, 0, 0), Mark.WRONG, "every commit waits for one"),
    ],
)
def test_what_a_failover_loses(names: str, standbys: tuple[int, int, int], mark: Mark, text: str) -> None:
    number, synchronous, hidden = standbys
    result = check_failover(names, number=number, synchronous=synchronous, hidden=hidden, lag_seconds=0.21)
    assert result.mark is mark
    assert text in result.text
