"""Templates that are stored at the provider."""

import pytest
from pydantic import ValidationError

from mailroom.providers.base import ProviderSettings, TemplatesAtProvider


class Settings(TemplatesAtProvider):
    type: str = "pigeon"


def test_a_kind_without_a_template_gets_the_default() -> None:
    settings = Settings(templates={"SignIn": "d-1", "default": "d-2"})
    assert [settings.template_for(kind) for kind in ("SignIn", "Register", "Welcome")] == ["d-1", "d-2", "d-2"]


def test_without_a_default_other_kinds_have_no_template() -> None:
    assert Settings(templates={"SignIn": "d-1"}).template_for("Register") == ""
    assert Settings().template_for("SignIn") == ""


def test_a_provider_without_templates_returns_an_empty_name() -> None:
    assert ProviderSettings(type="capture").template_for("SignIn") == ""
    with pytest.raises(ValidationError, match="templates"):
        ProviderSettings.model_validate({"type": "capture", "templates": {"SignIn": "d-1"}})
