"""The doctor's findings: one line each, with a remedy if something is wrong."""

from dataclasses import dataclass
from enum import StrEnum


class Mark(StrEnum):
    """The result of a check."""

    GOOD = "good"
    WRONG = "wrong"
    UNKNOWN = "unknown"
    """Could not be checked."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check, with its text."""

    about: str
    """`SPF`, `DKIM`, `credentials`."""
    mark: Mark
    words: str
    """The description; may contain foreign text."""
    todo: str = ""
    """The remedy."""


def good(about: str, words: str, todo: str = "") -> Finding:
    """Return a finding without fault; `todo` is an advice."""
    return Finding(about, Mark.GOOD, words, todo)


def wrong(about: str, words: str, todo: str) -> Finding:
    """Return a fault with its remedy."""
    return Finding(about, Mark.WRONG, words, todo)


def unknown(about: str, words: str, todo: str = "") -> Finding:
    """Return a check that has no result, and how to get one."""
    return Finding(about, Mark.UNKNOWN, words, todo)
