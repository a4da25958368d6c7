"""Loads the words of the mails: one TOML file a language, `locales/<tag>.toml`, and no HTML in it.

`[common]` holds what every mail says, a table named as a kind (`[SignIn]`) what that kind says, or says otherwise.
A word is a text with simple placeholders (`{app}`), or, where it tells `{minutes}`, a table of the language's
plural forms (`one`, `few`, `many`, `other`). All of it is checked when it is loaded, and the plurals are chosen then.
"""

import string
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import langcodes

from mailroom.errors import RenderingError
from mailroom.rendering.plurals import rule

PLACEHOLDERS: Final = frozenset({"app", "platform", "organization", "inviter", "name", "code", "recipient"})
"""What may stand in every word; beside them `{minutes}` in plural forms, `{validity}` (the common word) elsewhere."""

_DIRECTIONS: Final = ("ltr", "rtl")
_COMMON: Final = "common"
_PROPERTIES: Final = ("direction",)


@dataclass(frozen=True, slots=True)
class Locale:
    """One language's words."""

    tag: str
    direction: str
    """`ltr` or `rtl`."""
    kinds: Mapping[str, Mapping[str, str]]
    """Kind -> key -> text, with the common words laid under each; the placeholders but `{minutes}` still in them."""


def load(folder: Path, *, minutes: int) -> dict[str, Locale]:
    """Return the locales of a folder by their tags. Raises RenderingError with file and line."""
    return {file.stem: _Reader(file, minutes).locale() for file in sorted(folder.glob("*.toml"))}


def compare(locale: Locale, reference: Locale) -> None:
    """Raise RenderingError for the first word that the reference has and this locale lacks."""
    for kind, words in reference.kinds.items():
        for key in words:
            if key not in locale.kinds.get(kind, {}):
                raise RenderingError(f"locales/{locale.tag}.toml: [{kind}] lacks {key}, which {reference.tag}.toml has")


class _Reader:
    """Reads one file."""

    def __init__(self, file: Path, minutes: int) -> None:
        self._name = f"{file.parent.name}/{file.name}"
        self._tag = file.stem
        self._minutes = minutes
        self._rule = rule(file.stem)
        self._table_at = 0
        try:
            self._source = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise RenderingError(f"{self._name}: cannot be read as UTF-8 text ({type(error).__name__})") from error
        self._lines = self._source.splitlines()

    def locale(self) -> Locale:
        if not langcodes.tag_is_valid(self._tag):
            raise RenderingError(f"{self._name}: its name is no language tag (BCP 47)")
        try:
            content = tomllib.loads(self._source)
        except tomllib.TOMLDecodeError as error:
            raise RenderingError(f"{self._name}: {error}") from error
        direction = content.get("direction")
        if direction not in _DIRECTIONS:
            raise self._fault("direction", 'must be "ltr" or "rtl"')
        tables = {kind: self._table(kind, words) for kind, words in content.items() if kind not in _PROPERTIES}
        common = tables.pop(_COMMON, {})
        validity = common.get("validity", "")
        kinds = {
            kind: {key: text.replace("{validity}", validity) for key, text in (common | words).items()}
            for kind, words in tables.items()
        }
        return Locale(self._tag, direction, kinds)

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
        return chosen.replace("{minutes}", str(self._minutes))

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
