"""The providers' own pages: each is there, its table is current, its block can be pasted."""

import re
import tomllib
from typing import Any

import pytest

from mailroom import providers
from mailroom.providers.http.http_provider import HttpSettings
from tools.provider_pages import FOLDER, current, table

OVER_HTTP = [kind for kind in providers.types() if issubclass(providers.module_of(kind).Settings, HttpSettings)]
PAGES = sorted(FOLDER.glob("*.md"))


def test_every_provider_over_http_has_its_page() -> None:
    assert [kind for kind in OVER_HTTP if not (FOLDER / f"{kind}.md").is_file()] == []


@pytest.mark.parametrize("kind", [page.stem for page in PAGES])
def test_the_settings_on_a_page_are_current(kind: str) -> None:
    """Mended by `python -m tools.provider_pages`."""
    text = (FOLDER / f"{kind}.md").read_text()
    assert text == current(text, kind)


@pytest.mark.parametrize("kind", OVER_HTTP)
def test_every_setting_is_told_what_it_is_for(kind: str) -> None:
    rows = table(kind).splitlines()[2:]
    assert all(row.split(" | ")[-1].strip(" |") for row in rows if not row.startswith("| `type`"))
    for name in HttpSettings.model_fields.keys() - providers.ProviderSettings.model_fields.keys():
        assert any(row.startswith(f"| `{name}` |") for row in rows)


@pytest.mark.parametrize("kind", OVER_HTTP)
def test_the_blocks_can_be_pasted(kind: str) -> None:
    """One below the other, with a key of one's own in the place of the dots."""
    blocks = re.findall(r"```toml\n(.*?)```", (FOLDER / f"{kind}.md").read_text(), re.DOTALL)
    given: dict[str, Any] = tomllib.loads("\n".join(blocks).replace("…", "0123456789"))
    [(_, provider)] = given["providers"].items()
    assert provider["type"] == kind
    settings = providers.module_of(kind).Settings.model_validate(provider)
    assert settings.template_for("SignIn") == provider.get("templates", {}).get("SignIn", "")


def test_a_page_without_a_place_for_its_settings_is_refused() -> None:
    with pytest.raises(ValueError, match="no markers"):
        current("# Resend\n", "resend")
