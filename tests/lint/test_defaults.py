"""The bundled templates have no finding in any language."""

import pytest

from mailroom.lint.rules.rendered import LintContext
from mailroom.lint.runner import check
from mailroom.rendering import Brand
from tests.rendering.samples import BRAND, SENDER, writer

BRANDS = {
    "named": BRAND,
    "bare": Brand(),
    "with-logo": Brand(name="Acme", logo_url="https://cdn.example.com/brand.png"),
    "pale": Brand(name="Acme", color="#FFE600"),
    "dark": Brand(name="Acme", color="#0A0A14"),
}


def test_every_kind_in_every_language_is_without_a_finding() -> None:
    seen: list[None] = []
    desk = LintContext(writer(), SENDER)
    assert not check(desk, progress=lambda: seen.append(None))
    assert len(seen) == 4 * sum(len(tags) for tags in desk.inventory.kinds.values()) >= 800


@pytest.mark.parametrize("brand", BRANDS)
def test_every_brand_is_served_as_well(brand: str) -> None:
    desk = LintContext(writer(brand=BRANDS[brand]), SENDER)
    assert not check(desk, languages=["en", "fa-IR"])
