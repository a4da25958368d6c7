"""The descriptions of the types of providers."""

import tomllib

import pytest
from pydantic import BaseModel, Field, ValidationError

from mailroom import providers
from mailroom.config.fields import fields_by_name
from mailroom.config.provider_types import ProviderType, provider_type, provider_types
from mailroom.config.setting_rows import setting_rows


def test_every_type_is_described() -> None:
    found = {described.type: described for described in provider_types()}
    assert list(found) == providers.types()
    for described in found.values():
        assert described.description
        assert "\n" not in described.description
        for row in described.settings:
            assert row.description, f"{described.type}.{row.name} has no description"


def test_an_unknown_type_raises_with_the_known_ones() -> None:
    with pytest.raises(LookupError, match="there are: "):
        provider_type("pigeon")


@pytest.mark.parametrize("type_name", providers.types())
def test_the_example_is_toml_and_has_the_required_settings(type_name: str) -> None:
    """As it is, and with the commented settings; a placeholder may be no valid key."""
    described = provider_type(type_name)
    block = described.example("backup")
    table = tomllib.loads(block)["providers"]["backup"]
    assert set(table) == {"type", *described.needs}
    try:
        providers.module_of(type_name).Settings.model_validate(table)
    except ValidationError as error:
        missing = [detail["loc"] for detail in error.errors() if detail["type"] == "missing"]
        assert not missing
    whole = tomllib.loads(block.replace("\n# ", "\n"))["providers"]["backup"]
    assert set(whole) == {"type", *(row.name.partition(".")[0] for row in described.settings)}


def test_the_settings_of_a_nested_table_have_rows_of_their_own() -> None:
    """Its required settings are required only if the table is given."""

    class Login(BaseModel):
        scope: str = Field(description="what for")
        seconds: float = Field(5, description="how long")

    class Settings(BaseModel):
        host: str = Field(description="where")
        login: Login | None = Field(None, description="another way in")

    own = tuple(setting_rows(fields_by_name(Settings), ("providers", "main")))
    assert [(row.name, row.value) for row in own] == [
        ("host", "text"), ("login", "table"), ("login.scope", "text"), ("login.seconds", "number")
    ]  # fmt: skip
    assert own[2].variable == "MAILROOM_PROVIDERS__MAIN__LOGIN__SCOPE"
    described = ProviderType("acme", "Acme", own)
    assert described.needs == ("host",)
    assert tomllib.loads(described.example().replace("\n# ", "\n"))["providers"]["main"] == {
        "type": "acme", "host": "replace-this", "login": {"scope": "replace-this", "seconds": 5}
    }  # fmt: skip


def test_a_default_is_shown_as_toml() -> None:
    rows = {row.name: row for row in provider_type("smtp").settings}
    assert (rows["tls"].default, rows["port"].default, rows["password"].default) == ('"starttls"', "587", None)
    assert (rows["host"].required, rows["password"].value) == (True, "secret")
    assert rows["port"].variable == "MAILROOM_PROVIDERS__MAIN__PORT"
