"""`mailroom check` takes a second for the bundled mails: most are parsed by libxml2, few as browsers do."""

from pathlib import Path

import pytest

from mailroom.lint.html import HtmlPage
from mailroom.lint.rules.rendered import LintContext
from mailroom.lint.runner import check, count
from tests.rendering.overlays import renderer_with
from tests.rendering.samples import CODE_KINDS, SENDER

OVERLAY = {
    **{f"{kind}/html.jinja": '{% extends "Generic/html.jinja" %}' for kind in CODE_KINDS if kind != "Generic"},
    "parts/code.html.jinja": "<p>{{ code }}</p>",
    "layout.text.jinja": '{% extends "bundled/layout.text.jinja" %}',
    "locales/de.toml": '[SignIn]\ntitle = "Anmelden"\n',
}
PARSED_AT_MOST = 100
"""Parsing one mail as browsers do takes 5 ms."""


def test_few_mails_are_parsed_as_browsers_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str] = []
    parse = HtmlPage._parse

    def counted(page: HtmlPage, html: str) -> object:
        parsed.append(html)
        return parse(page, html)

    monkeypatch.setattr(HtmlPage, "_parse", counted)
    context = LintContext(renderer_with(tmp_path, OVERLAY), SENDER)
    assert len(OVERLAY) == 10
    check(context)
    assert count(context) == 1360
    assert len(parsed) <= PARSED_AT_MOST
