"""The `.env` file: `NAME=value` lines, as Docker, Compose, systemd, honcho and shells read them."""

import re
from typing import Final

_BLANK: Final = re.compile(r"\s")


def parse(text: str) -> dict[str, str]:
    """Return the variables of a file, without the quotes around their values; other lines are ignored."""
    variables: dict[str, str] = {}
    for line in text.removeprefix("\ufeff").split("\n"):
        name, separator, value = line.strip().removeprefix("export ").partition("=")
        if separator and not name.startswith("#"):
            value = value.strip()
            variables[name.strip()] = value[1:-1] if _is_quoted(value) else value
    return variables


def line(name: str, value: str) -> str:
    """Return a line that `parse` reads; a value with blanks has quotes, without which honcho and shells split it."""
    return f'{name}="{value}"\n' if _BLANK.search(value) or _is_quoted(value) else f"{name}={value}\n"


def unquote(value: str) -> str:
    """Return a variable's value without the quotes that `docker run --env-file` keeps around one with blanks."""
    return value[1:-1] if value.startswith('"') and _is_quoted(value) and _BLANK.search(value) else value


def _is_quoted(value: str) -> bool:
    return len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
