"""A copy of the bundled templates for tests to modify."""

import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import pytest

from mailroom.lint import Finding
from mailroom.lint.rules.rendered import LintContext
from mailroom.lint.runner import check
from mailroom.rendering.renderer import BUNDLED
from tests.rendering.samples import SENDER, make_renderer


@dataclass
class Copy:
    """A copy of the templates, for tests that add defects."""

    folder: Path

    def replace(self, file: str, old: str, new: str) -> None:
        path = self.folder / file
        text = path.read_text(encoding="utf-8")
        assert old in text, f"{old!r} is not in {file}: the test changes nothing"
        path.write_text(text.replace(old, new), encoding="utf-8")

    def context(self) -> LintContext:
        return LintContext(make_renderer(templates=self.folder), SENDER)

    def check(self, kinds: Collection[str], languages: Collection[str] = ("en", "ar")) -> list[Finding]:
        return check(self.context(), kinds=kinds, languages=languages)


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    folder = tmp_path / "mails"
    shutil.copytree(BUNDLED, folder)
    return Copy(folder)
