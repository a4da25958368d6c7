"""Converts template variables for vendors that accept texts only, or that insert them into HTML unescaped."""

import re
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any, Final

from mailroom.message import Payload

_DEEPEST: Final = 16
"""Maximum depth of nesting; deeper values are left out or empty. Logto's payloads have four levels."""
_NAME: Final = re.compile(r"[A-Za-z0-9_]{1,50}")


def escaped(variables: Payload) -> dict[str, Any]:
    """Return the variables with all texts escaped for HTML."""
    return {key: _escaped(value, 1) for key, value in variables.items()}


def flat(variables: Payload) -> dict[str, str | float]:
    """Return the texts, escaped for HTML, and numbers by one name each: `application_branding_logoUrl`.

    Left out are nulls, lists, and names that are longer than 50 or hold anything but ASCII letters, digits and `_`.
    """
    return {name: value for name, value in _leaves(variables, "", 1) if _NAME.fullmatch(name)}


def _escaped(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return escape(value)
    if depth == _DEEPEST and isinstance(value, Mapping | list):
        return ""
    if isinstance(value, Mapping):
        return {key: _escaped(item, depth + 1) for key, item in value.items()}
    return [_escaped(item, depth + 1) for item in value] if isinstance(value, list) else value


def _leaves(variables: Payload, prefix: str, depth: int) -> Iterator[tuple[str, str | float]]:
    for key, value in variables.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and depth < _DEEPEST:
            yield from _leaves(value, f"{name}_", depth + 1)
        elif isinstance(value, bool):
            yield name, "true" if value else "false"
        elif isinstance(value, str):
            yield name, escape(value)
        elif isinstance(value, int | float):
            yield name, value
