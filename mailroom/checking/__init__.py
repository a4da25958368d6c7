"""Finds what would embarrass an operator before their readers do: 22 checks of every mail that the templates make.

A writer in, findings out; nothing is dialled. `running` goes through kinds, languages and samples, `samples` says what
they are, `touched` what an upper layer changes, `changed` what a server checks by itself, and each group of checks is a
file: `making` (1, 2), `variables` (3, 22), `hostile` (4), `reading` (5, 6, 17, 18), `document` (7, 8, 12, 14, 15, 21),
`pictures` (9, 10), `links` (11), `css` (13), `contrast` (16), `wire` (19, 20).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

CHECKS: Final[Mapping[int, str]] = {
    1: "every kind can be written in every language, also when the payload lacks everything optional",
    2: "the code or link is in the HTML and in the text",
    3: "no variable is unknown or left unreplaced",
    4: "hostile values stay inert",
    5: "the subject is one line, not empty, under 60 characters",
    6: "the text part exists and has every address of the HTML",
    7: "the HTML tells its language, direction and title",
    8: "layout tables say role=presentation",
    9: "every picture has an alt text and an absolute https address",
    10: "no SVG, WebP or data URI",
    11: "links are https, lead to a name, and where they say they do",
    12: "no script, form, video, frame, foreign font or import",
    13: "what matters is inline; no flex, grid, variables, position",
    14: "each style sheet is under 8 KB",
    15: "the HTML is under 90 KB",
    16: "text stands out from its ground, in light and dark",
    17: "there is a preheader of 40 to 130 characters",
    18: "the code is one run of text",
    19: "the message parses back to what was meant, in lines that every server takes",
    20: "From is of an allowed domain, and the headers fit the kind",
    21: "the HTML parses without an error",
    22: "all languages use the same variables",
}
"""Number -> what holds where nothing is found. `docs/check.md` tells more of each."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, and where."""

    check: int
    """Of `CHECKS`."""
    problem: str
    remedy: str
    """What to do."""
    kinds: tuple[str, ...]
    languages: tuple[str, ...]
    samples: tuple[str, ...] = ()
    file: str = ""
    """Below the templates' folder; empty where it lies in no file (a sender's domain)."""
    line: int | None = None
    is_warning: bool = False
    """Doubtful rather than wrong: it does not fail the check."""
    owners: tuple[str, ...] = ()
    """The folders of the applications and organizations whose mails alone are concerned; empty: everybody's are."""

    @property
    def place(self) -> str:
        """File and line, as far as they are known."""
        return f"{self.file}, line {self.line}" if self.line else self.file

    @property
    def core(self) -> tuple[int, str, int | None, str]:
        """What it says, wherever it was seen."""
        return self.check, self.file, self.line, self.problem

    def told(self) -> dict[str, Any]:
        """Return it for a log."""
        return {
            "check": self.check,
            "place": self.place,
            "problem": self.problem,
            "remedy": self.remedy,
            "kinds": ", ".join(self.kinds),
            "languages": ", ".join(self.languages),
            **({"owners": ", ".join(self.owners)} if self.owners else {}),
        }


def merged(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings in their checks' order, one for what is wrong in one place in many mails."""
    first: dict[tuple[int, str, int | None, str], Finding] = {}
    for finding in findings:
        # A problem without a place is known by its words.
        key = (finding.check, finding.file, finding.line, "" if finding.line else finding.problem)
        known = first.setdefault(key, finding)
        first[key] = replace(
            known,
            kinds=_united(known.kinds, finding.kinds),
            languages=_united(known.languages, finding.languages),
            samples=_united(known.samples, finding.samples),
            is_warning=known.is_warning and finding.is_warning,
            owners=_united(known.owners, finding.owners) if known.owners and finding.owners else (),
        )
    return sorted(first.values(), key=lambda finding: (finding.check, finding.file, finding.line or 0))


def _united(some: tuple[str, ...], more: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*some, *more)))
