"""Fills placeholders (`{{ code }}`, `{{application.name}}`) as Logto does.

Follows `replaceSendMessageHandlebars` in npm's `@logto/connector-kit` 5.1: a placeholder whose first key is not in the
payload stays unchanged, missing or null values below it are empty, and values are converted as by JavaScript's
`String`. A test compares with that package. One difference: keys that JavaScript objects inherit (`{{constructor}}`)
do not count as present.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from mailroom.logto import format_number

_SPACE: Final = r"[\t-\r \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ufeff]*"
"""JavaScript's white space, ECMA-262 §12.2 and §12.3."""
_PLACEHOLDER: Final = re.compile(rf"{{{{{_SPACE}([A-Za-z0-9_.]+){_SPACE}}}}}")
_INDEX: Final = re.compile(r"0|[1-9][0-9]{0,9}")


@dataclass(frozen=True, slots=True)
class Placeholder:
    """One placeholder of a template."""

    source: str
    """Its text in the template."""
    key: str
    """`application.name`."""

    @property
    def path(self) -> list[str]:
        """The keys that lead from the payload to the value."""
        return self.key.split(".")

    def text(self, payload: Mapping[str, Any]) -> str | None:
        """Return the value as a string; None if the first key is not in the payload."""
        root, *keys = self.path
        if not root or root not in payload:
            return None
        value = payload[root]
        for key in keys:
            value = _get(value, key)
        return "" if value is None else _to_string(value)


class PlaceholderTemplate:
    """A text with placeholders, parsed once."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.pieces: list[str | Placeholder] = list(_parse(source))
        """Literal texts and placeholders, in order."""

    @property
    def placeholders(self) -> list[Placeholder]:
        """The placeholders, in order."""
        return [piece for piece in self.pieces if isinstance(piece, Placeholder)]

    def fill(self, payload: Mapping[str, Any], escape: Callable[[str], str] | None = None) -> str:
        """Return the text with the values filled in, each converted by `escape`."""
        output = []
        for piece in self.pieces:
            if isinstance(piece, str):
                output.append(piece)
                continue
            text = piece.text(payload)
            output.append(piece.source if text is None else escape(text) if escape else text)
        return "".join(output)


def _parse(source: str) -> Iterator[str | Placeholder]:
    end = 0
    for match in _PLACEHOLDER.finditer(source):
        if match.start() > end:
            yield source[end : match.start()]
        yield Placeholder(match[0], match[1])
        end = match.end()
    if end < len(source):
        yield source[end:]


def _get(value: Any, key: str) -> Any:
    """Return JavaScript's `value[key]` without inherited properties."""
    if isinstance(value, Mapping):
        return value.get(key)
    if isinstance(value, list):
        if key == "length":
            return len(value)
        index = int(key) if _INDEX.fullmatch(key) else len(value)
        return value[index] if index < len(value) else None
    return None


def _to_string(value: Any) -> str:
    """Return JavaScript's `String(value)` of a JSON value that is not null."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return format_number(value)
    if isinstance(value, list):
        return ",".join("" if item is None else _to_string(item) for item in value)
    return "[object Object]"
