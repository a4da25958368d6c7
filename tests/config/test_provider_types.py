"""What the code says about types of providers, and that docs/providers.md says the same."""

import tomllib
from pathlib import Path

import pytest
from pydantic import BaseModel, Field, ValidationError

from mailroom import providers
from mailroom.config.fields import written
from mailroom.config.provider_types import Kind, kind, kinds, page
from mailroom.config.reference import rows

ROOT = Path(__file__).parents[2]


def test_the_page_is_current() -> None:
    """If not: `python -m mailroom.config.provider_types > docs/providers.md`."""
    assert (ROOT / "docs/providers.md").read_text() == page()


def test_every_type_is_described() -> None:
    found = {described.type: described for described in kinds()}
    assert list(found) == providers.types()
    for described in found.values():
        assert described.sentence
        assert "\n" not in described.sentence
        for row in described.own:
            assert row.description, f"{described.type}.{row.name} has no description"


def test_a_type_that_is_not_there_is_told() -> None:
    with pytest.raises(LookupError, match="there are: "):
        kind("pigeon")


@pytest.mark.parametrize("type_name", providers.types())
def test_the_block_to_copy_is_toml_and_asks_for_what_is_needed(type_name: str) -> None:
    """As it is, and with everything in that is commented out; what it is filled in with may still be no key."""
    described = kind(type_name)
    block = described.block("backup")
    table = tomllib.loads(block)["providers"]["backup"]
    assert set(table) == {"type", *described.needs}
    try:
        providers.module_of(type_name).Settings.model_validate(table)
    except ValidationError as error:
        missing = [detail["loc"] for detail in error.errors() if detail["type"] == "missing"]
        assert not missing
    whole = tomllib.loads(block.replace("\n# ", "\n"))["providers"]["backup"]
    assert set(whole) == {"type", *(row.name.partition(".")[0] for row in described.own)}


def test_a_table_within_is_told_setting_by_setting() -> None:
    """What it needs is needed only where it is there."""

    class Login(BaseModel):
        scope: str = Field(description="what for")
        seconds: float = Field(5, description="how long")

    class Settings(BaseModel):
        host: str = Field(description="where")
        login: Login | None = Field(None, description="another way in")

    own = tuple(rows(written(Settings), ("providers", "main")))
    assert [(row.name, row.kind) for row in own] == [
        ("host", "text"), ("login", "table"), ("login.scope", "text"), ("login.seconds", "number")
    ]  # fmt: skip
    assert own[2].variable == "MAILROOM_PROVIDERS__MAIN__LOGIN__SCOPE"
    described = Kind("acme", "Acme", own)
    assert described.needs == ("host",)
    assert tomllib.loads(described.block().replace("\n# ", "\n"))["providers"]["main"] == {
        "type": "acme", "host": "replace-this", "login": {"scope": "replace-this", "seconds": 5}
    }  # fmt: skip


def test_a_default_is_shown_as_it_is_written() -> None:
    rows = {row.name: row for row in kind("smtp").own}
    assert (rows["tls"].default, rows["port"].default, rows["password"].default) == ('"starttls"', "587", "")
    assert (rows["host"].is_required, rows["password"].kind) == (True, "secret")
    assert rows["port"].variable == "MAILROOM_PROVIDERS__MAIN__PORT"
