"""The results of the doctor's checks: one line each, with a remedy if something is wrong."""

from dataclasses import dataclass
from enum import StrEnum


class Mark(StrEnum):
    """The outcome of a check."""

    GOOD = "good"
    WRONG = "wrong"
    UNKNOWN = "unknown"
    """Could not be checked."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of one check."""

    about: str
    """`SPF`, `DKIM`, `credentials`."""
    mark: Mark
    text: str
    """The description; may contain foreign text."""
    todo: str = ""
    """The remedy; advice if nothing is wrong; how to get a result if it is unknown."""


def good(about: str, text: str, todo: str = "") -> CheckResult:
    """Return a result without fault."""
    return CheckResult(about, Mark.GOOD, text, todo)


def wrong(about: str, text: str, todo: str) -> CheckResult:
    """Return a fault with its remedy."""
    return CheckResult(about, Mark.WRONG, text, todo)


def unknown(about: str, text: str, todo: str = "") -> CheckResult:
    """Return that a check has no result."""
    return CheckResult(about, Mark.UNKNOWN, text, todo)
