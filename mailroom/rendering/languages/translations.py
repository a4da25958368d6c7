"""Loads the translations of the mails: one TOML file per language, `locales/<tag>.toml`, without HTML.

`[common]` holds texts of all mails; a table named like a kind (`[SignIn]`) adds to them or overrides them. A value is
a text with simple placeholders (`{app}`) or, if it contains `{minutes}`, a table of the language's plural forms (`one`,
`few`, `many`, `other`). `direction` is `ltr` or `rtl`; `digits` are the ten digits of a script with its own. Files are
validated, and plural forms selected, on loading. An overlay's files hold only what they change.
"""

import string
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from mailroom.errors import RenderingError
from mailroom.rendering.languages.plurals import rule

PLACEHOLDERS: Final = frozenset({"app", "platform", "organization", "inviter", "name", "code", "recipient"})
"""Allowed in every text; also `{minutes}` in plural forms, and `{validity}` (a common text) elsewhere."""

_DIRECTIONS: Final = ("ltr", "rtl")
_COMMON: Final = "common"
_PROPERTIES: Final = ("direction", "digits")
_MINUTES: Final = "\ue001"
"""Replaced by the number once the language's digits are known."""


@dataclass(frozen=True, slots=True)
class Locale:
    """The translations of one language."""

    tag: str
    direction: str
    """`ltr` or `rtl`."""
    kinds: Mapping[str, Mapping[str, str]]
    """Kind -> key -> text, common texts included; of the placeholders only `{minutes}` and `{validity}` are filled."""

    @property
    def constants(self) -> Mapping[str, str]:
        """Template variables of the language: tag, direction, and the side where lines start."""
        return {
            "lang": self.tag,
            "dir": self.direction,
            "start": "right" if self.direction == "rtl" else "left",
        }


@dataclass(frozen=True, slots=True)
class Tables:
    """The parsed content of one file, with plural forms selected."""

    tag: str
    place: str
    """The file's name, for error messages."""
    direction: str
    """Empty: inherited from the layer below."""
    digits: str
    """Likewise."""
    minutes: int
    tables: Mapping[str, Mapping[str, str]]
    """Kind, or `common`, -> key -> text."""

    def merge_over(self, below: "Tables | None") -> "Tables":
        """Return these tables merged over those of a lower layer in the same language, key by key."""
        if below is None:
            return self
        tables = {kind: {**below.tables.get(kind, {}), **texts} for kind, texts in self.tables.items()}
        return replace(
            self,
            direction=self.direction or below.direction,
            digits=self.digits or below.digits,
            tables={**below.tables, **tables},
        )

    def locale(self) -> Locale:
        """Return the language's translations. Raises RenderingError if `direction` is missing."""
        if not self.direction:
            raise RenderingError(f'{self.place}: direction is missing; it is "ltr" or "rtl"')
        number = str(self.minutes).translate(str.maketrans(string.digits, self.digits or string.digits))
        common = self.tables.get(_COMMON, {})
        validity = common.get("validity", "").replace(_MINUTES, number)
        kinds = {
            kind: {
                key: text.replace("{validity}", validity).replace(_MINUTES, number)
                for key, text in {**common, **texts}.items()
            }
            for kind, texts in self.tables.items()
            if kind != _COMMON
        }
        return Locale(self.tag, self.direction, kinds)


def parse(source: str, *, tag: str, place: str, minutes: int) -> Tables:
    """Parse one file. Raises RenderingError with file and line."""
    return _Parser(source, tag, place, minutes).parse()


def compare(locale: Locale, reference: Locale, kind: str) -> None:
    """Raise RenderingError if a kind of this locale lacks a text of the reference, or the reference lacks the kind.

    A mail is never in two languages, and the reference is what readers get for kinds that their language lacks.
    """
    if kind not in reference.kinds:
        raise RenderingError(f"locales/{locale.tag}.toml has [{kind}], but {reference.tag}.toml, the default, does not")
    for key in reference.kinds[kind]:
        if key not in locale.kinds[kind]:
            raise RenderingError(f"locales/{locale.tag}.toml: [{kind}] lacks {key}, which {reference.tag}.toml has")


@dataclass(slots=True)
class _Parser:
    """Parses one file; errors carry the line."""

    source: str
    tag: str
    place: str
    minutes: int
    table_line: int = 0
    """Line of the table that is being parsed."""

    def parse(self) -> Tables:
        try:
            content = tomllib.loads(self.source)
        except tomllib.TOMLDecodeError as error:
            raise RenderingError(f"{self.place}: {error}") from error
        direction = content.get("direction", "")
        if direction not in ("", *_DIRECTIONS):
            raise self._error("direction", 'must be "ltr" or "rtl"')
        digits = content.get("digits", "")
        if not isinstance(digits, str) or len(digits) not in (0, len(string.digits)):
            raise self._error("digits", "must be the ten digits from 0 to 9")
        tables = {kind: self._parse_table(kind, texts) for kind, texts in content.items() if kind not in _PROPERTIES}
        return Tables(self.tag, self.place, direction, digits, self.minutes, tables)

    def _parse_table(self, kind: str, texts: Any) -> dict[str, str]:
        if not isinstance(texts, dict):
            raise self._error(kind, "is not a table of texts")
        headings = (number for number, text in enumerate(self.source.splitlines(), 1) if text.startswith(f"[{kind}]"))
        self.table_line = next(headings, 0)
        return {key: self._parse_text(key, value) for key, value in texts.items()}

    def _parse_text(self, key: str, value: Any) -> str:
        if isinstance(value, str):
            return self._check_placeholders(key, value, PLACEHOLDERS | {"validity"})
        plural = rule(self.tag)
        if not isinstance(value, dict) or set(value) != set(plural.forms):
            raise self._error(key, f"must be a text, or a table with the forms {', '.join(plural.forms)}")
        for form in value.values():
            self._check_placeholders(key, form, PLACEHOLDERS | {"minutes"})
        chosen: str = value[plural.form(self.minutes)]
        return chosen.replace("{minutes}", _MINUTES)

    def _check_placeholders(self, key: str, text: Any, allowed: frozenset[str]) -> str:
        try:
            pieces = list(string.Formatter().parse(text))
        except (ValueError, TypeError):
            raise self._error(key, "is not a text, or its braces do not match") from None
        for _, field, format_, conversion in pieces:
            if field is not None and (field not in allowed or format_ or conversion):
                known = ", ".join(f"{{{one}}}" for one in sorted(allowed))
                raise self._error(f"{{{field}", f"is not a placeholder here; allowed: {known}")
        assert isinstance(text, str)  # Formatter.parse accepts nothing else
        return text

    def _error(self, what: str, problem: str) -> RenderingError:
        """Return an error with the line: the first in the table that contains `what`."""
        lines = enumerate(self.source.splitlines(), 1)
        line = next((number for number, text in lines if number > self.table_line and what in text), self.table_line)
        return RenderingError(f"{self.place}, line {line}: {what.removeprefix('{')} {problem}")
