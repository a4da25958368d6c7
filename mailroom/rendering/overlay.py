"""Reads an operator's template folder, which overrides the bundled templates file by file and text by text.

    my-templates/
        locales/<tag>.toml              translations by key; a new table adds a kind, a new file a language
        layout.html.jinja  parts/…      templates by name
        <Kind>/html.jinja  text.jinja   and <Kind>/<tag>/… for one language only
        <Kind>/logto/<tag>.toml         a Logto template, with <tag>.html or <tag>.txt; or default.toml
        applications/<id>/…             the same for one application
        organizations/<id>/…            the same for one organization; has precedence

A file with a fault is reported and replaced by its last valid version, else by the layer below: codes must be sent.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Final, TypeAlias, TypeVar

from mailroom.errors import Fault, RenderingError
from mailroom.message import Payload
from mailroom.rendering.engines import logto_engine
from mailroom.rendering.engines.jinja_engine import ENDING, Source, check
from mailroom.rendering.engines.logto_engine import LogtoTemplate
from mailroom.rendering.engines.markup import MARK, Position, find_positions
from mailroom.rendering.languages import translations
from mailroom.rendering.languages.negotiation import is_tag
from mailroom.rendering.languages.translations import Tables

DEFAULT: Final = "default"
"""In place of a tag: the template for all other languages."""

LONGEST_FILE: Final = 512 * 1024
_MAX_FILES: Final = 20_000
_MAX_DEPTH: Final = 8

_OWNER_FOLDERS: Final = ("applications", "organizations")
_CONTENT_SUFFIXES: Final = ("html", "txt")
_IGNORED: Final = (".md", ".orig", ".bak", "~")
_TRANSLATIONS_NAME: Final = re.compile(r"locales/[^/]+\.toml")
_LOGTO_NAME: Final = re.compile(r"(?P<kind>[A-Za-z0-9][A-Za-z0-9_-]{0,63})/logto/(?P<tag>[^/]+)\.(?:toml|html|txt)")

_EXPRESSION: Final = re.compile(r"\{\{.*?\}\}", re.DOTALL)
_STATEMENT: Final = re.compile(r"\{%.*?%\}|\{#.*?#\}", re.DOTALL)

T = TypeVar("T")

FileStamp: TypeAlias = frozenset[tuple[str, int, int, int]]
"""Each file's name, inode, size and modification time; equal if the folder has not changed."""

_NOT_TEXTS: Final = frozenset({"send_from", "sendFrom", "reply_to", "replyTo"})
"""Keys of Logto's templates, which have no effect in a file of translations."""


@dataclass(frozen=True, slots=True)
class Owner:
    """An application or an organization that has templates of its own."""

    what: str
    """`application` or `organization`, as in Logto's payloads."""
    id: str

    @property
    def folder(self) -> str:
        """Its folder within the operator's templates: `applications/<id>`."""
        return f"{self.what}s/{self.id}"

    @property
    def payload(self) -> Payload:
        """The smallest payload that selects its templates."""
        return {self.what: {"id": self.id}}


@dataclass(frozen=True, slots=True)
class Layer:
    """The valid templates of one folder."""

    templates: Mapping[str, Source] = field(default_factory=dict)
    """Jinja templates by name: `SignIn/html.jinja`."""
    tables: Mapping[str, Tables] = field(default_factory=dict)
    """By language tag."""
    logto: Mapping[str, Mapping[str, LogtoTemplate]] = field(default_factory=dict)
    """By kind, then by language tag or `default`."""


@dataclass(frozen=True, slots=True)
class Overlay:
    """The content of an operator's folder when it was read."""

    root: Layer
    owners: Mapping[Owner, Layer]
    faults: tuple[Fault, ...]
    stamp: FileStamp
    last_valid: Mapping[PurePosixPath, str] = field(repr=False)
    """The text of the last valid version of each file."""


def to_fault(error: RenderingError) -> Fault:
    """Return an error of the form `place: problem` as a fault."""
    place, _, problem = str(error).partition(": ")
    return Fault(place, problem)


def stamp(folder: Path) -> FileStamp:
    """Return the folder's stamp; empty if the folder cannot be read."""
    entries = set()
    for name, file in _files(folder):
        try:
            status = file.stat()
        except OSError:
            continue
        entries.add((name, status.st_ino, status.st_size, status.st_mtime_ns))
    return frozenset(entries)


def read(folder: Path, *, minutes: int, before: Overlay | None = None) -> Overlay:
    """Read the folder. Raises nothing: errors are in `faults`."""
    now = stamp(folder)  # taken first: a file that changes while it is read is read again
    return _FolderReader(folder, minutes, before.last_valid if before else {}).overlay(now)


def bundled(folder: Path, *, minutes: int) -> Layer:
    """Read the bundled templates. Raises RenderingError for the first fault."""
    overlay = _FolderReader(folder, minutes, {}, label="").overlay(frozenset())
    for first in overlay.faults:
        raise RenderingError(f"{first.path}: {first.problem}")
    return overlay.root


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield name and path of each file, except hidden files and editors' backups."""
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
                if len(entry.relative_to(folder).parts) < _MAX_DEPTH:
                    stack.append(entry)
                continue
            count += 1
            if count > _MAX_FILES:
                return
            yield entry.relative_to(folder).as_posix(), entry


class _FolderReader:
    """Reads a folder once and collects its faults."""

    def __init__(
        self, folder: Path, minutes: int, last_valid: Mapping[PurePosixPath, str], *, label: str | None = None
    ) -> None:
        self._folder = folder
        self._minutes = minutes
        self._last_valid = last_valid
        self._label = f"{folder.name}/" if label is None else label
        self._faults: list[Fault] = []
        self._valid: dict[PurePosixPath, str] = {}
        self._texts: dict[PurePosixPath, str] = {}

    def overlay(self, now: FileStamp) -> Overlay:
        if not self._folder.is_dir():
            self._faults.append(Fault(str(self._folder), "is not a folder; the bundled templates are used"))
        for name, file in _files(self._folder):
            if (text := self._read_text(PurePosixPath(name), file)) is not None:
                self._texts[PurePosixPath(name)] = text
        paths_of: dict[Owner | None, list[PurePosixPath]] = {}
        for path in self._texts:
            folder, *inner = path.parts
            owner = Owner(folder.removesuffix("s"), inner[0]) if folder in _OWNER_FOLDERS and inner[1:] else None
            paths_of.setdefault(owner, []).append(path)
        root = self._build_layer(PurePosixPath(), paths_of.pop(None, []))
        owners = {
            owner: self._build_layer(PurePosixPath(owner.folder), paths) for owner, paths in paths_of.items() if owner
        }
        return Overlay(
            root=root,
            owners=owners,
            faults=tuple(self._faults),
            stamp=now,
            last_valid=self._valid,
        )

    def _read_text(self, path: PurePosixPath, file: Path) -> str | None:
        try:
            with file.open("rb") as opened:
                octets = opened.read(LONGEST_FILE + 1)
            if len(octets) <= LONGEST_FILE:
                return octets.decode("utf-8-sig").replace("\r\n", "\n")
            problem = f"is longer than {LONGEST_FILE} octets"
        except UnicodeDecodeError:
            problem = "is not UTF-8 text"
        except OSError as error:
            problem = f"cannot be read: {error.strerror}"
        self._report(path, problem)
        return self._last_valid.get(path)

    def _build_layer(self, folder: PurePosixPath, paths: list[PurePosixPath]) -> Layer:
        templates: dict[str, Source] = {}
        tables: dict[str, Tables] = {}
        logto_templates: dict[str, dict[str, LogtoTemplate]] = {}
        for path in paths:
            name = path.relative_to(folder).as_posix()
            if path.suffix == ENDING:
                if source := self._parse_or_fall_back([path], self._parse_template):
                    templates[name] = source
            elif _TRANSLATIONS_NAME.fullmatch(name):
                if parsed := self._parse_or_fall_back([path], self._parse_tables):
                    tables[path.stem] = parsed
            elif match := _LOGTO_NAME.fullmatch(name):
                settings = path.with_name(f"{path.name.rpartition('.')[0]}.toml")
                if path == settings:
                    contents = [path.with_suffix(f".{ending}") for ending in _CONTENT_SUFFIXES]
                    if template := self._parse_or_fall_back([path, *contents], self._parse_logto):
                        logto_templates.setdefault(match["kind"], {})[match["tag"]] = template
                elif settings not in self._texts:
                    self._report(path, f"is not used; {settings.name} is missing")
            else:
                self._report(path, "is not used; no template has this name")
        return Layer(templates, tables, logto_templates)

    def _parse_or_fall_back(
        self, paths: list[PurePosixPath], parse: Callable[[dict[PurePosixPath, str]], T]
    ) -> T | None:
        """Parse these files, or their last valid versions."""
        for texts in (self._texts, self._last_valid):
            files = {path: texts[path] for path in paths if path in texts}
            if paths[0] not in files:
                continue
            try:
                parsed = parse(files)
            except RenderingError as error:
                if texts is self._texts:
                    self._faults.append(to_fault(error))
                continue
            self._valid |= files
            return parsed
        return None

    def _parse_template(self, files: dict[PurePosixPath, str]) -> Source:
        [(path, text)] = files.items()
        source = Source(text, f"{self._label}{path}")
        if text == self._last_valid.get(path):
            return source
        check(source)
        if path.name.endswith("html.jinja"):
            for place in find_positions(_EXPRESSION.sub(MARK, _STATEMENT.sub("", text))):
                if place in (Position.UNQUOTED, Position.NOWHERE):
                    raise RenderingError(f"{source.place}: puts a value into {place.value}, which is not safe")
        return source

    def _parse_tables(self, files: dict[PurePosixPath, str]) -> Tables:
        [(path, text)] = files.items()
        place = f"{self._label}{path}"
        if self._label and not is_tag(path.stem):  # bundled file names are not checked
            raise RenderingError(f"{place}: its name is not a language tag (BCP 47)")
        tables = translations.parse(text, tag=path.stem, place=place, minutes=self._minutes)
        for key in sorted(_NOT_TEXTS.intersection(chain.from_iterable(tables.tables.values()))):
            line = next((number for number, row in enumerate(text.splitlines(), 1) if key in row), 1)
            problem = (
                f"{key} has no effect here: Logto's templates may set it (<kind>/logto/{path.name}); for all others"
            )
            self._faults.append(
                Fault(f"{place}, line {line}", f"{problem} `from` and `reply_to` of the settings count")
            )
        return tables

    def _parse_logto(self, files: dict[PurePosixPath, str]) -> LogtoTemplate:
        sources = {path.suffix[1:]: Source(text, f"{self._label}{path}") for path, text in files.items()}
        [tag] = {path.stem for path in files}
        if tag != DEFAULT and not is_tag(tag):
            raise RenderingError(
                f"{sources['toml'].place}: its name is neither a language tag (BCP 47) nor `{DEFAULT}`"
            )
        template = logto_engine.parse(tag, sources.pop("toml"), sources)
        for placeholder in template.html.unfilled_placeholders() if template.html else ():
            problem = f"{placeholder} stays empty, because it is in {Position.NOWHERE.value}"
            self._faults.append(Fault(template.place, problem))
        return template

    def _report(self, path: PurePosixPath, problem: str) -> None:
        self._faults.append(Fault(f"{self._label}{path}", problem))
