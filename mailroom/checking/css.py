"""Check 13: CSS that mail clients obey, and where they look for it; and how rules apply, for the contrast."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import tinycss2
from cssselect2 import ElementWrapper, Matcher, SelectorError, compile_selector_list

from mailroom.checking.mail import Complaint, Mail
from mailroom.checking.page import Declarations, declarations, inline

LIGHT: Final = "light"
DARK: Final = "dark"
SCHEMES: Final = (LIGHT, DARK)

_CRITICAL: Final = frozenset(
    {
        "color", "background", "background-color", "font", "font-size", "font-weight", "font-family", "line-height",
        "text-align", "padding", "margin", "border", "width", "max-width", "display",
    }
)  # fmt: skip
_BOXES: Final = frozenset({"flex", "inline-flex", "grid", "inline-grid"})


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule of a style sheet."""

    selector: str
    declarations: Declarations
    in_media: bool


class Sheets:
    """All style sheets of a mail, as they apply in one colour scheme; @media by width is left out."""

    def __init__(self, sheets: tuple[str, ...], scheme: str) -> None:
        self.rules: list[Rule] = []
        self._matcher = Matcher()
        for sheet in sheets:
            self._add(
                tinycss2.parse_stylesheet(sheet, skip_comments=True, skip_whitespace=True), scheme, in_media=False
            )

    def _add(self, nodes: list[Any], scheme: str, *, in_media: bool) -> None:
        for node in nodes:
            if node.type == "at-rule" and node.lower_at_keyword == "media" and node.content is not None:
                if _applies("".join(tinycss2.serialize(node.prelude).lower().split()), scheme):
                    inner = tinycss2.parse_rule_list(node.content, skip_comments=True, skip_whitespace=True)
                    self._add(inner, scheme, in_media=True)
            elif node.type == "qualified-rule":
                rule = Rule(
                    tinycss2.serialize(node.prelude).strip(), declarations(tinycss2.serialize(node.content)), in_media
                )
                self.rules.append(rule)
                try:
                    for selector in compile_selector_list(node.prelude):
                        self._matcher.add_selector(selector, rule)
                except SelectorError:  # a client's own invention: no browser obeys it either
                    continue

    def of(self, element: ElementWrapper) -> list[Rule]:
        """Return the rules for an element, the ones that overrule others last."""
        matches = self._matcher.match(element)
        return [rule for _, _, pseudo, rule in matches if pseudo is None]


@lru_cache(maxsize=64)
def sheets(texts: tuple[str, ...], scheme: str) -> Sheets:
    """Return style sheets, parsed once: the mails of a kind share theirs."""
    return Sheets(texts, scheme)


def _applies(media: str, scheme: str) -> bool:
    """Tell whether a media query (without white space) holds in this scheme on any screen."""
    parts = media.removeprefix("only").split(",")
    return any(
        part in ("all", "screen", f"(prefers-color-scheme:{scheme})", f"screenand(prefers-color-scheme:{scheme})")
        for part in parts
    )


def value(element: ElementWrapper, style: Sheets, name: str) -> list[Any] | None:
    """Return a property's tokens by the cascade: important rules over inline over rules."""
    own = inline(element).get(name)
    if own and own[1]:
        return own[0]
    rules = [rule.declarations[name] for rule in style.of(element) if name in rule.declarations]
    important = [tokens for tokens, is_important in rules if is_important]
    if important:
        return important[-1]
    if own:
        return own[0]
    return rules[-1][0] if rules else None


def is_obeyed(mail: Mail) -> Iterator[Complaint]:
    """Check 13."""
    page = mail.page
    for element in page.elements:
        for problem in _unobeyed(inline(element)):
            yield Complaint(13, problem, _TABLES, html=page.tag_of(element))
    for scheme in SCHEMES:
        for rule in sheets(page.style_sheets, scheme).rules:
            for problem in _unobeyed(rule.declarations):
                yield Complaint(13, f"{problem} (in {rule.selector})", _TABLES, html=page.line_with(rule.selector))
    style = sheets(page.style_sheets, LIGHT)
    if all(rule.in_media for rule in style.rules):
        return
    for element in page.elements:
        for rule in style.of(element):
            missing = sorted((_CRITICAL & set(rule.declarations)) - set(inline(element)))
            if missing and not rule.in_media and ":" not in rule.selector:
                problem = f"<{element.local_name}> takes {missing[0]} from {rule.selector} in the style sheet only"
                remedy = "write it into the element's style too: some clients drop every <style>"
                yield Complaint(13, problem, remedy, html=page.line_with(rule.selector))


_TABLES: Final = "lay out with tables and plain values: Outlook and Gmail ignore the rest"


def _unobeyed(declared: Declarations) -> Iterator[str]:
    for name, (tokens, _) in declared.items():
        words = tinycss2.serialize(tokens).strip().lower()
        if name == "display" and words in _BOXES:
            yield f"display:{words} is not for mails"
        elif name == "position" and words != "static":
            yield f"position:{words} is not for mails"
        elif name.startswith("--") or "var(" in words:
            yield f"the variable in {name} is not for mails"
