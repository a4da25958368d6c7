"""Cleans and bounds one line of foreign text, for records, logs and terminals.

- `one_line(text)` replaces unprintable characters and white space by single spaces.
- `bounded(text)` does that and cuts the line, by default after 500 characters.
- `printable(text)` escapes unprintable characters and loses nothing.

Text for mails is cleaned by `mailroom.rendering` instead: it keeps joiners, which some scripts need.
"""

from typing import Final

_LONGEST: Final = 500


def one_line(text: str) -> str:
    """Replace unprintable characters and runs of white space by single spaces."""
    if not text.isprintable():
        text = "".join(char if char.isprintable() else " " for char in text)
    return " ".join(text.split())


def bounded(text: str, longest: int = _LONGEST) -> str:
    """Return the text on one line, printable, at most `longest` characters; an ellipsis marks a cut."""
    text = one_line(text[: 4 * longest])
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"


def printable(text: str) -> str:
    """Escape what a terminal would obey or hide: C0, C1 and bidi controls, other invisible characters."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
