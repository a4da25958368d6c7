"""`mailroom check`."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import SETTINGS, Operator


def test_good_settings_are_summed_up(operator: Operator) -> None:
    result = operator.run("check")
    assert result.exit_code == 0
    assert "The settings are valid." in result.output
    assert "main (capture)" in result.output
    assert "captures mails instead of sending them" in result.output
    assert "The templates pass all 22 checks" in result.output


def test_all_faults_are_printed_and_the_exit_says_so(operator: Operator) -> None:
    Path("mailroom.toml").write_text('port = "x"\n' + SETTINGS.replace("port = 1\n", "role = 5\n"))
    result = operator.run("check")
    assert result.exit_code == 1
    assert "2 faults" in result.output
    assert "port: " in result.output
    assert "role: " in result.output
    assert "0123456789" not in result.output


@pytest.mark.usefixtures("english")
def test_machines_read_the_same(operator: Operator) -> None:
    assert json.loads(operator.run("check", "--json").output) == {
        "faults": [],
        "warnings": ["provider main captures mails instead of sending them"],
        "findings": [],
    }
    Path("mailroom.toml").write_text('port = "x"\n' + SETTINGS.replace("port = 1\n", ""))
    result = operator.run("check", "--json")
    assert result.exit_code == 1
    assert [fault["path"] for fault in json.loads(result.output)["faults"]] == ["port"]


@pytest.mark.usefixtures("english")
def test_faults_in_the_operators_templates_are_faults_too(operator: Operator) -> None:
    Path("mine").mkdir()
    Path("mine/layout.html.jinja").write_text("one\n{% if %}")
    Path("mailroom.toml").write_text('templates = "mine"\n' + SETTINGS)
    result = operator.run("check", "--json")
    assert result.exit_code == 1
    assert [fault["path"] for fault in json.loads(result.output)["faults"]] == ["mine/layout.html.jinja, line 2"]
    Path("mine/layout.html.jinja").write_text("{% block content %}{% endblock %}")
    mended = json.loads(operator.run("check", "--json").output)
    assert not mended["faults"]
    assert 7 in {finding["check"] for finding in mended["findings"]}, "it can be used, but tells no language"


@pytest.mark.usefixtures("english")
def test_what_one_applications_templates_spoil_is_told_with_its_folder(operator: Operator) -> None:
    template = Path("mine/applications/app1/SignIn/en/text.jinja")
    template.parent.mkdir(parents=True)
    template.write_text("Hello\n")
    Path("mailroom.toml").write_text('templates = "mine"\n' + SETTINGS)
    result = operator.run("check")
    assert result.exit_code == 1
    assert "2  mine/applications/app1/SignIn/en/text.jinja: the payload has a code" in result.output
    assert "seen in: SignIn; en; applications/app1" in result.output


@pytest.mark.usefixtures("english")
def test_it_needs_no_outbox_while_a_server_has_it(operator: Operator) -> None:
    """Neither its lock nor its file; not even the folder is made."""
    assert operator.run("check").exit_code == 0
    assert not Path("data").exists()


def test_a_default_language_without_words_is_a_fault(operator: Operator) -> None:
    Path("mailroom.toml").write_text('default_locale = "tlh"\n' + SETTINGS)
    result = operator.run("check")
    assert result.exit_code == 1
    assert "'tlh' has no translations" in result.output


def test_what_a_key_holds_does_not_drive_the_terminal(operator: Operator) -> None:
    Path("mailroom.toml").write_text('"\\u001b[2J[red]" = 1\n' + SETTINGS)
    result = operator.run("check")
    assert "\\x1b[2J[red]: unknown setting" in result.output


def test_a_finding_says_where_and_what_to_do_and_fails(operator: Operator, english: Path) -> None:
    layout = english / "layout.html.jinja"
    layout.write_text(layout.read_text().replace('role="presentation" width="480"', 'width="480"'))
    result = operator.run("check")
    assert result.exit_code == 1
    assert "1 wrong" in result.output
    assert "layout.html.jinja, line " in result.output
    assert 'to do: write <table role="presentation"' in result.output
    assert "seen in: " in result.output
    result = operator.run("check", "--json")
    assert result.exit_code == 1
    [finding] = json.loads(result.output)["findings"]
    assert (finding["check"], finding["file"], finding["is_warning"]) == (8, "layout.html.jinja", False)


def test_what_is_doubtful_is_told_and_does_not_fail(operator: Operator, english: Path) -> None:
    words = english / "locales" / "en.toml"
    words.write_text(
        words.read_text().replace("is your {app} sign-in code", "is the code that signs you in to {app}, " * 2)
    )
    result = operator.run("check")
    assert result.exit_code == 0
    assert "1 doubtful" in result.output
    assert "locales/en.toml, line " in result.output


def test_templates_that_cannot_be_read_are_one_finding(operator: Operator, english: Path) -> None:
    (english / "Generic" / "html.jinja").write_text("\n{% if %}")
    result = operator.run("check")
    assert result.exit_code == 1
    assert "Generic/html.jinja, line 2: " in result.output
