"""Fills placeholders (`{{ code }}`, `{{application.name}}`) as Logto does.

Follows `replaceSendMessageHandlebars` in npm's `@logto/connector-kit` 5.1: a placeholder whose first key is not in the
payload stays unchanged, missing or null values below it are empty, and values are converted as by JavaScript's
`String`. A test compares with that package. One difference: keys that JavaScript objects inherit (`{{constructor}}`)
do not count as present.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import isfinite, isinf
from typing import Any, Final

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
        return _number_to_string(value)
    if isinstance(value, list):
        return ",".join("" if item is None else _to_string(item) for item in value)
    return "[object Object]"


_EXACT: Final = 2**53
_PLAIN_DIGITS: Final = 21
_SMALLEST_PLAIN: Final = -6


def _number_to_string(value: float) -> str:
    """Format a number by ECMA-262 §6.1.6.1.20: the shortest digits that parse to the same double."""
    if isinstance(value, int):
        if -_EXACT <= value <= _EXACT:
            return str(value)
        try:
            value = float(value)
        except OverflowError:
            value = float("inf") if value > 0 else float("-inf")
    if not isfinite(value):
        return ("Infinity" if value > 0 else "-Infinity") if isinf(value) else "NaN"
    if value == 0:
        return "0"
    sign = "-" if value < 0 else ""
    mantissa, _, exponent = f"{abs(value)!r}".partition("e")
    whole, _, fraction = mantissa.partition(".")
    fraction = fraction.rstrip("0") if fraction != "0" else ""
    digits = (whole + fraction).lstrip("0")
    # The number is 0.digits times ten to the power of `point`.
    point = int(exponent or 0) + (len(whole) if whole != "0" else len(digits) - len(fraction))
    return sign + _place_point(digits.rstrip("0"), point)


def _place_point(digits: str, point: int) -> str:
    if len(digits) <= point <= _PLAIN_DIGITS:
        return digits.ljust(point, "0")
    if 0 < point <= _PLAIN_DIGITS:
        return f"{digits[:point]}.{digits[point:]}"
    if _SMALLEST_PLAIN < point <= 0:
        return f"0.{'0' * -point}{digits}"
    rest = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{digits[0]}{rest}e{'+' if point > 0 else '-'}{abs(point - 1)}"
