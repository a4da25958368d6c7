"""Loads the words of the mails: one TOML file a language, `locales/<tag>.toml`, and no HTML in it.

`[common]` holds what every mail says, a table named as a kind (`[SignIn]`) what that kind says, or says otherwise.
A word is a text with simple placeholders (`{app}`), or, where it tells `{minutes}`, a table of the language's
plural forms (`one`, `few`, `many`, `other`). `direction` is `ltr` or `rtl`; `digits` are for a language that has its
own. All of it is checked when it is loaded, and the plurals are chosen then. An overlay's files hold what they change.
"""

import string
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from mailroom.errors import RenderingError
from mailroom.rendering.plurals import rule

PLACEHOLDERS: Final = frozenset({"app", "platform", "organization", "inviter", "name", "code", "recipient"})
"""What may stand in every word; beside them `{minutes}` in plural forms, `{validity}` (the common word) elsewhere."""

_DIRECTIONS: Final = ("ltr", "rtl")
_COMMON: Final = "common"
_PROPERTIES: Final = ("direction", "digits")
_MINUTES: Final = "\ue001"
"""Stands for the number until the language's digits are known."""


@dataclass(frozen=True, slots=True)
class Locale:
    """One language's words."""

    tag: str
    direction: str
    """`ltr` or `rtl`."""
    kinds: Mapping[str, Mapping[str, str]]
    """Kind -> key -> text, with the common words laid under each; the placeholders but `{minutes}` still in them."""

    @property
    def constants(self) -> Mapping[str, str]:
        """What templates know of the language: its tag, its direction, and the side where its lines begin."""
        return {
            "lang": self.tag,
            "dir": self.direction,
            "start": "right" if self.direction == "rtl" else "left",
        }


@dataclass(frozen=True, slots=True)
class Tables:
    """One file's words as they are written, the plurals chosen; several of a language can lie on each other."""

    tag: str
    place: str
    """The file's name, for errors."""
    direction: str
    """Empty: that of the words below."""
    digits: str
    """Likewise."""
    minutes: int
    tables: Mapping[str, Mapping[str, str]]
    """Kind, or `common`, -> key -> text."""

    def over(self, below: "Tables | None") -> "Tables":
        """Return these words laid over others of the same language, key by key."""
        if below is None:
            return self
        tables = {kind: {**below.tables.get(kind, {}), **words} for kind, words in self.tables.items()}
        return replace(
            self,
            direction=self.direction or below.direction,
            digits=self.digits or below.digits,
            tables={**below.tables, **tables},
        )

    def locale(self) -> Locale:
        """Return the language's words. Raises RenderingError if nothing tells its direction."""
        if not self.direction:
            raise RenderingError(f'{self.place}: direction is missing; it is "ltr" or "rtl"')
        number = str(self.minutes).translate(str.maketrans(string.digits, self.digits or string.digits))
        common = self.tables.get(_COMMON, {})
        validity = common.get("validity", "").replace(_MINUTES, number)
        kinds = {
            kind: {
                key: text.replace("{validity}", validity).replace(_MINUTES, number)
                for key, text in {**common, **words}.items()
            }
            for kind, words in self.tables.items()
            if kind != _COMMON
        }
        return Locale(self.tag, self.direction, kinds)


def load(folder: Path, *, minutes: int) -> dict[str, Locale]:
    """Return the locales of a folder by their tags. Raises RenderingError with file and line."""
    found = {}
    for file in sorted(folder.glob("*.toml")):
        place = f"{folder.name}/{file.name}"
        try:
            source = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise RenderingError(f"{place}: cannot be read as UTF-8 text ({type(error).__name__})") from error
        found[file.stem] = parse(source, tag=file.stem, place=place, minutes=minutes).locale()
    return found


def parse(source: str, *, tag: str, place: str, minutes: int) -> Tables:
    """Return the words of one file. Raises RenderingError with file and line."""
    return _Reader(source, tag, place, minutes).tables()


def compare(locale: Locale, reference: Locale, *kinds: str) -> None:
    """Raise RenderingError for the first word that this locale lacks: a kind is said in full, or not at all.

    Whatever it says (or of it these kinds), the reference says too: the readers of a language without words for a
    kind get the reference's.
    """
    for kind in kinds or locale.kinds:
        if kind not in reference.kinds:
            raise RenderingError(
                f"locales/{locale.tag}.toml has [{kind}], and {reference.tag}.toml, the default, has not"
            )
        for key in reference.kinds[kind]:
            if key not in locale.kinds[kind]:
                raise RenderingError(f"locales/{locale.tag}.toml: [{kind}] lacks {key}, which {reference.tag}.toml has")


class _Reader:
    """Reads one file."""

    def __init__(self, source: str, tag: str, place: str, minutes: int) -> None:
        self._source = source
        self._name = place
        self._tag = tag
        self._minutes = minutes
        self._rule = rule(tag)
        self._table_at = 0
        self._lines = source.splitlines()

    def tables(self) -> Tables:
        try:
            content = tomllib.loads(self._source)
        except tomllib.TOMLDecodeError as error:
            raise RenderingError(f"{self._name}: {error}") from error
        direction = content.get("direction", "")
        if direction not in ("", *_DIRECTIONS):
            raise self._fault("direction", 'must be "ltr" or "rtl"')
        digits = content.get("digits", "")
        if not isinstance(digits, str) or len(digits) not in (0, len(string.digits)):
            raise self._fault("digits", "must be the ten digits from nought to nine")
        tables = {kind: self._table(kind, words) for kind, words in content.items() if kind not in _PROPERTIES}
        return Tables(self._tag, self._name, direction, digits, self._minutes, tables)

    def _table(self, kind: str, words: Any) -> dict[str, str]:
        if not isinstance(words, dict):
            raise self._fault(kind, "is no table of words")
        headings = (number for number, text in enumerate(self._lines, 1) if text.startswith(f"[{kind}]"))
        self._table_at = next(headings, 0)
        return {key: self._word(key, word) for key, word in words.items()}

    def _word(self, key: str, word: Any) -> str:
        if isinstance(word, str):
            return self._checked(key, word, PLACEHOLDERS | {"validity"})
        if not isinstance(word, dict) or set(word) != set(self._rule.forms):
            raise self._fault(key, f"must be a text, or a table with the forms {', '.join(self._rule.forms)}")
        for form in word.values():
            self._checked(key, form, PLACEHOLDERS | {"minutes"})
        chosen: str = word[self._rule.form(self._minutes)]
        return chosen.replace("{minutes}", _MINUTES)

    def _checked(self, key: str, text: Any, allowed: frozenset[str]) -> str:
        try:
            pieces = list(string.Formatter().parse(text))
        except (ValueError, TypeError):
            raise self._fault(key, "is no text, or its braces do not match") from None
        for _, field, format_, conversion in pieces:
            if field is not None and (field not in allowed or format_ or conversion):
                known = ", ".join(f"{{{one}}}" for one in sorted(allowed))
                raise self._fault(f"{{{field}", f"is no placeholder here; there are {known}")
        assert isinstance(text, str)  # the parser takes nothing else
        return text

    def _fault(self, what: str, problem: str) -> RenderingError:
        """Return the error, at the table's first line that holds these letters."""
        lines = enumerate(self._lines, 1)
        line = next((number for number, text in lines if number > self._table_at and what in text), self._table_at)
        return RenderingError(f"{self._name}, line {line}: {what.removeprefix('{')} {problem}")
