"""Finds the template line that produced a line of a mail, for the location of a finding."""

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Final

from jinja2 import nodes

from mailroom.rendering.engines.jinja_engine import dependencies, parse, references
from mailroom.rendering.inventory import Inventory, MailSources

_JINJA_TAG: Final = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}")
_CLOSING_TAGS: Final = re.compile(r"\s*(</[\w-]+>\s*)+")
"""A line of nothing else is everywhere."""
_ATTRIBUTES: Final = re.compile(r"<([\w-]+)[^>]*>")
_SHORTEST_MATCH: Final = 12
"""Minimum characters of a template line to be recognized: shorter ones like `<br>` are everywhere."""
_SHORTEST_OWN_MATCH: Final = 4
"""The same in the files of the operator, which are the likely cause."""
_parse: Final = lru_cache(maxsize=1024)(parse)
"""Layers share most templates."""


class SourceLines:
    """The source texts of an inventory's templates and translations."""

    def __init__(self, inventory: Inventory) -> None:
        self._templates = inventory.layers.sources
        self._folders = inventory.folders
        self._levels = inventory.layers.levels
        self.files = lru_cache(maxsize=512)(self._find_files)
        self.translation = lru_cache(maxsize=4096)(self._find_translation)
        self._lines = lru_cache(maxsize=512)(self._split_lines)

    def _find_files(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Return templates and all that they extend and include."""
        return dependencies(self._templates, *names)

    def file(self, name: str) -> str:
        """Return a template's file as the renderer names it."""
        return self._templates[name].place if name in self._templates else name

    def uppermost(self, names: tuple[str, ...]) -> str:
        """Return, of these templates and their dependencies, the file in the uppermost layer."""
        return self.file(max(self.files(names) or names, key=lambda name: self._levels.get(name, 0)))

    def tree(self, name: str) -> nodes.Template:
        """Return a parsed template; an empty one if it is not valid Jinja."""
        return _parse(self._text(name))

    def _text(self, name: str) -> str:
        """Return a template's text; a Logto template is named by its file."""
        if name in self._templates:
            return self._templates[name].text
        return next(
            (_read(folder / name.removeprefix(top)) for top, folder in self._folders if name.startswith(top)), ""
        )

    def logto_key(self, content: str, key: str) -> tuple[str, int | None]:
        """Return file and line of a key of a Logto template, which is named by its content's file."""
        settings = f"{content.rpartition('.')[0]}.toml"
        return settings, dict(_key_lines(self._text(settings))).get(("", key))

    def has_computed_references(self, names: tuple[str, ...]) -> bool:
        """Return whether one of these computes the name of another when it is rendered: `{% include part %}`."""
        return any(None in references(self._text(file)) for file in self.files(names))

    def template_line(self, mail_sources: MailSources, html: str, line: str) -> tuple[str, int | None]:
        """Return file and line of the template line that most likely produced this line of HTML.

        If the line cannot be recognized, the nearest one above it is used (of the operator's files, if they take part),
        else the uppermost file without a line.
        """
        files = self.files(mail_sources.templates) or mail_sources.templates
        own = [file for file in files if self._levels.get(file)]
        lines = html.split("\n")
        at = next((number for number, other in enumerate(lines) if line in other), -1)
        match = (
            self._find_line(own, line, shortest=_SHORTEST_OWN_MATCH)
            or self._find_line(files, line)
            or self._find_line(own, _bare(line), is_bare=True)
        )
        for other in () if match else reversed(lines[: max(at, 0)]):
            # The bundled templates have no faults, so one that cannot be recognized is the operator's.
            match = self._find_line(own or files, other) or self._find_line(own, _bare(other), is_bare=True)
            if match:
                break
        return (self.file(match[0]), match[1]) if match else (self.uppermost(mail_sources.templates), None)

    def _find_line(
        self, files: Iterable[str], rendered: str, *, shortest: int = _SHORTEST_MATCH, is_bare: bool = False
    ) -> tuple[str, int] | None:
        """Return the line that resembles the rendered one most; `is_bare`: apart from the attributes of its tags.

        These are rewritten where a style sheet is put into the elements.
        """
        best, score = None, shortest - 1
        for file in files:
            for number, pieces in self._lines(file, is_bare):
                length = _match_length(pieces, rendered)
                if length > score:
                    best, score = (file, number), length
        return best

    def _split_lines(self, name: str, is_bare: bool) -> tuple[tuple[int, tuple[str, ...]], ...]:  # noqa: FBT001 - a key of the cache
        text = _bare(self._text(name)) if is_bare else self._text(name)
        lines = (
            (number, line) for number, line in enumerate(text.splitlines(), 1) if not _CLOSING_TAGS.fullmatch(line)
        )
        return tuple((number, tuple(filter(None, map(str.strip, _JINJA_TAG.split(line))))) for number, line in lines)

    def _find_translation(self, language: str, kind: str, key: str) -> tuple[str, int | None]:
        """Return file and line of a translation: in the kind's table, else in the common one."""
        name = f"locales/{language}.toml"
        lines_by_file = [(label + name, dict(_key_lines(_read(folder / name)))) for label, folder in self._folders]
        for table in (kind, "common"):
            for file, lines in lines_by_file:
                if line := lines.get((table, key)):
                    return file, line
        return name, None


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _bare(html: str) -> str:
    """Return HTML without the attributes of its tags; it keeps its lines."""
    return _ATTRIBUTES.sub(lambda tag: f"<{tag[1]}>" + "\n" * tag[0].count("\n"), html)


def _match_length(pieces: tuple[str, ...], rendered: str) -> int:
    """Return the length of a template line's pieces if a rendered line contains all in order; else 0."""
    at = total = 0
    for piece in pieces:
        start = rendered.find(piece, at)
        if start < 0:
            return 0
        at = start + len(piece)
        total += len(piece)
    return total


def _key_lines(toml: str) -> Iterator[tuple[tuple[str, str], int]]:
    table = ""
    for number, line in enumerate(toml.splitlines(), 1):
        if heading := re.match(r"\[([\w-]+)\]", line):
            table = heading[1]
        elif key := re.match(r"([\w-]+)[\s.=]", line):
            yield (table, key[1]), number
