"""Checks templates: renders every mail with sample payloads and applies 22 rules. Needs no network.

`runner.check(context)` returns the findings for all kinds, languages and samples; `changed_templates` is the part that
a server runs. In `rules`: rendered (1, 2), variables (3, 22), injection (4), inbox (5, 6, 17, 18), document (7, 8, 12,
14, 15, 21), images (9, 10), link_targets (11), css (13), contrast (16), message_format (19, 20).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

CHECKS: Final[Mapping[int, str]] = {
    1: "every kind can be rendered in every language, also without optional payload fields",
    2: "the code or link is in the HTML and in the text",
    3: "no variable is unknown, left unreplaced, or empty before a punctuation mark",
    4: "payload values cannot inject HTML, styles, scripts or headers",
    5: "the subject is one line, not empty, under 60 characters",
    6: "the text part exists and contains every link of the HTML",
    7: "the HTML declares language, direction and title",
    8: "layout tables have role=presentation",
    9: "every image has an alt text and an absolute https URL",
    10: "no SVG, WebP or data URI",
    11: "links are https, have a host name, and lead where their text says",
    12: "no script, form, video, frame, web font or import",
    13: "essential CSS is inline; no flex, grid, variables or position",
    14: "each style sheet is under 8 KB",
    15: "the HTML is under 90 KB",
    16: "text has enough contrast, in light and dark mode",
    17: "there is a preheader of 40 to 130 characters",
    18: "the code is one unbroken text",
    19: "the message parses back to its fields, and no line is too long",
    20: "the domain of From is allowed, and the headers suit the kind of mail",
    21: "the HTML parses without errors",
    22: "all languages use the same variables",
}
"""Number -> the rule. `docs/check.md` explains each."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One violation of a rule, and its location."""

    check: int
    """The rule's number in `CHECKS`."""
    problem: str
    remedy: str
    """How to fix it."""
    kinds: tuple[str, ...]
    languages: tuple[str, ...]
    samples: tuple[str, ...] = ()
    file: str = ""
    """Path below the templates' folder; empty if no file is concerned (a sender's domain)."""
    line: int | None = None
    is_warning: bool = False
    """A warning does not make `mailroom check` fail."""
    owners: tuple[str, ...] = ()
    """Folders of the applications and organizations concerned; empty if all mails are."""

    @property
    def place(self) -> str:
        """File and line, as far as known."""
        return f"{self.file}, line {self.line}" if self.line else self.file

    def as_log_fields(self) -> dict[str, Any]:
        """Return the fields for a log line."""
        return {
            "check": self.check,
            "place": self.place,
            "problem": self.problem,
            "remedy": self.remedy,
            "kinds": ", ".join(self.kinds),
            "languages": ", ".join(self.languages),
            **({"owners": ", ".join(self.owners)} if self.owners else {}),
        }


def merge_findings(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings by rule, with equal findings of several mails merged into one."""
    merged: dict[tuple[int, str, int | None, str], Finding] = {}
    for finding in findings:
        # Without a line, the problem's text identifies the finding.
        key = (finding.check, finding.file, finding.line, "" if finding.line else finding.problem)
        previous = merged.setdefault(key, finding)
        merged[key] = replace(
            previous,
            kinds=_union(previous.kinds, finding.kinds),
            languages=_union(previous.languages, finding.languages),
            samples=_union(previous.samples, finding.samples),
            is_warning=previous.is_warning and finding.is_warning,
            owners=_union(previous.owners, finding.owners) if previous.owners and finding.owners else (),
        )
    return sorted(merged.values(), key=lambda finding: (finding.check, finding.file, finding.line or 0))


@dataclass(frozen=True, slots=True)
class FindingGroup:
    """The findings that the same files have."""

    files: tuple[str, ...]
    """Empty if no file is concerned."""
    findings: tuple[Finding, ...]
    """One for each cause and line, with the kinds and languages of all files."""


def group_findings(findings: Iterable[Finding]) -> list[FindingGroup]:
    """Group findings by file; files with the same findings make one group."""
    by_cause: dict[tuple[Any, ...], list[Finding]] = {}
    for finding in findings:
        cause = finding.check, finding.problem, finding.remedy, finding.is_warning, finding.owners
        by_cause.setdefault(cause, []).append(finding)
    groups: dict[tuple[str, ...], list[Finding]] = {}
    for same in by_cause.values():
        files = tuple(dict.fromkeys(finding.file for finding in same if finding.file))
        groups.setdefault(files, []).extend([_merge_files(same)] if len(files) > 1 else same)
    return [FindingGroup(files, tuple(same)) for files, same in sorted(groups.items())]


def _merge_files(findings: list[Finding]) -> Finding:
    """Return one finding for the same cause in several files."""
    kinds = tuple(dict.fromkeys(kind for finding in findings for kind in finding.kinds))
    languages = tuple(dict.fromkeys(tag for finding in findings for tag in finding.languages))
    return replace(findings[0], line=None, kinds=kinds, languages=languages)


def _union(some: tuple[str, ...], more: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*some, *more)))
