"""`mailroom check`."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import SETTINGS, Operator


def test_valid_settings_are_summarized(operator: Operator) -> None:
    result = operator.run("check")
    assert result.exit_code == 0
    assert "The settings are valid." in result.output
    assert "main (capture)" in result.output
    assert "captures mails instead of sending them" in result.output
    assert "The templates pass all 22 checks" in result.output


@pytest.mark.usefixtures("english")
def test_overrides_are_listed(operator: Operator) -> None:
    with Path("mailroom.toml").open("a") as file:
        file.write(
            '[[overrides]]\nwhen = { application = "app1", kind = "SignIn" }\n'
            'from = "Lighthouse <no-reply@lighthouse.example>"\nproviders = ["main"]\n'
        )
    output = operator.run("check").output
    assert "application app1, kind SignIn" in output
    assert "from Lighthouse <no-reply@lighthouse.example>; delivered by main (capture)" in output


def test_all_faults_are_printed_and_the_exit_code_is_1(operator: Operator) -> None:
    Path("mailroom.toml").write_text('port = "x"\n' + SETTINGS.replace("port = 1\n", "role = 5\n"))
    result = operator.run("check")
    assert result.exit_code == 1
    assert "2 faults" in result.output
    assert "port: " in result.output
    assert "role: " in result.output
    assert "0123456789" not in result.output


@pytest.mark.usefixtures("english")
def test_faults_and_findings_are_printed_as_json(operator: Operator) -> None:
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
def test_faults_in_the_operators_templates_make_the_check_fail(operator: Operator) -> None:
    Path("mine").mkdir()
    Path("mine/layout.html.jinja").write_text("one\n{% if %}")
    Path("mailroom.toml").write_text('templates = "mine"\n' + SETTINGS)
    result = operator.run("check", "--json")
    assert result.exit_code == 1
    printed = json.loads(result.output)
    assert printed["faults"] == []
    [finding] = printed["findings"]
    assert (finding["check"], finding["file"], finding["line"]) == (1, "mine/layout.html.jinja", 2)
    assert finding["remedy"] == "fix it; until then the bundled layout.html.jinja is used"
    told = operator.run("check").output
    assert "settings have" not in told
    assert "pass all" not in told
    Path("mine/layout.html.jinja").write_text("{% block content %}{% endblock %}")
    repaired = json.loads(operator.run("check", "--json").output)
    assert 7 in {finding["check"] for finding in repaired["findings"]}, "it can be used, but declares no language"


@pytest.mark.usefixtures("english")
def test_findings_in_one_applications_templates_name_its_folder(operator: Operator) -> None:
    template = Path("mine/applications/app1/SignIn/en/text.jinja")
    template.parent.mkdir(parents=True)
    template.write_text("Hello\n")
    Path("mailroom.toml").write_text('templates = "mine"\n' + SETTINGS)
    result = operator.run("check")
    assert result.exit_code == 1
    assert "mine/applications/app1/SignIn/en/text.jinja\n   2  the payload has a code" in result.output
    assert "seen in: SignIn; en; applications/app1" in result.output


@pytest.mark.usefixtures("english")
def test_the_check_does_not_open_the_outbox(operator: Operator) -> None:
    """A server may hold its lock; not even the folder is created."""
    assert operator.run("check").exit_code == 0
    assert not Path("data").exists()


def test_a_default_language_without_translations_is_a_finding(operator: Operator) -> None:
    Path("mailroom.toml").write_text('default_locale = "tlh"\n' + SETTINGS)
    result = operator.run("check")
    assert result.exit_code == 1
    assert "'tlh' has no translations" in result.output


def test_control_characters_in_a_key_are_escaped(operator: Operator) -> None:
    Path("mailroom.toml").write_text('"\\u001b[2J[red]" = 1\n' + SETTINGS)
    result = operator.run("check")
    assert "\\x1b[2J[red]: unknown setting" in result.output


def test_a_finding_shows_place_and_remedy_and_makes_the_check_fail(operator: Operator, english: Path) -> None:
    layout = english / "layout.html.jinja"
    layout.write_text(layout.read_text().replace('role="presentation" width="480"', 'width="480"'))
    result = operator.run("check")
    assert result.exit_code == 1
    assert "1 wrong" in result.output
    assert "layout.html.jinja\n   8  line " in result.output
    assert 'to do: write <table role="presentation"' in result.output
    assert "seen in: " in result.output
    result = operator.run("check", "--json")
    assert result.exit_code == 1
    [finding] = json.loads(result.output)["findings"]
    assert (finding["check"], finding["file"], finding["is_warning"]) == (8, "layout.html.jinja", False)


def test_a_warning_is_printed_and_does_not_make_the_check_fail(operator: Operator, english: Path) -> None:
    words = english / "locales" / "en.toml"
    words.write_text(
        words.read_text().replace("is your {app} sign-in code", "is the code that signs you in to {app}, " * 2)
    )
    result = operator.run("check")
    assert result.exit_code == 0
    assert "1 doubtful" in result.output
    assert "locales/en.toml\n   5  line " in result.output


def test_unreadable_templates_are_one_finding(operator: Operator, english: Path) -> None:
    (english / "Generic" / "html.jinja").write_text("\n{% if %}")
    result = operator.run("check")
    assert result.exit_code == 1
    assert "Generic/html.jinja\n   1  line 2: " in result.output
