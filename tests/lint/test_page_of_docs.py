"""docs/check.md has a heading with number and text for each check."""

import re
from pathlib import Path

from mailroom.lint import CHECKS

PAGE = Path(__file__).parents[2] / "docs" / "check.md"


def test_the_page_has_a_heading_for_every_check() -> None:
    headings = re.findall(r"^### (\d+) (.+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert {int(number): text.casefold() for number, text in headings} == {
        number: text.casefold() for number, text in CHECKS.items()
    }
