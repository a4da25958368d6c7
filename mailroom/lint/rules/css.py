"""Check 13: CSS that mail clients support. Also evaluates the cascade for `contrast`."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import tinycss2
from cssselect2 import ElementWrapper, Matcher, SelectorError, compile_selector_list

from mailroom.lint.html import Declarations, declarations, inline
from mailroom.lint.rule import RenderedMail, Violation

LIGHT: Final = "light"
DARK: Final = "dark"
SCHEMES: Final = (LIGHT, DARK)

_CRITICAL: Final = frozenset(
    {
        "color", "background", "background-color", "font", "font-size", "font-weight", "font-family", "line-height",
        "text-align", "padding", "margin", "border", "width", "max-width", "display",
    }
)  # fmt: skip
_UNSUPPORTED_DISPLAY: Final = frozenset({"flex", "inline-flex", "grid", "inline-grid"})


@dataclass(frozen=True, slots=True)
class StyleRule:
    """A rule of a style sheet."""

    selector: str
    declarations: Declarations
    in_media: bool


class Sheets:
    """A mail's style sheets in one colour scheme, without @media rules that depend on width."""

    def __init__(self, sheets: tuple[str, ...], scheme: str) -> None:
        self.rules: list[StyleRule] = []
        self._matcher = Matcher()
        for sheet in sheets:
            nodes = tinycss2.parse_stylesheet(sheet, skip_comments=True, skip_whitespace=True)
            self._add(nodes, scheme, in_media=False)

    def _add(self, nodes: list[Any], scheme: str, *, in_media: bool) -> None:
        for node in nodes:
            if node.type == "at-rule" and node.lower_at_keyword == "media" and node.content is not None:
                if _applies("".join(tinycss2.serialize(node.prelude).lower().split()), scheme):
                    inner = tinycss2.parse_rule_list(node.content, skip_comments=True, skip_whitespace=True)
                    self._add(inner, scheme, in_media=True)
            elif node.type == "qualified-rule":
                selectors = tinycss2.serialize(node.prelude).strip()
                rule = StyleRule(selectors, declarations(tinycss2.serialize(node.content)), in_media)
                self.rules.append(rule)
                try:
                    for selector in compile_selector_list(node.prelude):
                        self._matcher.add_selector(selector, rule)
                except SelectorError:  # a client-specific selector that browsers ignore too
                    continue

    def of(self, element: ElementWrapper) -> list[StyleRule]:
        """Return the rules for an element, by ascending precedence."""
        matches = self._matcher.match(element)
        return [rule for _, _, pseudo, rule in matches if pseudo is None]


sheets: Final = lru_cache(maxsize=64)(Sheets)
"""The mails of a kind share their style sheets."""


def _applies(media: str, scheme: str) -> bool:
    """Return whether a media query (without white space) matches every screen in this scheme."""
    matching = {"all", "screen", f"(prefers-color-scheme:{scheme})", f"screenand(prefers-color-scheme:{scheme})"}
    return not matching.isdisjoint(media.removeprefix("only").split(","))


def value(element: ElementWrapper, style: Sheets, name: str) -> list[Any] | None:
    """Return a property's tokens by the cascade: important ones win, and inline ones over rules."""
    sources = [*(rule.declarations for rule in style.of(element)), inline(element)]
    declared = [source[name] for source in sources if name in source]
    important = [tokens for tokens, is_important in declared if is_important]
    normal = [tokens for tokens, is_important in declared if not is_important]
    return next(reversed([*normal, *important]), None)


def check_css_support(mail: RenderedMail) -> Iterator[Violation]:
    """Check 13."""
    page = mail.page
    for element in page.elements:
        for problem in _find_unsupported(inline(element)):
            yield Violation(13, problem, _REMEDY, html=page.tag_of(element))
    for scheme in SCHEMES:
        for rule in sheets(page.style_sheets, scheme).rules:
            for problem in _find_unsupported(rule.declarations):
                yield Violation(13, f"{problem} (in {rule.selector})", _REMEDY, html=page.line_with(rule.selector))
    style = sheets(page.style_sheets, LIGHT)
    if all(rule.in_media for rule in style.rules):
        return
    for element in page.elements:
        for rule in style.of(element):
            missing = sorted((_CRITICAL & set(rule.declarations)) - set(inline(element)))
            if missing and not rule.in_media and ":" not in rule.selector:
                problem = f"<{element.local_name}> has {missing[0]} only in the style sheet ({rule.selector})"
                remedy = "add it to the element's style attribute: some clients drop every <style>"
                yield Violation(13, problem, remedy, html=page.line_with(rule.selector))


_REMEDY: Final = "use tables and plain values: Outlook and Gmail ignore the rest"


def _find_unsupported(declared: Declarations) -> Iterator[str]:
    for name, (tokens, _) in declared.items():
        css = tinycss2.serialize(tokens).strip().lower()
        if name == "display" and css in _UNSUPPORTED_DISPLAY:
            yield f"display:{css} is not supported in mails"
        elif name == "position" and css != "static":
            yield f"position:{css} is not supported in mails"
        elif name.startswith("--") or "var(" in css:
            yield f"the variable in {name} is not supported in mails"
