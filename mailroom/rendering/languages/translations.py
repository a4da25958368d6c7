"""Loads the translations of the mails: one TOML file per language, `locales/<tag>.toml`, without HTML.

`[common]` holds texts of all mails; a table named like a kind (`[SignIn]`) adds to them or overrides them. A value is
a text with simple placeholders (`{app}`) or, if it contains `{minutes}`, a table of the language's plural forms (`one`,
`few`, `many`, `other`). `direction` is `ltr` or `rtl`; `digits` are the ten digits of a script with its own;
`text_size = "large"` is for scripts with small letters; with `greeting_name = "given"` readers are greeted by their
given name; `[dates]` has the patterns of dates. Files are validated, and plural forms selected, on loading. An
overlay's files hold only what they change.
"""

import re
import string
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from mailroom.errors import RenderingError
from mailroom.rendering.languages.dates import DateFormat, date_format, parse_dates
from mailroom.rendering.languages.plurals import rule

PLACEHOLDERS: Final = frozenset(
    {
        *("app", "platform", "organization", "inviter", "name", "code"),
        *("recipient", "requested_at", "ip", "device", "valid_until"),
    }
)
"""Allowed in every text; also `{minutes}` in plural forms, and `{validity}` (a common text) elsewhere."""

OPTIONAL_KEYS: Final = frozenset(
    {
        "platform", "recipient", "requested_at", "ip", "device", "valid_until", "footer", "footer_code",
        "footer_account", "account_link", "unasked_without_contact",
    }
)  # fmt: skip
"""Texts that a language may lack: the mail is then without that row or link, or has a more general text."""

_COMMON: Final = "common"
_DATES: Final = "dates"
_CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "direction": ("ltr", "rtl"),
    "text_size": ("normal", "large"),
    "greeting_name": ("full", "given"),
}
"""Property -> its values; all but `direction` have the first as default."""
_PROPERTIES: Final = (*_CHOICES, "digits", _DATES)
_SIZES: Final[Mapping[str, Mapping[str, str]]] = {
    "normal": {"text": "16px/25px", "small": "14px/22px", "fine": "13px/20px"},
    "large": {"text": "17px/28px", "small": "15px/24px", "fine": "14px/22px"},
}
"""CSS sizes and line heights of body, secondary text and footer."""
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
    dates: DateFormat
    greets_by_given_name: bool
    is_latin: bool
    """Whether most letters of the texts are ASCII."""
    constants: Mapping[str, Any]
    """Template variables of the language: tag, direction, the side where lines start, and sizes of texts."""


@dataclass(frozen=True, slots=True)
class Tables:
    """The parsed content of one file, with plural forms selected."""

    tag: str
    place: str
    """The file's name, for error messages."""
    properties: Mapping[str, str]
    """`direction`, `digits` …; missing ones are inherited from the layer below."""
    dates: Mapping[str, Any]
    """`[dates]`; likewise, key by key."""
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
            properties={**below.properties, **self.properties},
            dates={**below.dates, **self.dates},
            tables={**below.tables, **tables},
        )

    def locale(self) -> Locale:
        """Return the language's translations. Raises RenderingError if `direction` is missing."""
        direction = self.properties.get("direction")
        if not direction:
            raise RenderingError(f'{self.place}: direction is missing; it is "ltr" or "rtl"')
        digits = self.properties.get("digits") or string.digits
        number = str(self.minutes).translate(str.maketrans(string.digits, digits))
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
        return Locale(
            tag=self.tag,
            direction=direction,
            kinds=kinds,
            dates=date_format(self.dates, digits),
            greets_by_given_name=self.properties.get("greeting_name") == "given",
            is_latin=_is_latin(kinds),
            constants={
                "lang": self.tag,
                "dir": direction,
                "start": "right" if direction == "rtl" else "left",
                "sizes": _SIZES[self.properties.get("text_size", "normal")],
            },
        )


def _is_latin(kinds: Mapping[str, Mapping[str, str]]) -> bool:
    """Return whether most letters are ASCII; the texts of one kind are enough to tell."""
    texts = next(iter(kinds.values()), {}).values()
    letters = [letter for text in texts for letter in re.sub(r"{[^}]*}", "", text) if letter.isalpha()]
    return 2 * sum(map(str.isascii, letters)) >= len(letters)


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
        if key not in locale.kinds[kind] and key not in OPTIONAL_KEYS:
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
        properties = {key: content[key] for key in (*_CHOICES, "digits") if key in content}
        for key, values in _CHOICES.items():
            if properties.get(key, values[0]) not in values:
                raise self._error(key, "must be " + " or ".join(f'"{value}"' for value in values))
        digits = properties.get("digits", string.digits)
        if not isinstance(digits, str) or len(digits) != len(string.digits):
            raise self._error("digits", "must be the ten digits from 0 to 9")
        try:
            dates = parse_dates(content.get(_DATES, {}))
        except ValueError as error:
            key, _, problem = str(error).partition(" ")
            self.table_line = self._heading(_DATES)
            raise self._error(key, problem) from None
        tables = {kind: self._parse_table(kind, texts) for kind, texts in content.items() if kind not in _PROPERTIES}
        return Tables(self.tag, self.place, properties, dates, self.minutes, tables)

    def _parse_table(self, kind: str, texts: Any) -> dict[str, str]:
        if not isinstance(texts, dict):
            raise self._error(kind, "is not a table of texts")
        self.table_line = self._heading(kind)
        return {key: self._parse_text(key, value) for key, value in texts.items()}

    def _heading(self, table: str) -> int:
        """Return the line of a table's heading; 0 if it is written otherwise."""
        lines = enumerate(self.source.splitlines(), 1)
        return next((number for number, text in lines if text.startswith(f"[{table}]")), 0)

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
