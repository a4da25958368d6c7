"""Fills placeholders (`{{ code }}`, `{{application.name}}`) as Logto does: `fill(template, payload)`.

Follows `replaceSendMessageHandlebars` in npm's `@logto/connector-kit` 5.1: a placeholder whose first key is not in the
payload stays unchanged, missing or null values below it are empty, and values are converted as by JavaScript's
`String`. A test compares with that package. One difference: keys that JavaScript objects inherit (`{{constructor}}`)
do not count as present.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from itertools import repeat
from typing import Any, Final

from mailroom.logto import format_number

_SPACE: Final = r"[\t-\r \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ufeff]*"
"""JavaScript's white space, ECMA-262 §12.2 and §12.3."""
PLACEHOLDER: Final = re.compile(rf"{{{{{_SPACE}([A-Za-z0-9_.]+){_SPACE}}}}}")
"""Its group is the key: `application.name`."""
_INDEX: Final = re.compile(r"0|[1-9][0-9]{0,9}")


def fill(template: str, payload: Mapping[str, Any], escapes: Iterable[Callable[[str], str]] = repeat(str)) -> str:
    """Return the template with its placeholders' values; `escapes` are the functions that escape them, in order."""
    remaining = iter(escapes)

    def replacement(match: re.Match[str]) -> str:
        escape = next(remaining)
        root, *keys = match[1].split(".")
        if not root or root not in payload:
            return match[0]
        value = payload[root]
        for key in keys:
            value = _get(value, key)
        return escape("" if value is None else _to_string(value))

    return PLACEHOLDER.sub(replacement, template)


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
