"""Text is readable with every brand colour."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailroom.rendering.colors import (
    BLACK,
    DARK_BACKGROUND,
    LIGHT_BACKGROUND,
    READABLE,
    WHITE,
    contrast,
    palette,
)
from tests.rendering.samples import unhurried

colors = st.integers(0, 0xFFFFFF).map("#{:06X}".format)


@unhurried
@given(colors)
def test_every_brand_colour_gives_a_readable_mail_in_light_and_dark(color: str) -> None:
    found = palette(color)
    assert contrast(found.on_button, found.button) >= READABLE
    assert contrast(found.link, LIGHT_BACKGROUND) >= READABLE
    assert contrast(found.link, WHITE) >= READABLE
    assert contrast(found.dark_link, DARK_BACKGROUND) >= READABLE


def test_a_readable_colour_stays_as_it_is() -> None:
    assert palette("#5D34F2").link == "#5D34F2"


def test_yellow_is_darkened_for_links_and_lettered_in_black() -> None:
    found = palette("#FFD400")
    assert (found.button, found.on_button, found.dark_link) == ("#FFD400", BLACK, "#FFD400")
    assert found.link != "#FFD400"


@pytest.mark.parametrize(("one", "other", "ratio"), [("#000000", "#FFFFFF", 21), ("#777777", "#FFFFFF", 4.48)])
def test_contrast_is_that_of_wcag(one: str, other: str, ratio: float) -> None:
    assert contrast(one, other) == contrast(other, one) == pytest.approx(ratio, abs=0.005)
