"""What the doctor says: one line each, and what to do where something is wrong."""

from dataclasses import dataclass
from enum import StrEnum


class Mark(StrEnum):
    """How it stands."""

    GOOD = "good"
    WRONG = "wrong"
    UNKNOWN = "unknown"
    """Could not be looked at, or is not for us to judge."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    about: str
    """`SPF`, `DKIM`, `credentials`."""
    mark: Mark
    words: str
    """How it is; may repeat what strangers wrote."""
    todo: str = ""
    """What the operator does about it."""


def good(about: str, words: str, todo: str = "") -> Finding:
    """Return what is as it should be; `todo` for what could be better."""
    return Finding(about, Mark.GOOD, words, todo)


def wrong(about: str, words: str, todo: str) -> Finding:
    """Return what must be mended."""
    return Finding(about, Mark.WRONG, words, todo)


def unknown(about: str, words: str, todo: str = "") -> Finding:
    """Return what nobody can tell, and how it could be told."""
    return Finding(about, Mark.UNKNOWN, words, todo)
