"""`mailroom check`."""

import json
from pathlib import Path

from tests.cli.conftest import SETTINGS, Operator


def test_good_settings_are_summed_up(operator: Operator) -> None:
    result = operator.run("check")
    assert result.exit_code == 0
    assert "fit to serve with" in result.output
    assert "main (capture)" in result.output
    assert "captures mails instead of sending them" in result.output


def test_all_faults_are_printed_and_the_exit_says_so(operator: Operator) -> None:
    Path("mailroom.toml").write_text('port = "x"\n' + SETTINGS.replace("port = 1\n", "role = 5\n"))
    result = operator.run("check")
    assert result.exit_code == 1
    assert "2 faults" in result.output
    assert "port: " in result.output
    assert "role: " in result.output
    assert "0123456789" not in result.output


def test_machines_read_the_same(operator: Operator) -> None:
    assert json.loads(operator.run("check", "--json").output) == {
        "faults": [],
        "warnings": ["provider main captures mails instead of sending them"],
    }
    Path("mailroom.toml").write_text('port = "x"\n' + SETTINGS.replace("port = 1\n", ""))
    result = operator.run("check", "--json")
    assert result.exit_code == 1
    assert [fault["path"] for fault in json.loads(result.output)["faults"]] == ["port"]


def test_what_a_key_holds_does_not_drive_the_terminal(operator: Operator) -> None:
    Path("mailroom.toml").write_text('"\\u001b[2J[red]" = 1\n' + SETTINGS)
    result = operator.run("check")
    assert "\\x1b[2J[red]: unknown setting" in result.output
