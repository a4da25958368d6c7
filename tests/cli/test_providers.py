"""`mailroom providers`."""

import json
import time
from pathlib import Path

import pytest

from mailroom import providers
from mailroom.message import Outcome
from mailroom.outbox import AttemptSummary
from tests.cli.conftest import SETTINGS, Operator, Shelf

TWO = SETTINGS + '[providers.backup]\ntype = "smtp"\nhost = "smtp.acme.example"\n'


@pytest.fixture
def tried(shelf: Shelf) -> float:
    """Keep attempts of the last hours; return now."""
    now = time.time()
    shelf.attempts = [
        AttemptSummary("main", None, 1, now - 5, ""),
        AttemptSummary("main", Outcome.ACCEPTED, 40, now - 60, "250 ok"),
        AttemptSummary("main", Outcome.UNAVAILABLE, 2, now - 600, "451 later"),
        AttemptSummary("backup", Outcome.MISCONFIGURED, 3, now - 7500, "535 no \x1b[31m"),
    ]
    return now


def test_types_are_listed_with_what_they_need(operator: Operator) -> None:
    result = operator.run("providers")
    assert result.exit_code == 0, result.output
    for type_name in providers.types():
        assert f"\n{type_name} " in result.output
    assert "a relay of your own" in result.output


def test_configured_ones_are_told_by_their_attempts(operator: Operator, tried: float) -> None:
    Path("mailroom.toml").write_text(TWO)
    result = operator.run("providers")
    assert "1 unfinished, 40 accepted, 2 unavailable" in result.output
    assert "accepted 60 s ago: 250 ok" in result.output
    assert "misconfigured 2 h ago: 535 no" in result.output
    assert "\x1b" not in result.output


def test_a_machine_reads_the_same(operator: Operator, tried: float) -> None:
    Path("mailroom.toml").write_text(TWO)
    told = json.loads(operator.run("providers", "--json").output)
    main, backup = told["configured"]
    assert (main["name"], main["type"]) == ("main", "capture")
    assert main["last_hour"] == {"unfinished": 1, "accepted": 40, "unavailable": 2}
    assert main["last"]["outcome"] == "accepted"
    assert (backup["last_hour"], backup["last"]["words"]) == ({}, "535 no \x1b[31m")
    assert {found["type"] for found in told["types"]} == set(providers.types())
    assert told["trouble"] is None


def test_one_type_is_shown_in_full_to_be_copied(operator: Operator) -> None:
    result = operator.run("providers", "smtp")
    assert '[providers.main]\ntype = "smtp"\n' in result.output
    assert "starttls, implicit, opportunistic, none" in result.output
    told = json.loads(operator.run("providers", "smtp", "--json").output)
    assert "host" in {row["name"] for row in told["settings"]}
    assert told["example"] in result.output


def test_an_unknown_type_is_told_which_there_are(operator: Operator) -> None:
    result = operator.run("providers", "fax")
    assert result.exit_code == 1
    assert "there are: " in result.output


def test_types_are_listed_before_anything_is_configured(operator: Operator) -> None:
    Path("mailroom.toml").unlink()
    result = operator.run("providers")
    assert result.exit_code == 0
    assert "mailroom check" in result.output
    told = json.loads(operator.run("providers", "--json").output)
    assert (told["configured"], bool(told["trouble"])) == ([], True)
