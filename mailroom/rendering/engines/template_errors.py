"""Explains errors of Jinja templates in words for the template's author, without values of a payload."""

import re
from collections.abc import Mapping
from typing import Final

from jinja2 import TemplateNotFound, UndefinedError
from jinja2.exceptions import SecurityError

from mailroom.text import bounded

_HANDLEBARS: Final = re.compile(r"\{\{\{\s*([\w.]+)[^}]*\}{2,3}|\{\{\s*([#/^>&])\s*(\w+)\s*([^}]*)\}\}")
_TAGS: Final = re.compile(r"\{\{.*?\}\}|\{%.*?%\}")
_REASONS: Final[Mapping[type[Exception], str]] = {
    UndefinedError: "calls or computes with a value that does not exist",
    TemplateNotFound: "extends or includes a template that does not exist",
    SecurityError: "does what templates may not do",
    TypeError: "applies a filter, a test or an operator to a value of another type, perhaps null",
    ZeroDivisionError: "divides by zero",
    RecursionError: "is nested too deeply",
}
_UNKNOWN: Final = "cannot be rendered with this payload"


def explain_failure(error: Exception, line: str) -> str:
    """Return why a template failed, with the expressions of its line: those are the author's text."""
    reason = next((text for kind, text in _REASONS.items() if isinstance(error, kind)), _UNKNOWN)
    tags = " ".join(_TAGS.findall(line))
    return f"{reason}: {bounded(tags, 80)}" if tags else reason


def find_handlebars(text: str) -> tuple[int, str] | None:
    """Return line and problem of the first Handlebars tag of a template that is no valid Jinja; None without one."""
    found = _HANDLEBARS.search(text)
    if not found:
        return None
    raw, sign, name, argument = found.groups(default="")
    jinja = f"{{{{ {raw} }}}}" if raw else _translate(sign, name, argument.strip())
    return text.count("\n", 0, found.start()) + 1, f"{bounded(found[0], 40)} is Handlebars; Jinja writes {jinja}"


def _translate(sign: str, name: str, argument: str) -> str:
    """Return the Jinja tag for a Handlebars tag."""
    block = "for" if name == "each" else "if"
    if sign == "/":
        return f"{{% end{block} %}}"
    if sign == ">":
        return f'{{% include "parts/{name}.html.jinja" %}}'
    if sign == "&":
        return f"{{{{ {name} }}}}"
    negation = "not " if sign == "^" or name == "unless" else ""
    subject = argument or name
    return f"{{% for item in {subject} %}}" if name == "each" else f"{{% if {negation}{subject} %}}"
