"""The bundled templates have no finding in any language."""

import pytest

from mailroom.lint.rules.rendered import LintContext
from mailroom.lint.runner import check
from mailroom.rendering import Brand
from tests.rendering.samples import BRAND, SENDER, make_renderer

BRANDS = {
    "named": BRAND,
    "bare": Brand(),
    "with-logo": Brand(name="Acme", logo_url="https://cdn.example.com/brand.png"),
    "pale": Brand(name="Acme", color="#FFE600"),
    "dark": Brand(name="Acme", color="#0A0A14"),
}


def test_every_kind_in_every_language_is_without_a_finding() -> None:
    seen: list[None] = []
    context = LintContext(make_renderer(), SENDER)
    assert not check(context, progress=lambda: seen.append(None))
    assert len(seen) == 4 * sum(len(tags) for tags in context.inventory.kinds.values()) >= 800


@pytest.mark.parametrize("brand", BRANDS)
def test_every_brand_is_served_as_well(brand: str) -> None:
    context = LintContext(make_renderer(brand=BRANDS[brand]), SENDER)
    assert not check(context, languages=["en", "fa-IR"])
