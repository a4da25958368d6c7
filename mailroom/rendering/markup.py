"""What an operator's HTML needs beside escaping: where a value stands, harmless links, CSS put inline, a text part.

Imported templates are HTML that Jinja never saw, and an overlay may hold anything. A value that is escaped can still do
harm in four places: an attribute without quotes, a style, a script, and a link.
"""

import re
from collections.abc import Generator, Iterator
from enum import Enum
from functools import cache, partial
from html import escape, unescape
from typing import TYPE_CHECKING, Final

from mailroom.rendering.links import address

if TYPE_CHECKING:
    from css_inline import CSSInliner

MARK: Final = "\ue000"
"""Stands for a value where `places` looks for one."""


class Place(Enum):
    """Where in HTML a value stands, and so what it may be."""

    TEXT = "text"
    """Between tags, or in an attribute with quotes."""
    UNQUOTED = "an attribute without quotes"
    STYLE = "a style"
    NOWHERE = "a tag, a script or an event handler"
    """Where no stranger's value is harmless."""

    def shown(self, value: str) -> str:
        """Return a value as it may stand here."""
        if self is Place.TEXT:
            return escape(value)
        if self is Place.UNQUOTED:
            return _UNSAFE_UNQUOTED.sub(lambda match: f"&#{ord(match[0])};", value)
        if self is Place.STYLE:
            harmless = _STYLE_WORD.fullmatch(value) or (address(value) == value and not _STYLE_SYNTAX.search(value))
            return escape(value) if harmless else ""
        return ""


_UNSAFE_UNQUOTED: Final = re.compile(r"[^A-Za-z0-9._~/?:@!*,;%+-]")
_STYLE_WORD: Final = re.compile(r"[A-Za-z0-9_#.,% +-]*")
_STYLE_SYNTAX: Final = re.compile(r"[()'\"\\;*{}]")

_NEXT: Final = re.compile(f"[<{MARK}]")
_CONDITION: Final = re.compile(r"<!--\[if[^\]>]*\]>(?:<!-->)?|<!(?:--<!)?\[endif\](?:--)?>", re.IGNORECASE)
_TAG: Final = re.compile(f"</?([A-Za-z{MARK}][^\\s/>]*)")
_ATTRIBUTE: Final = re.compile(
    r"""[\s/]*(?P<name>[^\s/>=][^\s/>=]*)"""
    r"""(?:\s*=\s*(?:"(?P<double>[^"]*)"?|'(?P<single>[^']*)'?|(?P<bare>[^\s>"'][^\s>]*)|(?=>)))?""",
)
_RAW: Final = frozenset({"script", "style", "xmp", "iframe", "noembed", "noframes", "noscript", "plaintext"})


def places(html: str) -> Iterator[Place]:
    """Yield for each `MARK` in HTML where it stands, in their order. Outlook's conditional comments count as HTML."""
    at = 0
    while found := _NEXT.search(html, at):
        at = found.start()
        if found[0] == MARK:
            yield Place.TEXT
            at += 1
        elif match := _CONDITION.match(html, at):
            at = match.end()
        elif html.startswith("<!--", at):
            at = yield from _until(html, at + 4, "-->", Place.TEXT)
        elif html.startswith(("<!", "<?"), at):
            at = yield from _until(html, at + 2, ">", Place.NOWHERE)
        elif match := _TAG.match(html, at):
            yield from [Place.NOWHERE] * match[1].count(MARK)
            at = yield from _attributes(html, match.end())
            name = match[1].lower()
            if name in _RAW and html[match.start() + 1] != "/":
                place = Place.STYLE if name == "style" else Place.NOWHERE
                at = yield from _until(html, at, f"</{name}", place, past=False)
        else:
            at += 1


def _until(html: str, at: int, end: str, place: Place, *, past: bool = True) -> Generator[Place, None, int]:
    found = re.compile(re.escape(end), re.IGNORECASE).search(html, at)
    stop = found.start() if found else len(html)
    yield from [place] * html.count(MARK, at, stop)
    return (found.end() if past else stop) if found else stop


def _attributes(html: str, at: int) -> Generator[Place, None, int]:
    while match := _ATTRIBUTE.match(html, at):
        name = match["name"].lower()
        yield from [Place.NOWHERE] * name.count(MARK)
        quoted = (match["double"] or match["single"] or "").count(MARK)
        bare = (match["bare"] or "").count(MARK)
        if name.startswith("on") or name == "srcdoc":
            yield from [Place.NOWHERE] * (quoted + bare)
        elif name == "style":
            yield from [Place.STYLE if quoted else Place.NOWHERE] * (quoted + bare)
        else:
            yield from [Place.TEXT] * quoted
            yield from [Place.UNQUOTED] * bare
        at = match.end()
    end = html.find(">", at)
    return end + 1 if end >= 0 else len(html)


_SCHEMED: Final = re.compile(
    r"""(?<!style)=\s*(?:"([^":]*:[^"]*)"|'([^':]*:[^']*)'|([^\s"'>:=]+:[^\s>]*))""",
)
"""An attribute's value with a colon; begins with a letter that is rare, which makes it ten times as fast."""
_LEADS: Final = re.compile(
    r"(?<![\w-])(?:href|src|action|formaction|background|poster|data|cite|longdesc|usemap|ping)\s*\Z", re.IGNORECASE
)
_LONGEST_LEAD: Final = 40
_IGNORED: Final = re.compile("[\0-\x20\x7f]+")
"""Browsers drop them from the front of a link, and line breaks from within."""
_SCHEME: Final = re.compile(r"([^/?#:]*):")
_SCHEMES: Final = frozenset({"https", "http", "mailto", "tel", "sms", "cid"})
_PICTURE: Final = re.compile(r"data:image/(?:png|jpe?g|gif);base64,[A-Za-z0-9+/=]*\Z")


def with_harmless_links(html: str, schemes: frozenset[str] = frozenset()) -> str:
    """Return HTML in which every link with another scheme than a mail's, or these, leads nowhere."""
    return _SCHEMED.sub(partial(_checked, _SCHEMES | schemes), html)


def _checked(schemes: frozenset[str], match: re.Match[str]) -> str:
    target = _IGNORED.sub("", unescape(match[1] or match[2] or match[3]))
    scheme = _SCHEME.match(target)
    if not scheme or scheme[1].lower() in schemes or _PICTURE.match(target):
        return match[0]
    start = match.start()
    leads = _LEADS.search(match.string[max(0, start - _LONGEST_LEAD) : start])
    return '="#"' if leads else match[0]


_STYLE_SHEET: Final = re.compile(r"<style\b", re.IGNORECASE)


def is_styled(html: str) -> bool:
    """Tell whether HTML has a style sheet of its own."""
    return _STYLE_SHEET.search(html) is not None


def with_inline_style(html: str) -> str:
    """Return HTML with its style sheets' rules in the elements: several mail clients read no others.

    HTML that css-inline cannot read stays as it is.
    """
    try:
        return _inliner().inline(html)
    except ValueError:  # InlineError is one
        return html


@cache
def _inliner() -> "CSSInliner":
    from css_inline import CSSInliner  # noqa: PLC0415 - for operators' style sheets only

    return CSSInliner(
        load_remote_stylesheets=False,
        keep_style_tags=True,  # what cannot be inline stays: hover, dark mode
        remove_inlined_selectors=True,
    )


_MARKDOWN_LINK: Final = re.compile(r"\[([^\[\]]*)\]\(([^()]*(?:\([^()]*\)[^()]*)*)\)")
_BLANK_LINES: Final = re.compile(r"[ \t\u00a0]*\n(?:[ \t\u00a0]*\n){2,}")


def as_text(html: str) -> str:
    """Return the text of HTML, with each link's address behind its words. Takes about 2 ms."""
    from inscriptis import get_text  # noqa: PLC0415 - lxml, for operators' templates without a text part only
    from inscriptis.css_profiles import STRICT_CSS_PROFILE  # noqa: PLC0415 - likewise
    from inscriptis.model.config import ParserConfig  # noqa: PLC0415 - likewise

    readable = ParserConfig(css=STRICT_CSS_PROFILE, display_links=True)
    text = _MARKDOWN_LINK.sub(_written_link, get_text(html, readable))
    return _BLANK_LINES.sub("\n\n", text).strip("\n") + "\n"


def _written_link(match: re.Match[str]) -> str:
    words, address = match[1].strip(), match[2].strip()
    if address.startswith("#") or not address:
        return words
    if not words or words in (address, address.removeprefix("mailto:")):
        return address.removeprefix("mailto:")
    return f"{words} <{address}>"
