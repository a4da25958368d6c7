"""Parses a mail's HTML: as browsers do (html5lib), with parse errors, or quickly (libxml2)."""

import re
from collections.abc import Iterator, Mapping
from functools import cached_property, lru_cache
from typing import Any, Final, NamedTuple
from xml.etree.ElementTree import Element

import html5lib
import lxml.html
import tinycss2
from cssselect2 import ElementWrapper
from html5lib.constants import E as ERRORS

_TOLERATED: Final = frozenset(
    {
        # Old doctypes are common in mails; without one, browsers lay out tables like mail clients.
        "unknown-doctype",
        "expected-doctype-but-got-start-tag",
        "expected-doctype-but-got-chars",
        "non-void-element-with-trailing-solidus",
        "invalid-codepoint",
    }
)
_WITHOUT_TEXT: Final = frozenset({"head", "title", "style", "script", "template", "noscript"})
_INLINE: Final = frozenset({"a", "abbr", "b", "bdi", "bdo", "code", "em", "font", "i", "small", "span", "strong", "u"})
_COMMENT: Final = re.compile(r"<!--(?:>|(?!\[if[^\]]*\]><!-->).*?-->)", re.DOTALL)
_TEXT_BETWEEN_CELLS: Final = re.compile(
    r"(?:<(?:table|tbody|thead|tfoot|tr)\b[^>]*>|</(?:td|th|tr|tbody|thead|tfoot)\s*>)\s*([^<\s])", re.IGNORECASE
)
_REFERENCE: Final = re.compile(r"&#([0-9]{3,7});")
_TEXT: Final = re.compile(r">([^<]*)<")
_LANGUAGE: Final = re.compile(r"""\slang=(?:"[^"]*"|'[^']*')""")
_LETTERS: Final = range(0xA0, 0xD800)
"""All characters up to the surrogates, except ASCII and control characters."""


class HtmlError(NamedTuple):
    """A parse error that browsers repair by guessing, and the line of the HTML that has it."""

    line: str
    message: str


class QuickPage:
    """The HTML of one mail, parsed by libxml2: in 0.2 ms instead of 5; the tree of invalid HTML may differ."""

    def __init__(self, html: str) -> None:
        self.html = html
        self.root: ElementWrapper = ElementWrapper.from_html_root(self._parse(html))
        self.elements: list[ElementWrapper] = list(self.root.iter_subtree())

    def _parse(self, html: str) -> Any:
        """Return the root element."""
        parser = lxml.html.HTMLParser(encoding="utf-8", remove_comments=True)
        return lxml.html.document_fromstring((html or "<html></html>").encode(), parser=parser)

    def all(self, *names: str) -> list[ElementWrapper]:
        """Return the elements with one of these names."""
        return [element for element in self.elements if element.local_name in names]

    def first(self, name: str) -> ElementWrapper | None:
        """Return the first element with this name, or None."""
        return next(iter(self.all(name)), None)

    def tag_of(self, element: ElementWrapper) -> str:
        """Return the line on which an element's tag begins."""
        name, node = element.local_name, element.etree_element
        number = next(at for at, other in enumerate(self.all(name)) if other.etree_element is node)
        matches = re.finditer(rf"<{re.escape(name)}(?![\w-])", self._without_comments, re.IGNORECASE)
        return next((self._line_at(match.start()) for at, match in enumerate(matches) if at == number), f"<{name}")

    def line_with(self, text: str) -> str:
        """Return the first line that contains a text; the text itself if none does."""
        at = self.html.find(text)
        return self._line_at(at) if at >= 0 else text

    def _line_at(self, at: int) -> str:
        end = self.html.find("\n", at)
        return self.html[self.html.rfind("\n", 0, at) + 1 : end if end >= 0 else None]

    @cached_property
    def _without_comments(self) -> str:
        """The HTML with comments replaced by spaces, so that offsets stay the same."""
        return _COMMENT.sub(lambda comment: re.sub(r"[^\n]", " ", comment[0]), self.html)

    @cached_property
    def style_sheets(self) -> tuple[str, ...]:
        """The content of all `<style>` elements."""
        return tuple(text_of(element) for element in self.all("style"))

    @cached_property
    def body_text(self) -> str:
        """The text of the body, visible or not."""
        return "".join(text for _, text in self.texts())

    def texts(self) -> Iterator[tuple[ElementWrapper, str]]:
        """Yield each text node of the body with its element, in document order."""
        for body in self.all("body"):
            yield from _iterate_texts(body)

    @cached_property
    def blocks(self) -> list[str]:
        """The texts of the lines that a reader sees: text without the tags of inline elements."""
        lines: dict[int, str] = {}
        for element, text in self.texts():
            block = next((one for one in (element, *element.ancestors) if one.local_name not in _INLINE), element)
            lines[id(block)] = lines.get(id(block), "") + text
        return list(lines.values())

    @cached_property
    def links(self) -> list[tuple[ElementWrapper, str]]:
        """The link elements and their trimmed URLs."""
        return [
            (element, element.etree_element.get("href", "").strip())
            for element in self.all("a", "area")
            if "href" in element.etree_element.attrib
        ]


class HtmlPage(QuickPage):
    """The HTML of one mail, parsed as browsers do."""

    def _parse(self, html: str) -> Any:
        parser = html5lib.HTMLParser(tree=html5lib.getTreeBuilder("etree"))
        decoded = _REFERENCE.sub(_decode_reference, html)  # slow to parse, and used for every letter of most languages
        root = parser.parse(decoded)
        self._parse_errors = parser.errors
        return root

    @property
    def errors(self) -> list[HtmlError]:
        """Errors by the HTML standard."""
        lines = self.html.splitlines()
        # Browsers move such text before the table; html5lib does not report that.
        strays = [
            HtmlError(self._line_at(match.start(1)), "Text between table cells")
            for match in _TEXT_BETWEEN_CELLS.finditer(self._without_comments)
        ]
        return strays + [
            HtmlError(lines[min(row, len(lines)) - 1] if lines else "", ERRORS[code] % details)
            for (row, _), code, details in self._parse_errors
            if code not in _TOLERATED
        ]


def _decode_reference(match: re.Match[str]) -> str:
    """Return the character of a letter's reference; others stay, because some are invalid and are reported."""
    number = int(match[1])
    return chr(number) if number in _LETTERS else match[0]


def skeleton(html: str) -> str:
    """Return HTML without its texts: equal for mails that differ in language only.

    Rules about tags, attributes and styles are then applied once for all of them.
    """
    bare = _LANGUAGE.sub("", _REFERENCE.sub("x", html))
    return _TEXT.sub(_shorten_text, bare)


def _shorten_text(match: re.Match[str]) -> str:
    text = match[1]
    if "{" in text or "&" in text:  # a style sheet, or a reference that may be invalid
        return match[0]
    return ">x<" if text.strip() else "><"


def _iterate_texts(element: ElementWrapper) -> Iterator[tuple[ElementWrapper, str]]:
    if element.local_name in _WITHOUT_TEXT:
        return
    if element.etree_element.text:
        yield element, element.etree_element.text
    for child in element.iter_children():
        yield from _iterate_texts(child)
        if child.etree_element.tail:
            yield element, child.etree_element.tail


def text_of(element: ElementWrapper) -> str:
    """Return the text of an element and its descendants."""
    node: Element = element.etree_element
    return "".join(node.itertext())


Declarations = Mapping[str, tuple[list[Any], bool]]
"""Property -> (tokens, is important)."""


@lru_cache(maxsize=4096)
def declarations(style: str) -> Declarations:
    """Parse the declarations of a `style` attribute or of a rule."""
    return {
        node.lower_name: (node.value, node.important)
        for node in tinycss2.parse_blocks_contents(style, skip_comments=True, skip_whitespace=True)
        if node.type == "declaration"
    }


def inline(element: ElementWrapper) -> Declarations:
    """Return the declarations of an element's `style` attribute."""
    return declarations(element.etree_element.get("style", ""))
