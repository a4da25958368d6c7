"""Reads a mail's HTML as a browser does: its elements, its text, and every error of the HTML standard."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Final
from xml.etree.ElementTree import Element

import html5lib
import tinycss2
from cssselect2 import ElementWrapper
from html5lib.constants import E as ERRORS

_TOLERATED: Final = frozenset(
    {
        # Old doctypes are usual in mails; a browser without one lays tables out as mail clients do.
        "unknown-doctype",
        "expected-doctype-but-got-start-tag",
        "non-void-element-with-trailing-solidus",
        "invalid-codepoint",
    }
)
_UNSEEN: Final = frozenset({"head", "title", "style", "script", "template", "noscript"})
_COMMENT: Final = re.compile(r"<!--(?!\[if[^\]]*\]><!-->).*?-->", re.DOTALL)
_STRAY: Final = re.compile(
    r"(?:<(?:table|tbody|thead|tfoot|tr)\b[^>]*>|</(?:td|th|tr|tbody|thead|tfoot)\s*>)\s*([^<\s])", re.IGNORECASE
)
_REFERENCE: Final = re.compile(r"&#([0-9]{3,7});")
_TEXT: Final = re.compile(r">([^<]*)<")
_LANGUAGE: Final = re.compile(r"""\slang=(?:"[^"]*"|'[^']*')""")
_FIRST_UNCONTROLLED: Final = 0xA0


@dataclass(frozen=True, slots=True)
class Broken:
    """A place where a browser has to guess what was meant."""

    line: str
    """Of the HTML."""
    words: str


class Page:
    """The HTML of one mail, parsed."""

    def __init__(self, html: str) -> None:
        self.html = html
        parser = html5lib.HTMLParser(tree=html5lib.getTreeBuilder("etree"))
        written_out = _REFERENCE.sub(_character, html)  # in most languages every letter is one, and slow to read
        self.root: ElementWrapper = ElementWrapper.from_html_root(parser.parse(written_out))
        self.elements: list[ElementWrapper] = list(self.root.iter_subtree())
        self._errors = parser.errors

    @property
    def broken(self) -> list[Broken]:
        """Where the HTML is not as the standard wants it."""
        lines = self.html.splitlines()
        # Browsers move such text before the table, and html5lib does so without a word.
        strays = [
            Broken(self._line_at(match.start(1)), "Text between the cells") for match in _STRAY.finditer(self._bare)
        ]
        return strays + [
            Broken(lines[min(row, len(lines)) - 1] if lines else "", ERRORS[code] % details)
            for (row, _), code, details in self._errors
            if code not in _TOLERATED
        ]

    def all(self, *names: str) -> list[ElementWrapper]:
        """Return the elements of these names."""
        return [element for element in self.elements if element.local_name in names]

    def first(self, name: str) -> ElementWrapper | None:
        """Return the first element of this name."""
        return next(iter(self.all(name)), None)

    def tag_of(self, element: ElementWrapper) -> str:
        """Return the line on which an element's tag begins: the templates are searched for it."""
        name, node = element.local_name, element.etree_element
        number = next(at for at, other in enumerate(self.all(name)) if other.etree_element is node)
        found = re.finditer(rf"<{re.escape(name)}(?![\w-])", self._bare, re.IGNORECASE)
        return next((self._line_at(match.start()) for at, match in enumerate(found) if at == number), f"<{name}")

    def line_with(self, words: str) -> str:
        """Return the first line that holds these words; the words themselves where none does."""
        at = self.html.find(words)
        return self._line_at(at) if at >= 0 else words

    def _line_at(self, at: int) -> str:
        end = self.html.find("\n", at)
        return self.html[self.html.rfind("\n", 0, at) + 1 : end if end >= 0 else None]

    @cached_property
    def _bare(self) -> str:
        """The HTML with blanks for its comments, so that every tag is where it was."""
        return _COMMENT.sub(lambda comment: re.sub(r"[^\n]", " ", comment[0]), self.html)

    @cached_property
    def style_sheets(self) -> tuple[str, ...]:
        """The texts of all `<style>`."""
        return tuple(text_of(element) for element in self.all("style"))

    @cached_property
    def body_text(self) -> str:
        """The text of the body, seen or not, as it would be copied."""
        return "".join(text for _, text in self.texts())

    def texts(self) -> Iterator[tuple[ElementWrapper, str]]:
        """Yield each run of text in the body, with the element that it stands in, in the page's order."""
        body = self.first("body")
        if body is not None:
            yield from _texts(body)

    @cached_property
    def links(self) -> list[tuple[ElementWrapper, str]]:
        """The elements that lead somewhere, and their addresses without white space around."""
        return [
            (element, element.etree_element.get("href", "").strip())
            for element in self.all("a", "area")
            if "href" in element.etree_element.attrib
        ]


def _character(match: re.Match[str]) -> str:
    """Return the character that a reference beyond ASCII stands for; one that is wrong stays, to be found."""
    number = int(match[1])
    is_character = _FIRST_UNCONTROLLED <= number < 0xD800 or 0xE000 <= number < 0x110000  # noqa: PLR2004 - surrogates
    return chr(number) if is_character and number & 0xFFFE != 0xFFFE else match[0]  # noqa: PLR2004 - noncharacters


def skeleton(html: str) -> str:
    """Return HTML without its words: equal for mails that differ in language only.

    What depends on tags, attributes and styles alone is then judged once for all of them.
    """
    bare = _LANGUAGE.sub("", _REFERENCE.sub("x", html))
    return _TEXT.sub(_shortened, bare)


def _shortened(match: re.Match[str]) -> str:
    text = match[1]
    if "{" in text or "&" in text:  # a style sheet, or a reference that may be wrong
        return match[0]
    return ">x<" if text.strip() else "><"


def _texts(element: ElementWrapper) -> Iterator[tuple[ElementWrapper, str]]:
    if element.local_name in _UNSEEN:
        return
    if element.etree_element.text:
        yield element, element.etree_element.text
    for child in element.iter_children():
        yield from _texts(child)
        if child.etree_element.tail:
            yield element, child.etree_element.tail


def text_of(element: ElementWrapper) -> str:
    """Return all text within an element."""
    node: Element = element.etree_element
    return "".join(node.itertext())


Declarations = Mapping[str, tuple[list[Any], bool]]
"""Property -> its tokens, and whether it is important."""


@lru_cache(maxsize=4096)
def declarations(style: str) -> Declarations:
    """Return what a `style` attribute, or a rule's inside, declares."""
    return {
        node.lower_name: (node.value, node.important)
        for node in tinycss2.parse_blocks_contents(style, skip_comments=True, skip_whitespace=True)
        if node.type == "declaration"
    }


def inline(element: ElementWrapper) -> Declarations:
    """Return what an element's own `style` declares."""
    return declarations(element.etree_element.get("style", ""))
