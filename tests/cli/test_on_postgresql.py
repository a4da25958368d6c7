"""Operators' commands on a PostgreSQL, from any machine that reaches it, while a server uses it."""

import asyncio
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from mailroom.cli.context import mailroom
from mailroom.clock import SystemClock
from mailroom.message import Attempt, Message, Outcome, Priority, State, new_id
from mailroom.outbox import HELD_MISCONFIGURED, Lease, Settlement
from mailroom.outbox.postgres.postgres_engine import PostgresOutbox
from mailroom.outbox.shared import Observation
from mailroom.outbox.sqlite.engine import SqliteOutbox
from tests.outbox.postgres.conftest import new_url
from tests.postgres_server import PostgresServer

KEY = "0123456789012345678901234567890123456789"


@pytest.fixture(autouse=True)
def url(postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the URL of an empty database, which the settings name."""
    url = new_url(postgres)
    monkeypatch.setenv("DATABASE_URL", url)
    return url


@contextmanager
def served(url: str) -> Iterator[dict[str, str]]:
    """Store a sent, a held and a queued code, and leave the outbox open; yields their ids by state."""
    clock = SystemClock()
    ids = {state: new_id(clock.now() - 9 + n, bytes(10)) for n, state in enumerate(("sent", "held", "queued"))}

    async def store() -> PostgresOutbox:
        outbox = await PostgresOutbox.open(url, secret_keys=[KEY], clock=clock)
        now = clock.now()
        for state, id_ in ids.items():
            message = Message(id_, "SignIn", Priority.CODE, "ada@example.com", {"code": "271828"}, now, now + 600)
            await outbox.put(message, lease=None if state == "queued" else Lease("main", 300))
        sent = (Attempt("main", now, 0.1, Outcome.ACCEPTED, "250 ok"),)
        await outbox.settle(Settlement(ids["sent"], State.SENT, sent))
        await outbox.settle(Settlement(ids["held"], State.HELD, (), reason=HELD_MISCONFIGURED))
        return outbox

    with asyncio.Runner() as runner:
        outbox = runner.run(store())
        try:
            yield ids
        finally:
            runner.run(outbox.close())


def run(*words: str) -> Result:
    """Run a command with the real outbox."""
    return CliRunner().invoke(mailroom, words)


def _json(*words: str) -> Any:
    return json.loads(run(*words, "--json").output)


def test_messages_are_found_waiting_or_settled(url: str) -> None:
    with served(url) as ids:
        assert [row["id"] for row in _json("outbox", "list")] == [ids["queued"], ids["held"], ids["sent"]]
        assert _json("outbox", "find", "Ada@EXAMPLE.com") == _json("outbox", "list")
        assert [row["id"] for row in _json("outbox", "list", "--state", "held")] == [ids["held"]]
        shown = run("outbox", "show", ids["sent"])
        status = _json("status")
    assert "250 ok" in shown.output
    assert "271828" not in shown.output
    assert status["waiting"]["code"]["messages"] == 1
    assert status["held"] == {HELD_MISCONFIGURED: 1}
    assert status["providers"][0]["last_success"]["diagnostic"] == "250 ok"


def test_messages_are_retried_cancelled_and_pruned(url: str) -> None:
    with served(url) as ids:
        assert run("outbox", "retry", ids["held"]).exit_code == 0
        assert run("outbox", "cancel", ids["queued"]).exit_code == 0
        assert run("outbox", "cancel", ids["sent"]).exit_code == 1
        states = {row["id"]: row["state"] for row in _json("outbox", "list")}
        assert states == {ids["held"]: "queued", ids["queued"]: "cancelled", ids["sent"]: "sent"}
        assert run("outbox", "prune", "--before", "0s", "--yes").exit_code == 0
        assert [row["id"] for row in _json("outbox", "list")] == [ids["held"]]


def test_a_provider_is_paused_and_resumed(url: str) -> None:
    with served(url):
        assert run("pause", "main").exit_code == 0
        assert list(_json("pause", "main")["paused"]) == ["main"]
        assert run("resume", "main").exit_code == 0
        assert _json("status")["providers"][0]["paused_since"] is None


def test_the_status_says_which_providers_all_processes_skip(url: str) -> None:
    """Why and since when, without a server that is asked; one that works again is not named."""

    async def observe() -> None:
        clock = SystemClock()
        outbox = await PostgresOutbox.open(url, secret_keys=[KEY], clock=clock)
        assert outbox.shared
        observed = {"main": Observation(clock.now(), "535 5.7.8 bad credentials", 5), "old": Observation(1, "", 5)}
        await outbox.shared.breakers.exchange(observed, providers=(), probing=())
        await outbox.close()

    asyncio.run(observe())
    [main] = _json("status")["providers"]
    assert main["is_skipped"] is True
    assert main["skipped"]["reason"] == "535 5.7.8 bad credentials"
    assert re.search(r"main +skipped since [-0-9]+ [:0-9]+: 535 5\.7\.8 bad credentials", run("status").output)


@pytest.mark.usefixtures("english")
def test_an_error_names_the_database_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://mail:hush@127.0.0.1:9/outbox")
    result = run("outbox", "list")
    assert result.exit_code == 1
    assert result.output.startswith("Error: postgresql://127.0.0.1:9/outbox: ")
    assert "hush" not in result.output
    assert "hush" not in run("check").output


def test_doctor_examines_the_database(url: str) -> None:
    with served(url):
        report = _json("doctor")
        told = run("doctor").output
    assert {finding["about"]: finding["mark"] for finding in report["database"]}["rights"] == "good"
    assert "✓ failover" in told


def test_copy_wants_one_file_and_one_database(url: str, tmp_path: Path) -> None:
    """And says what is copied."""
    path = tmp_path / "old.db"

    async def store() -> None:
        clock = SystemClock()
        outbox = await SqliteOutbox.open(path, secret_keys=[KEY], clock=clock)
        now = clock.now()
        await outbox.put(Message(new_id(now, bytes(10)), "SignIn", Priority.CODE, "a@example.com", {}, now, now + 600))
        await outbox.close()

    asyncio.run(store())
    wrong = run("outbox", "copy", "--to", url)
    assert wrong.exit_code == 2
    assert "from sqlite:///… to postgresql://…" in wrong.output
    copied = _json("outbox", "copy", "--from", f"sqlite:///{path}")
    assert (copied["unsettled"], copied["left"]) == (1, 0)
    again = run("outbox", "copy", "--from", f"sqlite:///{path}")
    assert "0 messages that wait" in again.output
    assert [row["state"] for row in _json("outbox", "list")] == ["queued"]
