"""Templates of Logto's documentation and of its connectors are imported, and pass `mailroom check`."""

import json
from pathlib import Path
from typing import Any, Final

import pytest

from mailroom.logto import INVITATION, MESSAGE_TYPES
from tests.cli.conftest import Operator

LOGTO: Final = Path(__file__).parents[1] / "importing" / "logto"
HTML: Final = (LOGTO / "documentation" / "email-templates.html").read_text(encoding="utf-8")
PLAIN: Final = json.loads((LOGTO / "documentation" / "smtp.json").read_text())["templates"][0]["content"]
VARIABLES: Final = {
    "MAILROOM_SECRET_KEY": "0123456789012345678901234567890123456789",
    "MAILROOM_CONNECTOR__AUTHORIZATION": "Bearer 0123456789abcdef",
}


def content(example: str, kind: str) -> str:
    """Return the example with the variable of the kind."""
    variable = "{{link}}" if kind == INVITATION else "{{code}}"
    return example.replace("000000", variable).replace("{{code}}", variable)


def connector(content_type: str, contents: dict[str, str]) -> dict[str, Any]:
    return {
        "host": "smtp.acme.example",
        "port": 587,
        "auth": {"type": "login", "user": "acme", "pass": "made-up-password"},
        "fromEmail": "Acme <no-reply@acme.example>",
        "templates": [
            {"usageType": kind, "contentType": content_type, "subject": f"Logto {kind}", "content": text}
            for kind, text in contents.items()
        ],
    }


def import_and_check(operator: Operator, document: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Import a document into an empty folder and return the result of the check, which passes."""
    Path("mailroom.toml").unlink()
    Path("logto.json").write_text(json.dumps(document))
    imported = operator.run("import", "logto.json")
    assert imported.exit_code == 0, imported.output
    secret = dict(line.split("=", 1) for line in Path(".env").read_text().splitlines())
    monkeypatch.setattr("os.environ", VARIABLES | secret)
    told = operator.run("check")
    assert told.exit_code == 0, told.output
    assert " wrong" not in told.output
    assert "Mailroom" not in told.output
    result: dict[str, Any] = json.loads(operator.run("check", "--json").output)
    assert all(finding["is_warning"] for finding in result["findings"])
    return result


@pytest.mark.usefixtures("english")
@pytest.mark.parametrize(("content_type", "example"), [("text/html", HTML), ("text/plain", PLAIN)])
def test_the_documentations_examples_pass(
    operator: Operator, monkeypatch: pytest.MonkeyPatch, content_type: str, example: str
) -> None:
    document = connector(content_type, {kind: content(example, kind) for kind in MESSAGE_TYPES})
    result = import_and_check(operator, document, monkeypatch)
    assert not [finding for finding in result["findings"] if finding["check"] in (1, 2)]
    if content_type == "text/plain":
        told = {(finding["check"], *finding["kinds"]) for finding in result["findings"]}
        assert told == {(3, INVITATION)}, "an invitation may lack its link; rules about HTML do not apply"


@pytest.mark.usefixtures("english")
def test_the_example_as_documented_has_no_code_so_another_template_is_used(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It shows 000000 to every reader."""
    result = import_and_check(operator, connector("text/html", {"SignIn": HTML}), monkeypatch)
    [finding] = [finding for finding in result["findings"] if finding["check"] == 2]
    assert finding["file"] == "my-templates/SignIn/logto/default.html"
    assert finding["remedy"] == "write {{code}} into it; until then the bundled Generic/html.jinja is used"


@pytest.mark.usefixtures("english")
@pytest.mark.parametrize("name", ["smtp", "sendgrid-email", "aws-ses", "mailgun", "aliyun-dm", "smtp2go-email"])
def test_the_defaults_of_logtos_connectors_pass(operator: Operator, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    row = json.loads((LOGTO / f"{name}.json").read_text())
    remedies = {finding["remedy"] for finding in import_and_check(operator, row, monkeypatch)["findings"]}
    assert not any("{{ " in remedy or "{%" in remedy for remedy in remedies), "Jinja has no effect in Logto's templates"


@pytest.mark.usefixtures("english")
def test_files_with_the_same_findings_are_one_group(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    page = "<p>{{code}}</p>"
    import_and_check(
        operator, connector("text/html", dict.fromkeys(("SignIn", "Register", "BindMfa"), page)), monkeypatch
    )
    printed = operator.run("check").output
    assert printed.count("has no lang") == 1
    assert "my-templates/BindMfa/logto/default.html, my-templates/Register/logto/default.html" in printed
