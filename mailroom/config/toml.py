"""Writes TOML; `tomllib` only reads it."""

import json
import re
from collections.abc import Mapping
from typing import Any, Final

_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")


def pairs(values: Mapping[str, Any]) -> str:
    """Return `key = value` lines."""
    return "".join(f"{_key(name)} = {literal(value)}\n" for name, value in values.items())


def table(path: tuple[str, ...], values: Mapping[str, Any]) -> str:
    """Return a table with its heading."""
    return f"[{'.'.join(map(_key, path))}]\n{pairs(values)}"


def literal(value: Any) -> str:
    """Return a value as TOML: text without lone surrogates, boolean, number, or a list or table of those."""
    if isinstance(value, str):
        # TOML has JSON's escapes, and requires one for DEL too.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Mapping):
        inner = ", ".join(f"{_key(name)} = {literal(item)}" for name, item in value.items())
        return f"{{ {inner} }}"
    return f"[{', '.join(map(literal, value))}]"


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else literal(name)
