"""`mailroom providers`."""

import json
import time
from pathlib import Path

import pytest

from mailroom import providers
from mailroom.message import Outcome
from mailroom.outbox import AttemptSummary
from tests.cli.conftest import SETTINGS, FakeOutbox, Operator

TWO = SETTINGS + '[providers.backup]\ntype = "smtp"\nhost = "smtp.acme.example"\n'


@pytest.fixture
def tried(outbox: FakeOutbox) -> float:
    """Store attempts of the last hours; return the current time."""
    now = time.time()
    outbox.attempts = [
        AttemptSummary("main", None, 1, now - 5, ""),
        AttemptSummary("main", Outcome.ACCEPTED, 40, now - 60, "250 ok"),
        AttemptSummary("main", Outcome.UNAVAILABLE, 2, now - 600, "451 later"),
        AttemptSummary("backup", Outcome.MISCONFIGURED, 3, now - 7500, "535 no \x1b[31m"),
    ]
    return now


def test_types_are_listed_with_their_required_settings(operator: Operator) -> None:
    result = operator.run("providers")
    assert result.exit_code == 0, result.output
    for type_name in providers.types():
        assert f"\n{type_name} " in result.output
    assert "a relay of your own" in result.output


def test_the_state_of_configured_providers_is_computed_from_attempts(operator: Operator, tried: float) -> None:
    Path("mailroom.toml").write_text(TWO)
    result = operator.run("providers")
    assert "1 unfinished, 40 accepted, 2 unavailable" in result.output
    assert "accepted 60 s ago: 250 ok" in result.output
    assert "misconfigured 2 h ago: 535 no" in result.output
    assert "\x1b" not in result.output


def test_types_and_state_are_printed_as_json(operator: Operator, tried: float) -> None:
    Path("mailroom.toml").write_text(TWO)
    report = json.loads(operator.run("providers", "--json").output)
    main, backup = report["configured"]
    assert (main["name"], main["type"]) == ("main", "capture")
    assert main["last_hour"] == {"unfinished": 1, "accepted": 40, "unavailable": 2}
    assert main["last"]["outcome"] == "accepted"
    assert (backup["last_hour"], backup["last"]["diagnostic"]) == ({}, "535 no \x1b[31m")
    assert {found["type"] for found in report["types"]} == set(providers.types())
    assert report["trouble"] is None


def test_one_type_is_printed_with_all_its_settings(operator: Operator) -> None:
    result = operator.run("providers", "smtp")
    assert '[providers.main]\ntype = "smtp"\n' in result.output
    assert "starttls, implicit, opportunistic, none" in result.output
    report = json.loads(operator.run("providers", "smtp", "--json").output)
    assert "host" in {row["name"] for row in report["settings"]}
    assert report["example"] in result.output


def test_an_unknown_type_is_reported_with_the_known_ones(operator: Operator) -> None:
    result = operator.run("providers", "fax")
    assert result.exit_code == 1
    assert "there are: " in result.output


def test_types_are_listed_before_anything_is_configured(operator: Operator) -> None:
    Path("mailroom.toml").unlink()
    result = operator.run("providers")
    assert result.exit_code == 0
    assert "mailroom check" in result.output
    report = json.loads(operator.run("providers", "--json").output)
    assert (report["configured"], bool(report["trouble"])) == ([], True)
