"""`mailroom import`."""

import json
import os
import stat
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from pydantic import SecretStr

from mailroom.cli.context import CliContext, mailroom
from mailroom.config import load
from mailroom.errors import SettingsError
from tests.cli.conftest import SETTINGS, Operator
from tests.importing.logto_double import APP_ID, APP_SECRET, Logto, listening
from tests.importing.parts import FOLDER, config, template_row

SMTP = str(FOLDER / "smtp.json")
PASSWORD = "MAILROOM_PROVIDERS__MAIN__PASSWORD"


@pytest.fixture(autouse=True)
def _fresh() -> None:
    """Start without settings, like an operator who comes from Logto."""
    Path("mailroom.toml").unlink()


@pytest.fixture
def logto() -> Iterator[Logto]:
    with listening() as running:
        yield running


def written() -> dict[str, bytes]:
    """Return every file below the working directory."""
    return {str(file): file.read_bytes() for file in Path().rglob("*") if file.is_file()}


def given(document: Any) -> str:
    """Write a document to a file outside of the working directory's tree."""
    file = Path("../given.json")
    file.write_text(json.dumps(document))
    return str(file)


def test_logtos_smtp_connector_is_imported_completely(operator: Operator) -> None:
    result = operator.run("import", SMTP)
    assert (result.exit_code, result.stderr) == (0, "")
    assert "Everything is imported." in result.output
    assert f".env: {PASSWORD} added." in result.output
    assert "made-up-password" not in result.output + Path("mailroom.toml").read_text()
    assert stat.S_IMODE(Path(".env").stat().st_mode) == 0o600
    assert Path(".env").read_text() == f"{PASSWORD}=made-up-password\n"
    for template in config("smtp")["templates"]:
        folder = Path("my-templates") / template["usageType"] / "logto"
        assert (folder / "default.txt").read_text() == template["content"]
        assert tomllib.loads((folder / "default.toml").read_text())["subject"] == template["subject"]


def test_the_server_loads_the_imported_settings(operator: Operator) -> None:
    """Only a key and an authorization are missing, which `mailroom keygen` prints."""
    operator.run("import", SMTP)
    environ = dict(line.split("=", 1) for line in Path(".env").read_text().splitlines())
    with pytest.raises(SettingsError) as error:
        load(environ=environ)
    assert {fault.path for fault in error.value.faults} == {"secret_key", "connector.authorization"}
    environ |= {"MAILROOM_SECRET_KEY": "k3y-" * 10, "MAILROOM_CONNECTOR__AUTHORIZATION": "Bearer 0123456789abcdef"}
    settings = load(environ=environ)
    assert (settings.sender.name, settings.sender.email) == ("Acme", "no-reply@acme.example")
    assert settings.providers["main"].type == "smtp"


def test_the_result_serves_after_the_steps_that_it_names(operator: Operator) -> None:
    """`.env` is read, and what Logto does not have is generated."""
    result = operator.run("import", SMTP)
    assert result.output.endswith(
        "Next:\n    mailroom keygen --write mailroom.toml\n    mailroom check\n    mailroom serve\n"
    )
    assert operator.run("keygen", "--write", "mailroom.toml").exit_code == 0
    settings = load(environ={})
    assert getattr(settings.providers["main"], "password", None) == SecretStr("made-up-password")
    assert settings.templates == Path("my-templates")


def test_everything_is_beside_a_settings_file_elsewhere(operator: Operator) -> None:
    """Where the server looks for it."""
    result = CliRunner().invoke(mailroom, ["--config", "etc/mailroom.toml", "import", SMTP])
    assert result.exit_code == 0, result.output
    assert "    mailroom --config etc/mailroom.toml check\n" in result.output
    assert {path.split("/")[0] for path in written()} == {"etc"}
    assert {"etc/mailroom.toml", "etc/.env", "etc/my-templates/SignIn/logto/default.txt"} <= {*written()}


def test_a_password_with_blanks_is_quoted(operator: Operator) -> None:
    """Readers that split at blanks would cut it."""
    connector = config("smtp") | {"auth": {"type": "login", "user": "acme", "pass": "two words"}}
    assert operator.run("import", given(connector)).exit_code == 0
    assert Path(".env").read_text() == f'{PASSWORD}="two words"\n'


def test_running_it_twice_changes_nothing(operator: Operator) -> None:
    operator.run("import", SMTP)
    before = written()
    result = operator.run("import", SMTP)
    assert result.exit_code == 0
    assert "mailroom.toml has the provider main already." in result.output
    assert written() == before


def test_a_dry_run_prints_the_result_and_writes_nothing(operator: Operator) -> None:
    result = operator.run("import", SMTP, "--dry-run")
    assert result.exit_code == 0
    assert "[providers.main]" in result.output
    assert "would be written" in result.output
    assert written() == {}


def test_an_edited_template_is_overwritten_only_with_force(operator: Operator) -> None:
    operator.run("import", SMTP)
    edited = Path("my-templates/SignIn/logto/default.txt")
    edited.write_text("mine {{code}}")
    result = operator.run("import", SMTP)
    assert result.exit_code == 3
    assert "SignIn/logto/default.txt" in result.output
    assert "--force overwrites it" in result.output
    assert edited.read_text() == "mine {{code}}"
    assert operator.run("import", SMTP, "--force").exit_code == 0
    assert edited.read_text() == config("smtp")["templates"][0]["content"]


def test_an_existing_settings_file_is_not_changed(operator: Operator) -> None:
    text = "# mine\n" + SETTINGS
    Path("mailroom.toml").write_text(text)
    result = operator.run("import", SMTP, "--provider", "relay")
    assert result.exit_code == 3
    assert "To be pasted into mailroom.toml:" in result.output
    assert "    [providers.relay]" in result.output
    assert Path("mailroom.toml").read_text() == text
    assert not Path(".env").exists()


def test_the_json_report_contains_no_secrets(operator: Operator) -> None:
    result = operator.run("import", SMTP, "--json")
    report = json.loads(result.output)
    assert "made-up-password" not in result.output
    assert report["secrets"] == {"file": ".env", "added": [PASSWORD]}
    assert report["files"][0] == {"path": "SignIn/logto/default.toml", "fate": "written"}
    assert tomllib.loads(report["settings"]["written"])["providers"]["main"]["host"] == "smtp.acme.example"
    assert report["left_out"] == []
    again = json.loads(operator.run("import", SMTP, "--json").output)
    assert again["settings"]["in_place"] == ["main"]


def test_what_is_left_out_is_listed_with_remedies(operator: Operator) -> None:
    document = given({**config("smtp"), "pool": True})
    result = operator.run("import", document)
    assert result.exit_code == 3
    assert "Not taken over: 1" in result.output
    assert "given.json: pool" in result.output
    report = json.loads(operator.run("import", document, "--json").output)
    assert report["left_out"] == [
        {
            "source": document,
            "what": "pool",
            "why": "Mailroom has no such setting",
            "remedy": "see docs/settings.md for what SMTP has",
        }
    ]


def test_several_files_and_standard_input_can_be_combined() -> None:
    result = CliRunner().invoke(
        mailroom, ["import", "-", SMTP], obj=CliContext(None, dev=False), input=json.dumps([template_row()])
    )
    assert result.exit_code == 0
    assert Path("my-templates/SignIn/logto/fr-CA.html").read_text() == "<p>{{code}}</p>"
    assert Path("my-templates/SignIn/logto/default.txt").exists()


def test_options_name_the_target_files(operator: Operator) -> None:
    result = operator.run("import", SMTP, "--templates", "t", "--env-file", "secrets/env", "--provider", "relay-1")
    assert result.exit_code == 0
    assert Path("t/SignIn/logto/default.txt").exists()
    assert Path("secrets/env").read_text().startswith("MAILROOM_PROVIDERS__RELAY_1__PASSWORD=")
    assert "relay-1" in tomllib.loads(Path("mailroom.toml").read_text())["providers"]


@pytest.mark.parametrize(
    ("words", "code", "problem"),
    [
        ((), 2, "Give FILEs, or the address of a Logto"),
        ((SMTP, "--from-logto", "https://x.example"), 2, "Give FILEs, or the address of a Logto"),
        (("--from-logto", "https://x.example"), 2, "needs --app-id"),
        ((SMTP, "--provider", "No Name"), 2, "small letters"),
        (("missing.json",), 1, "cannot read missing.json: No such file"),
        ((".",), 1, "cannot read .: Is a directory"),
    ],
)
def test_invalid_arguments_are_reported(operator: Operator, words: tuple[str, ...], code: int, problem: str) -> None:
    result = operator.run("import", *words)
    assert (result.exit_code, problem in result.output) == (code, True)
    assert written() == {}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "given.json is not JSON"),
        ("[]", "There is no email connector"),
        ('[{"connectorId": "google", "type": "Social"}]', "There is no email connector"),
    ],
)
def test_a_document_without_anything_to_import_is_an_error(operator: Operator, text: str, problem: str) -> None:
    Path("../given.json").write_text(text)
    result = operator.run("import", "../given.json")
    assert (result.exit_code, problem in result.output) == (1, True)


def test_invalid_settings_stop_the_import_before_anything_is_written(operator: Operator) -> None:
    Path("mailroom.toml").write_text("from = ")
    result = operator.run("import", SMTP)
    assert (result.exit_code, "correct it first" in result.output) == (1, True)
    assert list(written()) == ["mailroom.toml"]


def test_control_characters_in_documents_are_escaped(operator: Operator) -> None:
    document = given([{**config("smtp"), "\x1b[2J": 1, "fromEmail": "\ud800"}, template_row(templateType="\x1b[2J")])
    for words in ((), ("--json",)):
        result = operator.run("import", document, *words)
        assert result.exit_code == 3
        assert "\x1b[2J" not in result.output


def test_nothing_is_written_outside_of_the_folder(operator: Operator) -> None:
    hostile = [template_row(languageTag=tag) for tag in ("../../../x", "/tmp/x", "..", "a/b")]
    hostile += [template_row(templateType=kind) for kind in ("../x", "/tmp", "..")]
    assert operator.run("import", given(hostile)).exit_code == 3
    assert written() == {}


def from_logto(logto: Logto, *words: str, answer: str | None = None) -> Result:
    """Import from a Logto; `answer` is typed at the prompt for the secret."""
    arguments = ["import", "--from-logto", logto.url, "--app-id", APP_ID, *words]
    return CliRunner().invoke(mailroom, arguments, obj=CliContext(None, dev=False), input=answer)


def test_connector_and_templates_are_imported_from_a_running_logto(logto: Logto) -> None:
    """No secret of its other connectors is written or printed."""
    os.environ["MAILROOM_LOGTO_APP_SECRET"] = APP_SECRET
    result = from_logto(logto)
    assert (result.exit_code, result.stderr) == (0, "")
    found = written()
    assert found["my-templates/SignIn/logto/de.html"] == b"<p>{{code}}</p>"
    assert b"smtp.acme.example" in found["mailroom.toml"]
    for secret in (APP_SECRET, "made-up-google-secret"):
        assert secret not in result.output
        assert not any(secret.encode() in content for content in found.values())
    assert from_logto(logto).exit_code == 0
    assert written() == found


def test_the_applications_secret_can_be_in_a_file_or_typed(logto: Logto) -> None:
    typed = from_logto(logto, "--dry-run", answer=f"{APP_SECRET}\n")
    assert (typed.exit_code, APP_SECRET in typed.output) == (0, False)
    Path("secret").write_text(f"{APP_SECRET}\n")
    os.environ["MAILROOM_LOGTO_APP_SECRET_FILE"] = "secret"
    assert from_logto(logto, "--dry-run").exit_code == 0
    os.environ["MAILROOM_LOGTO_APP_SECRET_FILE"] = "nowhere"
    assert "cannot read nowhere" in from_logto(logto).output


def test_a_logto_that_refuses_is_reported(logto: Logto) -> None:
    os.environ["MAILROOM_LOGTO_APP_SECRET"] = "geheim"
    result = from_logto(logto)
    assert (result.exit_code, "invalid_client" in result.output, "geheim" in result.output) == (1, True, False)
    assert written() == {}


@pytest.mark.usefixtures("english")
def test_the_variable_with_the_applications_secret_is_no_fault(operator: Operator) -> None:
    """It may still be set in the shell that starts the server."""
    Path("mailroom.toml").write_text(SETTINGS)
    os.environ["MAILROOM_LOGTO_APP_SECRET"] = APP_SECRET
    assert operator.run("check").exit_code == 0
