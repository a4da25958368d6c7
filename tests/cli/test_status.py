"""`mailroom status`."""

import json
import re
import time
from pathlib import Path

import click
import pytest

from mailroom.message import Outcome, Priority
from mailroom.outbox import AttemptSummary, Depth
from tests.cli.conftest import FakeOutbox, Operator, Server

OPEN = b"""# TYPE mailroom_provider_open gauge
mailroom_provider_open{provider="main"} 1.0
mailroom_provider_open{provider="backup"} 0.0
mailroom_provider_quota_left{provider="backup"} 17.0
"""
BACKUP = '[providers.backup]\ntype = "capture"\n'


def attempts(outcome: Outcome | None, count: int = 5, seconds: float = 10, diagnostic: str = "") -> AttemptSummary:
    """Return attempts by `main`, the last one so many seconds ago."""
    return AttemptSummary("main", outcome, count, time.time() - seconds, diagnostic)


def test_status_counts_waiting_and_held_messages(operator: Operator, outbox: FakeOutbox, server: Server) -> None:
    outbox.waiting = {Priority.CODE: Depth(3, time.time() - 90)}
    outbox.held_counts = {"misconfigured": 2}
    result = operator.run("status", "--json")
    report = json.loads(result.output)
    assert (result.exit_code, report["server"], report["problems"]) == (0, "ready", [])
    assert report["held"] == {"misconfigured": 2}
    assert 90 <= report["waiting"]["code"].pop("oldest_seconds") < 120
    assert report["waiting"] == {
        "code": {"messages": 3},
        "invitation": {"messages": 0, "oldest_seconds": None},
        "event": {"messages": 0, "oldest_seconds": None},
    }


def test_a_provider_is_described_in_its_own_words(operator: Operator, outbox: FakeOutbox, server: Server) -> None:
    """An attempt that failed because of the recipient's address is no failure of the provider."""
    with Path("mailroom.toml").open("a") as file:
        file.write(BACKUP)
    outbox.attempts = [
        attempts(Outcome.ACCEPTED, seconds=700, diagnostic="250 2.0.0 queued as 4F3B"),
        attempts(Outcome.UNAVAILABLE, seconds=500, diagnostic="421 4.7.0 too many"),
        attempts(Outcome.MISCONFIGURED, seconds=400, diagnostic="535 5.7.8 bad password"),
        attempts(Outcome.REJECTED, diagnostic="550 5.1.1 no such user"),
    ]
    outbox.paused_since = {"backup": 1_700_000_000.0}
    server.body = OPEN
    main, backup = json.loads(operator.run("status", "--json").output)["providers"]
    assert main["last_success"]["diagnostic"] == "250 2.0.0 queued as 4F3B"
    assert main["last_failure"]["diagnostic"] == "535 5.7.8 bad password"
    assert (main["is_skipped"], main["quota_left"], main["paused_since"]) == (True, None, None)
    assert (backup["is_skipped"], backup["quota_left"]) == (False, 17)
    assert backup["paused_since"] == "2023-11-14T22:13:20Z"
    assert (backup["last_success"], backup["last_failure"]) == (None, None)
    shown = operator.run("status").output
    assert re.search(r"main +skipped: it fails +11 min ago: 250 2\.0\.0 queued as 4F3B  6 min ago: 535 5\.7\.8", shown)
    assert "backup    paused since 11-1" in shown
    outbox.paused_since = {}
    server.body = OPEN.replace(b" 17.0", b" 0.0")
    assert "backup    its quota is used up  none in a day" in operator.run("status").output


def test_the_status_of_a_provider_is_complete_at_80_columns(
    operator: Operator, outbox: FakeOutbox, server: Server, terminal: None
) -> None:
    words = "421 " + "w" * 300
    outbox.attempts = [attempts(Outcome.UNAVAILABLE, count=1, diagnostic=words)]
    lines = click.unstyle(operator.run("status").output).splitlines()[2:]  # paths are whole: they can be copied
    assert max(map(len, lines)) <= 80
    assert sum(line.count("w") for line in lines) - "".join(lines).count("waiting") == 300


Row = tuple[Outcome | None, int, float]
"""Outcome, number, seconds since the last one."""


@pytest.mark.parametrize(
    ("codes", "others", "problem"),
    [
        ([], [], None),
        ([(Outcome.UNAVAILABLE, 4, 9.0), (None, 9, 9.0)], [], None),
        ([(Outcome.REJECTED, 5, 9.0)], [], None),
        ([(Outcome.UNAVAILABLE, 9, 9.0), (Outcome.ACCEPTED, 1, 250.0)], [], None),
        ([(Outcome.UNAVAILABLE, 9, 9.0), (Outcome.ACCEPTED, 1, 301.0)], [], "no codes could be sent in 5 minutes"),
        ([(Outcome.UNAVAILABLE, 9, 301.0)], [], None),
        ([(Outcome.UNAVAILABLE, 3, 9.0), (Outcome.UNCERTAIN, 2, 9.0)], [], "no codes could be sent in 5 minutes"),
        ([], [(Outcome.MISCONFIGURED, 5, 9.0)], "no mail could be sent in 5 minutes, 5 attempts failed"),
    ],
)
@pytest.mark.usefixtures("server")
def test_status_fails_if_nothing_could_be_sent(
    operator: Operator, outbox: FakeOutbox, codes: list[Row], others: list[Row], problem: str | None
) -> None:
    outbox.code_attempts = [attempts(*row) for row in codes]
    outbox.attempts = [attempts(*row) for row in others or [(Outcome.ACCEPTED, 1, 1.0)]]
    result = operator.run("status")
    assert result.exit_code == (1 if problem else 0), result.output
    assert (problem or "server: ready") in result.output
    assert result.output.count("Problem: ") == bool(problem)


def test_status_fails_if_codes_wait_or_are_held(operator: Operator, outbox: FakeOutbox, server: Server) -> None:
    """Other mail may wait and be held."""
    outbox.waiting = {Priority.EVENT: Depth(1, 0.0), Priority.CODE: Depth(1, time.time() - 119)}
    outbox.held_counts = {"exhausted": 3}
    assert operator.run("status").exit_code == 0
    outbox.waiting[Priority.CODE] = Depth(1, time.time() - 121)
    outbox.held_codes = {"exhausted": 2, "rendering": 1}
    result = operator.run("status", "--json")
    assert result.exit_code == 1
    assert json.loads(result.output)["problems"] == [
        "codes are held: 2 exhausted, 1 rendering",
        "a code has waited for 2 min",
    ]


def test_status_fails_if_no_server_answers(operator: Operator) -> None:
    result = operator.run("status")
    assert result.exit_code == 1
    assert "Problem: no server answers at http://127.0.0.1:1\nserver: not reachable\n" in result.output
    assert "main      not known  none in a day  none in a day" in result.output


def test_status_queries_the_server(operator: Operator, server: Server) -> None:
    server.status = 503
    report = json.loads(operator.run("status", "--json").output)
    assert (report["server"], report["problems"]) == ("starting or draining", [])
    assert report["providers"][0]["is_skipped"] is None, "its metrics are refused"


def test_status_sends_the_token_for_metrics(operator: Operator, server: Server) -> None:
    text = Path("mailroom.toml").read_text()
    Path("mailroom.toml").write_text(f'metrics_token = "a-token-for-prometheus"\n{text}')
    operator.run("status")
    assert ("/metrics", "Bearer a-token-for-prometheus", None) in server.requests
    assert ("/readyz", None, None) in server.requests


def test_status_asks_the_server_at_a_given_address(operator: Operator, server: Server) -> None:
    port = Path("mailroom.toml").read_text().partition("port = ")[2].partition("\n")[0]
    Path("mailroom.toml").write_text(Path("mailroom.toml").read_text().replace(port, "1"))
    assert operator.run("status", "--url", f"http://127.0.0.1:{port}").exit_code == 0
    assert operator.run("status", "--url", "not an address").exit_code == 1


def test_status_says_what_it_looked_at(operator: Operator, server: Server, tmp_path: Path) -> None:
    shown = operator.run("status").output
    assert shown.startswith(f"settings: {tmp_path}/mailroom.toml\noutbox: {tmp_path}/data/mailroom.db\n")
    report = json.loads(operator.run("status", "--json").output)
    assert report["settings"] == f"{tmp_path}/mailroom.toml"
    assert report["outbox"] == f"{tmp_path}/data/mailroom.db"


def test_status_says_that_there_are_variables_only(
    operator: Operator, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("mailroom.toml").rename("moved.toml")
    values = {
        "FROM": "a@acme.example",
        "SECRET_KEY": "k3y-" * 10,
        "CONNECTOR__AUTHORIZATION": "Bearer 0123456789abcdef",
    }
    environ = {f"MAILROOM_{name}": value for name, value in (values | {"PROVIDERS__MAIN__TYPE": "capture"}).items()}
    monkeypatch.setattr("os.environ", environ)
    shown = operator.run("status").output
    assert f"\nsettings: variables; there is no {tmp_path}/mailroom.toml\n" in f"\n{shown}"


def test_settings_that_are_not_there_are_said_to_be_missing(operator: Operator, tmp_path: Path) -> None:
    """In another folder than the server's, for example."""
    Path("mailroom.toml").unlink()
    result = operator.run("status")
    assert result.exit_code == 1
    assert f"There is no {tmp_path}/mailroom.toml: name your settings file with --config FILE.\n" in result.output
    assert "secret_key: missing; `mailroom keygen --write mailroom.toml` writes one" in result.output
