"""`mailroom keygen`."""

import errno
import json
import re
import stat
import tomllib
from pathlib import Path

import pytest

from mailroom.config import load
from tests.cli.conftest import Operator

REST = '\n[providers.main]\ntype = "capture"\n'


def test_the_printed_toml_can_be_pasted(operator: Operator) -> None:
    printed = operator.run("keygen").output
    Path("mailroom.toml").write_text(f'from = "a@acme.example"\n{printed}{REST}')
    settings = load(environ={})
    assert settings.secret_key[0].get_secret_value() in printed
    assert settings.connector.authorization[0].get_secret_value().startswith("Bearer ")


def test_the_secrets_can_be_printed_as_variables(operator: Operator) -> None:
    """As `docker run --env-file` reads the lines: the quotes are part of the value."""
    lines = operator.run("keygen", "--env").output.splitlines()
    environ = {name: value for name, _, value in (line.partition("=") for line in lines)}
    Path("mailroom.toml").write_text(f'from = "a@acme.example"{REST}')
    settings = load(environ=environ)
    assert settings.connector.authorization[0].get_secret_value().startswith("Bearer ")


def test_every_call_generates_new_secrets(operator: Operator) -> None:
    first, second = (json.loads(operator.run("keygen", "--json").output) for _ in range(2))
    assert first["secret_key"] != second["secret_key"]
    assert first["authorization"] != second["authorization"]
    assert first["secret_key"] not in first["authorization"]


def test_toml_is_printed_as_toml(operator: Operator) -> None:
    assert set(tomllib.loads(operator.run("keygen").output)) == {"secret_key", "connector"}


EXAMPLE = """\
# Our settings.
from = "a@acme.example"

[connector]  # Logto
allowed_ips = ["203.0.113.0/24"]
"""


def test_secrets_are_written_into_the_settings(operator: Operator) -> None:
    """The key on top, the header in its table; comments stay, and a second run changes nothing."""
    Path("mailroom.toml").write_text(EXAMPLE + REST)
    Path("mailroom.toml").chmod(0o600)
    result = operator.run("keygen", "--write", "mailroom.toml")
    text = Path("mailroom.toml").read_text()
    key, authorization = (tomllib.loads(text)[name] for name in ("secret_key", "connector"))
    assert text.splitlines()[0] == f'secret_key = "{key}"'
    value = authorization["authorization"]
    rest = text.removeprefix(f'secret_key = "{key}"\n').replace(f'authorization = "{value}"\n', "")
    assert rest == EXAMPLE + REST
    assert result.output == (
        "mailroom.toml: secret_key written.\nmailroom.toml: authorization written.\n"
        f"Authorization Header for Logto's HTTP email connector:\n    {value}\n"
    )
    assert load(environ={}).connector.authorization[0].get_secret_value() == value
    assert operator.run("keygen", "--write", "mailroom.toml").output == (
        "mailroom.toml: secret_key is set already, and was not changed.\n"
        "mailroom.toml: authorization is set already, and was not changed.\n"
    )
    assert Path("mailroom.toml").read_text() == text


def test_placeholders_are_replaced(operator: Operator) -> None:
    root = Path(__file__).parents[2]
    Path("mailroom.toml").write_text((root / "mailroom.example.toml").read_text())
    written = json.loads(operator.run("keygen", "--write", "mailroom.toml", "--json").output)["written"]
    text = Path("mailroom.toml").read_text()
    assert set(written) == {"secret_key", "authorization"}
    assert all(f'"{value}"' in text for value in written.values())
    assert not re.search("^[^#]*replace.this", text, re.MULTILINE)


def test_a_new_file_is_its_owners_alone(operator: Operator) -> None:
    Path("mailroom.toml").unlink()
    assert operator.run("keygen", "--write", "mailroom.toml").exit_code == 0
    assert stat.S_IMODE(Path("mailroom.toml").stat().st_mode) == 0o600
    assert set(tomllib.loads(Path("mailroom.toml").read_text())) == {"secret_key", "connector"}


def test_a_file_that_others_can_read_is_noted_and_keeps_its_mode(operator: Operator) -> None:
    """A server may run as another user."""
    Path("mailroom.toml").write_text(EXAMPLE)
    Path("mailroom.toml").chmod(0o644)
    result = operator.run("keygen", "--write", "mailroom.toml")
    assert "Note: others on this machine can read mailroom.toml: chmod 600\n" in result.output
    assert stat.S_IMODE(Path("mailroom.toml").stat().st_mode) == 0o644


def test_a_link_stays_one(operator: Operator) -> None:
    Path("real.toml").write_text(EXAMPLE)
    Path("mailroom.toml").unlink()
    Path("mailroom.toml").symlink_to("real.toml")
    operator.run("keygen", "--write", "mailroom.toml")
    assert Path("mailroom.toml").is_symlink()
    assert "secret_key" in Path("real.toml").read_text()


def test_what_cannot_be_written_is_reported(operator: Operator) -> None:
    Path("mailroom.toml").write_text('connector = { allowed_ips = ["203.0.113.0/24"] }\n')
    result = operator.run("keygen", "--write", "mailroom.toml")
    assert result.exit_code == 1
    assert "mailroom.toml: authorization cannot be set by a program here; change it yourself" in result.output
    Path("mailroom.toml").write_text("from = \n")
    result = operator.run("keygen", "--write", "mailroom.toml")
    assert "mailroom.toml is not TOML: Invalid value (at line 1, column 8); correct it first" in result.output
    assert "cannot write " in operator.run("keygen", "--write", "nowhere/mailroom.toml").output
    assert operator.run("keygen", "--write", "mailroom.toml", "--env").exit_code == 2


def test_a_file_that_cannot_be_read_or_written_is_told(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests may run as root, whom no permission stops: so reading is made to fail."""
    Path("mailroom.toml").write_text(REST)
    file = Path("mailroom.toml").resolve()
    result = operator.run("keygen", "--write", f"{file}/other.toml")
    assert (result.exit_code, result.output) == (1, f"Error: cannot write {file}/other.toml: Not a directory\n")

    def refuse(*_: object, **__: object) -> str:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "read_text", refuse)
    result = operator.run("keygen", "--write", "mailroom.toml")
    assert (result.exit_code, result.output) == (1, f"Error: cannot read {file}: Permission denied\n")
