"""Makes a stranger's words fit for a record."""

from typing import Final

_LONGEST: Final = 500


def bounded(text: str) -> str:
    """Return a stranger's text on one line, printable, at most 500 characters."""
    if len(text) <= _LONGEST and text.isprintable() and "  " not in text:
        return text.strip()
    text = " ".join("".join(char if char.isprintable() else " " for char in text[: 4 * _LONGEST]).split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
