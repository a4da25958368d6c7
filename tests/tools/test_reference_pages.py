"""The generated pages of docs/ are current, and the examples on the providers' pages can be pasted."""

import re
import tomllib
from typing import Any

import pytest

from mailroom import providers
from mailroom.config.fields import leaves
from mailroom.config.provider_types import provider_type
from mailroom.providers.http.http_settings import HttpSettings
from tools.reference_pages import DOCS, PROVIDER_PAGES, fill, pages

OVER_HTTP = [kind for kind in providers.types() if issubclass(providers.module_of(kind).Settings, HttpSettings)]
PAGES = {str(file.relative_to(DOCS)): (file, sections) for file, sections in pages()}


@pytest.mark.parametrize("name", PAGES)
def test_the_generated_sections_are_current(name: str) -> None:
    """Run `make docs` if this fails."""
    file, sections = PAGES[name]
    text = file.read_text()
    assert text == fill(text, *sections)


def test_the_page_of_settings_names_every_setting() -> None:
    text = (DOCS / "settings.md").read_text()
    assert [path for path, _ in leaves() if f"`{path[-1]}`" not in text] == []


def test_every_provider_over_http_has_its_page() -> None:
    assert [kind for kind in OVER_HTTP if not (PROVIDER_PAGES / f"{kind}.md").is_file()] == []


@pytest.mark.parametrize("kind", OVER_HTTP)
def test_every_setting_of_a_provider_over_http_is_described(kind: str) -> None:
    rows = provider_type(kind).settings
    assert all(row.description for row in rows)
    own = HttpSettings.model_fields.keys() - providers.ProviderSettings.model_fields.keys()
    assert own <= {row.name for row in rows}


@pytest.mark.parametrize("kind", OVER_HTTP)
def test_the_examples_of_a_page_form_one_valid_provider(kind: str) -> None:
    """Pasted one below the other, with a key in place of the dots."""
    blocks = re.findall(r"```toml\n(.*?)```", (PROVIDER_PAGES / f"{kind}.md").read_text(), re.DOTALL)
    given: dict[str, Any] = tomllib.loads("\n".join(blocks).replace("…", "0123456789"))
    [(_, provider)] = given["providers"].items()
    assert provider["type"] == kind
    settings = providers.module_of(kind).Settings.model_validate(provider)
    assert settings.template_for("SignIn") == provider.get("templates", {}).get("SignIn", "")


def test_a_page_without_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="needs 1 sections between markers"):
        fill("# Resend\n", "a table")
