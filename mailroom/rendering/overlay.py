"""Reads an operator's folder of templates: what lies over the bundled ones, also for one application or organization.

    my-templates/
        locales/<tag>.toml              words, key by key; a new table is a new kind, a new file a new language
        layout.html.jinja  parts/…      templates, by name
        <Kind>/html.jinja  text.jinja   and <Kind>/<tag>/… for one language only
        <Kind>/logto/<tag>.toml         a template of Logto's, with <tag>.html or <tag>.txt; `default` for the rest
        applications/<id>/…             the same again for one application
        organizations/<id>/…            and for one organization, which wins

A file with a fault is told and stands back: for what it last was, or for what lies below it. A code must go out.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final, TypeAlias, TypeVar

from mailroom.errors import Fault, RenderingError
from mailroom.rendering import logto, words
from mailroom.rendering.engine import ENDING, Source, check
from mailroom.rendering.locales import is_tag
from mailroom.rendering.logto import LogtoTemplate
from mailroom.rendering.markup import MARK, Place, places
from mailroom.rendering.words import Tables

DEFAULT: Final = "default"
"""Stands for a tag: the template for readers of all other languages."""

LONGEST_FILE: Final = 512 * 1024
_MOST_FILES: Final = 20_000

_FOLDERS: Final = ("applications", "organizations")
_CONTENTS: Final = ("html", "txt")
_IGNORED: Final = (".md", ".orig", ".bak", "~")
_WORDS: Final = re.compile(r"locales/[^/]+\.toml")
_LOGTO: Final = re.compile(r"(?P<kind>[A-Za-z0-9][A-Za-z0-9_-]{0,63})/logto/(?P<tag>[^/]+)\.(?:toml|html|txt)")

_EXPRESSION: Final = re.compile(r"\{\{.*?\}\}", re.DOTALL)
_STATEMENT: Final = re.compile(r"\{%.*?%\}|\{#.*?#\}", re.DOTALL)

T = TypeVar("T")

Stamp: TypeAlias = frozenset[tuple[str, int, int, int]]
"""Each file's name, inode, size and time of change: equal stamps, equal folders."""


@dataclass(frozen=True, slots=True)
class Layer:
    """The templates of one folder, each file of them sound by itself."""

    templates: Mapping[str, Source] = field(default_factory=dict)
    """Jinja templates by name: `SignIn/html.jinja`."""
    words: Mapping[str, Tables] = field(default_factory=dict)
    """By tag."""
    logto: Mapping[tuple[str, str], LogtoTemplate] = field(default_factory=dict)
    """By kind and tag, or `default`."""


@dataclass(frozen=True, slots=True)
class Overlay:
    """An operator's folder at one time."""

    root: Layer
    applications: Mapping[str, Layer]
    organizations: Mapping[str, Layer]
    faults: tuple[Fault, ...]
    stamp: Stamp
    kept: Mapping[str, str] = field(repr=False)
    """The files as they last were without fault."""


def stamp(folder: Path) -> Stamp:
    """Return what tells whether a folder has changed; that of a folder which cannot be read is empty."""
    found = set()
    for name, file in _files(folder):
        try:
            status = file.stat()
        except OSError:
            continue
        found.add((name, status.st_ino, status.st_size, status.st_mtime_ns))
    return frozenset(found)


def read(folder: Path, *, minutes: int, before: Overlay | None = None) -> Overlay:
    """Return the folder as it is. Raises nothing: what is wrong is among the faults."""
    now = stamp(folder)  # first: what changes while we read is read again
    return _Reading(folder, minutes, before.kept if before else {}).overlay(now)


def bundled(folder: Path, *, minutes: int) -> Layer:
    """Return the templates that come with Mailroom. Raises RenderingError for the first fault."""
    reading = _Reading(folder, minutes, {}, label="")
    overlay = reading.overlay(frozenset())
    if overlay.faults:
        first = overlay.faults[0]
        raise RenderingError(f"{first.path}: {first.problem}")
    return overlay.root


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield the files that may be ours; hidden ones, and what editors leave behind, are nobody's."""
    count = 0
    stack = [folder]
    while stack:
        try:
            entries = sorted(stack.pop().iterdir())
        except OSError:
            continue
        for entry in entries:
            if entry.name.startswith(".") or entry.name.endswith(_IGNORED):
                continue
            if entry.is_dir():
                if len(entry.relative_to(folder).parts) < _DEEPEST:
                    stack.append(entry)
                continue
            count += 1
            if count > _MOST_FILES:
                return
            yield entry.relative_to(folder).as_posix(), entry


_DEEPEST: Final = 8


class _Reading:
    """Reads one folder once."""

    def __init__(self, folder: Path, minutes: int, kept: Mapping[str, str], *, label: str | None = None) -> None:
        self._folder = folder
        self._minutes = minutes
        self._before = kept
        self._label = f"{folder.name}/" if label is None else label
        self._faults: list[Fault] = []
        self._kept: dict[str, str] = {}
        self._texts: dict[str, str] = {}

    def overlay(self, now: Stamp) -> Overlay:
        if not self._folder.is_dir():
            self._faults.append(Fault(str(self._folder), "is no folder; the bundled templates are used"))
        for name, file in _files(self._folder):
            text = self._text(name, file)
            if text is not None:
                self._texts[name] = text
        names: dict[tuple[str, ...], list[PurePosixPath]] = {}
        for name in self._texts:
            path = PurePosixPath(name)
            owner = path.parts[:2] if path.parts[0] in _FOLDERS and len(path.parts) > 2 else ()  # noqa: PLR2004 - owner's folder, id, file
            names.setdefault(owner, []).append(path)
        layers = {owner: self._layer(owner, paths) for owner, paths in names.items()}
        return Overlay(
            root=layers.get((), Layer()),
            applications={owner[1]: layer for owner, layer in layers.items() if owner[:1] == ("applications",)},
            organizations={owner[1]: layer for owner, layer in layers.items() if owner[:1] == ("organizations",)},
            faults=tuple(self._faults),
            stamp=now,
            kept=self._kept,
        )

    def _text(self, name: str, file: Path) -> str | None:
        try:
            with file.open("rb") as opened:
                octets = opened.read(LONGEST_FILE + 1)
            if len(octets) <= LONGEST_FILE:
                return octets.decode("utf-8-sig").replace("\r\n", "\n")
            problem = f"is longer than {LONGEST_FILE} octets"
        except (OSError, UnicodeDecodeError) as error:
            problem = f"cannot be read as UTF-8 text ({type(error).__name__})"
        self._tell(RenderingError(f"{self._label}{name}: {problem}"))
        return self._before.get(name)

    def _layer(self, owner: tuple[str, ...], paths: list[PurePosixPath]) -> Layer:
        templates: dict[str, Source] = {}
        tables: dict[str, Tables] = {}
        made: dict[tuple[str, str], LogtoTemplate] = {}
        for path in paths:
            name = path.relative_to(*owner[:1]).relative_to(*owner[1:]) if owner else path
            if path.suffix == ENDING:
                if source := self._sound([path], self._template):
                    templates[name.as_posix()] = source
            elif _WORDS.fullmatch(name.as_posix()):
                if parsed := self._sound([path], self._words):
                    tables[path.stem] = parsed
            elif match := _LOGTO.fullmatch(name.as_posix()):
                settings = path.with_name(f"{path.name.rpartition('.')[0]}.toml")
                if path == settings:
                    contents = [path.with_suffix(f".{ending}") for ending in _CONTENTS]
                    if template := self._sound([path, *contents], self._logto):
                        made[match["kind"], match["tag"]] = template
                elif settings.as_posix() not in self._texts:
                    self._tell(
                        RenderingError(f"{self._label}{path}: is not used; {settings.name} is missing beside it")
                    )
            else:
                self._tell(RenderingError(f"{self._label}{path}: is not used; nothing has this name"))
        return Layer(templates, tables, made)

    def _sound(self, paths: list[PurePosixPath], parse: Callable[[dict[PurePosixPath, str]], T]) -> T | None:
        """Return what these files make as they are, else as they last were without fault."""
        for texts in (self._texts, self._before):
            given = {path: texts[path.as_posix()] for path in paths if path.as_posix() in texts}
            if paths[0] not in given:
                continue
            try:
                made = parse(given)
            except RenderingError as error:
                if texts is self._texts:
                    self._tell(error)
                continue
            self._kept.update({path.as_posix(): text for path, text in given.items()})
            return made
        return None

    def _template(self, given: dict[PurePosixPath, str]) -> Source:
        [(path, text)] = given.items()
        source = Source(text, f"{self._label}{path}")
        if text == self._before.get(path.as_posix()):
            return source
        check(source)
        if path.name.endswith("html.jinja"):
            for place in places(_EXPRESSION.sub(MARK, _STATEMENT.sub("", text))):
                if place in (Place.UNQUOTED, Place.NOWHERE):
                    raise RenderingError(f"{source.place}: puts a value into {place.value}, where it could do anything")
        return source

    def _words(self, given: dict[PurePosixPath, str]) -> Tables:
        [(path, text)] = given.items()
        place = f"{self._label}{path}"
        if self._label and not is_tag(path.stem):  # the bundled ones are known to be
            raise RenderingError(f"{place}: its name is no language tag (BCP 47)")
        return words.parse(text, tag=path.stem, place=place, minutes=self._minutes)

    def _logto(self, given: dict[PurePosixPath, str]) -> LogtoTemplate:
        sources = {path.suffix[1:]: Source(text, f"{self._label}{path}") for path, text in given.items()}
        [tag] = {path.stem for path in given}
        if tag != DEFAULT and not is_tag(tag):
            raise RenderingError(f"{sources['toml'].place}: its name is no language tag (BCP 47), nor `{DEFAULT}`")
        template = logto.parse(tag, sources.pop("toml"), sources)
        for misplaced in template.html.misplaced() if template.html else ():
            self._tell(RenderingError(f"{template.place}: {misplaced} stays empty: it is in {Place.NOWHERE.value}"))
        return template

    def _tell(self, error: RenderingError) -> None:
        place, _, problem = str(error).partition(": ")
        self._faults.append(Fault(place, problem))
