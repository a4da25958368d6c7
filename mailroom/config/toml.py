"""Writes TOML, and sets values in an existing file; `tomllib` only reads it."""

import json
import re
import tomllib
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


def with_text(text: str, table_name: str | None, name: str, value: str) -> str:
    """Return a document in which a text has this value; everything else, comments too, stays as it is.

    A new key is put at the top of its table (None: of the document), a new table at the end. Raises ValueError if the
    document is not TOML, or has the key in a form that is not changed here.
    """
    tree = tomllib.loads(text)
    lines = [f"{line}\n" for line in text.removesuffix("\n").split("\n")] if text else []
    headings = [number for number, line in enumerate(lines) if line.lstrip().startswith("[")]
    start = 0
    if table_name is not None:
        named = re.compile(rf"\s*\[\s*{re.escape(table_name)}\s*\]")
        start = next((number + 1 for number in headings if named.match(lines[number])), len(lines))
        if start == len(lines) and table_name not in tree:
            lines += [*(["\n"] if lines else []), f"[{table_name}]\n"]
            start = len(lines)
    end = next((number for number in headings if number >= start), len(lines))
    assignment = re.compile(rf"""(\s*{re.escape(name)}\s*=\s*)(?:"[^"\n]*"|'[^'\n]*')""")
    place = next((number for number in range(start, end) if assignment.match(lines[number])), None)
    if place is None:
        lines.insert(start, f"{name} = {literal(value)}\n")
    else:
        lines[place] = assignment.sub(lambda found: found[1] + literal(value), lines[place], count=1)
    changed = "".join(lines)
    inner = tree if table_name is None else tree.get(table_name, {})
    expected = {**inner, name: value} if table_name is None else {**tree, table_name: {**inner, name: value}}
    try:
        is_expected = tomllib.loads(changed) == expected
    except tomllib.TOMLDecodeError:
        is_expected = False
    if not is_expected:
        raise ValueError(f"{name} cannot be set by a program here; change it yourself")
    return changed


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else literal(name)
