"""docs/check.md has a heading with number and text for each check."""

import re
from pathlib import Path

from mailroom.checking import CHECKS

PAGE = Path(__file__).parents[2] / "docs" / "check.md"


def test_the_page_tells_of_every_check() -> None:
    told = re.findall(r"^### (\d+) (.+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert {int(number): words.casefold() for number, words in told} == {
        number: words.casefold() for number, words in CHECKS.items()
    }
