"""Finds the template line that made a line of a mail, so that a finding can name it."""

import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Final

from jinja2 import Environment, TemplateError, nodes

from mailroom.rendering.engine import references
from mailroom.rendering.inventory import Ingredients, Inventory

_FILLED_IN: Final = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}")
_TOO_SHORT: Final = 12
"""Characters of a template's line by which it cannot be told: `</td></tr>` is everywhere."""
_PARSER: Final = Environment(trim_blocks=True, lstrip_blocks=True)  # noqa: S701 - it renders nothing


class Sources:
    """The templates and words of an inventory, by name."""

    def __init__(self, inventory: Inventory) -> None:
        self._templates = inventory.sources
        self._folders = inventory.folders
        self._level = inventory.level
        self.files = lru_cache(maxsize=512)(self._files)
        self.word = lru_cache(maxsize=4096)(self._word)
        self._lines = lru_cache(maxsize=512)(self._split)

    def file(self, name: str) -> str:
        """Return a template's file as the writer names it."""
        return self._templates[name].place if name in self._templates else name

    def uppermost(self, names: tuple[str, ...]) -> str:
        """Return the file of the highest layer that takes part in these: whoever wrote that has to mend it."""
        return self.file(max(self.files(names) or names, key=self._level))

    def tree(self, name: str) -> nodes.Template:
        """Return a template parsed; an empty one if it is no Jinja."""
        return _parsed(self._text(name))

    def _text(self, name: str) -> str:
        """Return a template's text; nothing if it is none of Jinja's."""
        return self._templates[name].text if name in self._templates else ""

    def _files(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Return templates with everything that they extend and include."""
        found: dict[str, None] = {}
        waiting = list(names)
        while waiting:
            name = waiting.pop(0)
            if name not in found and name in self._templates:
                found[name] = None
                waiting += [other for other in references(self._text(name)) if other]
        return tuple(found)

    def choose_while_written(self, names: tuple[str, ...]) -> bool:
        """Tell whether one of these names another only when it is rendered: `{% include part %}`."""
        return any(None in references(self._text(file)) for file in self.files(names))

    def place(self, ingredients: Ingredients, html: str, line: str) -> tuple[str, int | None]:
        """Return file and line of the template that most likely made this line of the HTML.

        Where nothing but values stands on it, the nearest line above it that can be told; else the kind's own file.
        """
        lines = html.split("\n")
        at = next((number for number, other in enumerate(lines) if line in other), -1)
        for other in (line, *reversed(lines[: max(at, 0)])):
            found = self._made(ingredients, other)
            if found:
                return self.file(found[0]), found[1]
        return self.file(ingredients.templates[0]), None

    def _made(self, ingredients: Ingredients, rendered: str) -> tuple[str, int] | None:
        best, score = None, 0
        for file in self.files(ingredients.templates):
            for number, pieces in self._lines(file):
                found = _matched(pieces, rendered)
                if found > score:
                    best, score = (file, number), found
        return best

    def _split(self, name: str) -> tuple[tuple[int, tuple[str, ...]], ...]:
        lines = enumerate(self._text(name).splitlines(), 1)
        return tuple((number, tuple(filter(None, map(str.strip, _FILLED_IN.split(line))))) for number, line in lines)

    def _word(self, language: str, kind: str, key: str) -> tuple[str, int | None]:
        """Return file and line of a word: in the kind's own table, else in the common one."""
        name = f"locales/{language}.toml"
        found = [(label + name, dict(_words(_read(folder / name)))) for label, folder in self._folders]
        for table in (kind, "common"):
            for file, lines in found:
                if line := lines.get((table, key)):
                    return file, line
        return name, None


@lru_cache(maxsize=1024)
def _parsed(text: str) -> nodes.Template:
    """Return a template parsed; the layers have most of theirs in common."""
    try:
        return _PARSER.parse(text)
    except TemplateError:
        return nodes.Template([])


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _matched(pieces: tuple[str, ...], rendered: str) -> int:
    """Return how many characters of a template's line are found in a rendered one, in their order; 0: not all."""
    at = total = 0
    for piece in pieces:
        found = rendered.find(piece, at)
        if found < 0:
            return 0
        at = found + len(piece)
        total += len(piece)
    return total if total >= _TOO_SHORT else 0


def _words(toml: str) -> Iterator[tuple[tuple[str, str], int]]:
    table = ""
    for number, line in enumerate(toml.splitlines(), 1):
        if heading := re.match(r"\[([\w-]+)\]", line):
            table = heading[1]
        elif key := re.match(r"([\w-]+)[\s.=]", line):
            yield (table, key[1]), number
