"""Checks 7, 8, 12, 14, 15 and 21: HTML that mail clients and screen readers can process."""

from collections.abc import Iterator, Mapping
from typing import Final

import langcodes
import tinycss2
from cssselect2 import ElementWrapper

from mailroom.lint.html import text_of
from mailroom.lint.rule import RenderedMail, Violation
from mailroom.lint.samples import Sample
from mailroom.text import bounded

LARGEST_STYLE: Final = 8 * 1024
"""Octets; Gmail drops a longer one."""
LARGEST_HTML: Final = 90 * 1024
"""Octets; Gmail clips a mail at 102 kB, and relays may add to it."""

_ACTIVE_ELEMENTS: Final = frozenset(
    {
        "script", "form", "input", "button", "select", "textarea", "video", "audio", "iframe", "frame", "frameset",
        "object", "embed", "applet", "base", "canvas", "portal",
    }
)  # fmt: skip
_RTL_SCRIPTS: Final = frozenset({"Arab", "Hebr", "Syrc", "Thaa", "Nkoo", "Adlm"})


def check_language_and_title(mail: RenderedMail) -> Iterator[Violation]:
    """Check 7."""
    page = mail.quick_page
    html = page.first("html")
    attributes = html.etree_element.attrib if html is not None else {}
    line = page.line_with("<html")
    expected = direction(mail.email.language)
    remedy = 'write <html lang="{{ lang }}" dir="{{ dir }}">'
    logto_remedy = f'write <html lang="{mail.email.language}" dir="{expected}">'
    if attributes.get("lang", "").lower() != mail.email.language.lower():
        problem = _describe(attributes, "lang", f"the mail is in {mail.email.language}")
        yield Violation(7, problem, remedy, html=line, logto_remedy=logto_remedy)
    if attributes.get("dir", "ltr").lower() != expected:
        problem = _describe(attributes, "dir", f"the language is {expected}")
        yield Violation(7, problem, remedy, html=line, logto_remedy=logto_remedy)
    title = page.first("title")
    if title is None or not text_of(title).strip():
        remedy = "write <title>{{ words.title }}</title>"
        yield Violation(
            7, "the HTML has no title", remedy, html=page.line_with("<title"), logto_remedy="write <title>…</title>"
        )


def _describe(attributes: Mapping[str, str], name: str, fact: str) -> str:
    """Return the problem of an attribute; the same for all languages if it is missing."""
    return f"the HTML has {name}={attributes[name]!r}, but {fact}" if attributes.get(name) else f"<html> has no {name}"


def direction(tag: str) -> str:
    """Return a language's writing direction (`ltr` or `rtl`), by its likely script."""
    return "rtl" if langcodes.get(tag).maximize().script in _RTL_SCRIPTS else "ltr"


def check_layout_tables(mail: RenderedMail) -> Iterator[Violation]:
    """Check 8."""
    for table in mail.page.all("table"):
        if table.etree_element.get("role") in ("presentation", "none"):
            continue
        inside = [element for element in table.iter_subtree() if element is not table]
        if not any(element.local_name in ("th", "caption") for element in inside):
            remedy = 'write <table role="presentation" …>: screen readers announce the cells of other tables'
            yield Violation(8, "a layout table lacks role=presentation", remedy, html=mail.page.tag_of(table))


def check_no_active_content(mail: RenderedMail) -> Iterator[Violation]:
    """Check 12."""
    remedy = "remove it: mail clients do, and spam filters penalize it"
    for element in mail.page.elements:
        if problem := _find_active_content(element, mail.sample):
            yield Violation(12, problem, remedy, html=mail.page.tag_of(element))
    for sheet in mail.page.style_sheets:
        for rule in tinycss2.parse_stylesheet(sheet, skip_comments=True, skip_whitespace=True):
            if rule.type == "at-rule" and rule.lower_at_keyword in ("import", "font-face"):
                problem = f"the style has an @{rule.lower_at_keyword}"
                yield Violation(12, problem, remedy, html=mail.page.line_with(f"@{rule.at_keyword}"))


def _find_active_content(element: ElementWrapper, sample: Sample) -> str:
    """Return why an element is active content; empty if it is not."""
    name, attributes = element.local_name, element.etree_element.attrib
    if name in _ACTIVE_ELEMENTS:
        return f"there is a <{name}>"
    if name == "link" and "stylesheet" in attributes.get("rel", "").lower():
        return "a style sheet is linked"
    if name == "meta" and attributes.get("http-equiv", "").lower() == "refresh":
        return "the page redirects to another"
    handlers = sorted(attribute for attribute in attributes if attribute.startswith("on"))
    return f"<{name}> has the event handler {handlers[0]}" if handlers and sample is not Sample.HOSTILE else ""


def check_style_size(mail: RenderedMail) -> Iterator[Violation]:
    """Check 14."""
    for element in mail.page.all("style"):
        size = len(text_of(element).encode())
        if size > LARGEST_STYLE:
            problem = f"a style sheet has {size:,} octets"
            remedy = f"keep each <style> under {LARGEST_STYLE:,}: Gmail drops the whole sheet otherwise"
            yield Violation(14, problem, remedy, html=mail.page.tag_of(element))


def check_html_size(mail: RenderedMail) -> Iterator[Violation]:
    """Check 15."""
    size = len(mail.email.html.encode())
    if size > LARGEST_HTML:
        remedy = f"keep it under {LARGEST_HTML:,}: Gmail hides what comes after 102 kB"
        yield Violation(15, f"the HTML has {size // 1000} kB", remedy)


def check_html_errors(mail: RenderedMail) -> Iterator[Violation]:
    """Check 21."""
    for error in mail.page.errors:
        remedy = "close every tag in order, and put text of a table into cells: clients repair such errors differently"
        yield Violation(21, f"{error.message.rstrip('.')} ({bounded(error.line, 40)})", remedy, html=error.line)
