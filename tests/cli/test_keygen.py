"""`mailroom keygen`."""

import json
import tomllib
from pathlib import Path

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
    """Without quotes: `docker run --env-file` would make them part of the value."""
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
