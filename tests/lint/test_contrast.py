"""Which colours the contrast rule considers."""

from dataclasses import replace

import pytest
from msgspec import structs

from mailroom.lint.rule import RenderedMail
from mailroom.lint.rules.contrast import check_contrast
from mailroom.lint.rules.rendered import LintContext
from mailroom.lint.samples import Sample
from tests.rendering.samples import SENDER, make_renderer

MADE = LintContext(make_renderer(), SENDER).render("SignIn", "en", Sample.FULL)


def problems(body: str, style: str = "", meta: str = "") -> list[str]:
    assert isinstance(MADE, RenderedMail)
    html = f"<!doctype html><html><head>{meta}<style>{style}</style></head><body>{body}</body></html>"
    return [said.problem for said in check_contrast(replace(MADE, email=structs.replace(MADE.email, html=html)))]


DARK = "@media (prefers-color-scheme:dark){%s}"
AWARE = '<meta name="color-scheme" content="light dark">'


@pytest.mark.parametrize(
    ("body", "style", "told"),
    [
        ('<p style="color:#777">x</p>', "", "light mode “x” is #777777 on #FFFFFF: a contrast of 4.5"),
        ('<p style="color:#999">x</p>', "", "a contrast of 2.8"),
        ('<p style="color:gray">x</p>', "", "#808080 on #FFFFFF"),
        ('<p style="color:rgba(0,0,0,.4)">x</p>', "", "#999999 on #FFFFFF"),
        ('<td bgcolor="#000000"><p>x</p>', "", ""),
        ('<table><tr><td bgcolor="#000000"><p>x</p></td></tr></table>', "", "#000000 on #000000"),
        ('<div style="background:#222"><p style="color:#444">x</p></div>', "", "#444444 on #222222"),
        ('<p style="color:#000"><font color="#eeeeee">x</font></p>', "", "#EEEEEE on #FFFFFF"),
        ('<p class="a">x</p>', ".a{color:#ccc}", "#CCCCCC"),
        ('<p class="a" style="color:#000">x</p>', ".a{color:#ccc}", ""),
        ('<p class="a" style="color:#000">x</p>', ".a{color:#ccc!important}", "#CCCCCC"),
        ('<p style="color:#000">x</p>', DARK % "body{background:#111}", "in dark mode “x” is #000000 on #111111"),
        ('<p class="a" style="color:#000">x</p>', DARK % "body{background:#111}.a{color:#eee!important}", ""),
        ('<img alt="Acme" style="color:#ddd">', "", "“Acme” is #DDDDDD"),
    ],
)
def test_unreadable_text_is_reported(body: str, style: str, told: str) -> None:
    found = problems(body, style)
    assert bool(found) == bool(told), found
    assert told in (found or [""])[0]


@pytest.mark.parametrize(
    "body",
    [
        '<p style="display:none;color:#fff">x</p>',
        '<div style="max-height:0;overflow:hidden"><p style="color:#fff">x</p></div>',
        '<p style="color:#fff"> \n </p>',
        '<h1 style="color:#8a8a8a">large</h1>',
        '<p style="color:#8a8a8a;font:700 19px/24px sans-serif">large and bold</p>',
        '<div style="background:url(https://acme.example/a.png)"><p style="color:#fff">on a picture</p></div>',
        '<div style="background:linear-gradient(#000,#111)"><p style="color:#fff">on a gradient</p></div>',
    ],
)
def test_hidden_and_large_texts_and_texts_on_images_are_not_reported(body: str) -> None:
    assert not problems(body)


def test_a_page_that_supports_dark_mode_has_a_dark_canvas() -> None:
    assert not problems("<p>x</p>")
    assert not problems("<p>x</p>", meta=AWARE)
    [told] = problems('<p style="color:#333">x</p>', meta=AWARE)
    assert "in dark mode “x” is #333333 on #121212" in told


def test_rules_of_width_are_not_judged() -> None:
    assert not problems('<p class="a">x</p>', "@media (max-width:480px){.a{color:#fff}}")
