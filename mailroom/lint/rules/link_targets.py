"""Check 11: links that readers and spam filters can trust."""

import re
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Final
from urllib.parse import SplitResult, urlsplit

from mailroom.lint.html import text_of
from mailroom.lint.rule import RenderedMail, Violation
from mailroom.text import bounded

_SAFE_SCHEMES: Final = frozenset({"https", "mailto", "tel"})
_SHORTENERS: Final = frozenset(
    {
        "bit.ly", "tinyurl.com", "goo.gl", "t.co", "ow.ly", "is.gd", "buff.ly", "rebrand.ly", "cutt.ly", "shorturl.at",
        "lnkd.in", "tiny.cc", "t.ly", "rb.gy", "v.gd", "bl.ink", "short.io", "s.id",
    }
)  # fmt: skip
_URL_TEXT: Final = re.compile(r"(?:https?://)?((?:[a-z0-9-]+\.)+[a-z]{2,24})(?::\d+)?(?:[/?#]\S*)?\Z", re.IGNORECASE)
"""A link's text that is itself a URL or a host name."""


def check_links(mail: RenderedMail) -> Iterator[Violation]:
    """Check 11."""
    for element, url in mail.quick_page.links:
        for problem, remedy, *other in _find_problems(url, " ".join(text_of(element).split()), mail.link_schemes):
            line = mail.quick_page.tag_of(element)
            yield Violation(11, problem, remedy, html=line, logto_remedy="".join(other))


def _find_problems(url: str, text: str, schemes: frozenset[str]) -> Iterator[tuple[str, ...]]:
    """Yield problem and remedy, and a third text if the remedy in a Logto template differs."""
    parts = _parse_url(url)
    if not url or url.startswith("#"):
        remedy = "remove it, or put it into {% if link %}: the payload may lack the link"
        yield "a link leads nowhere", remedy, "write its address: Logto may send no value for the placeholder"
    elif parts is None or parts.scheme.lower() not in _SAFE_SCHEMES | schemes:
        yield f"a link leads to {bounded(url, 60)}", "use an absolute https URL: filters distrust others"
    elif parts.scheme.lower() == "https":
        host = (parts.hostname or "").lower()
        if not host or _is_ip_address(host):
            yield f"a link leads to an IP address: {bounded(url, 60)}", "use a host name"
        if host.removeprefix("www.") in _SHORTENERS:
            yield f"{host} is a link shortener", "use the target's URL: filters block link shorteners"
        if parts.username is not None:
            yield "a link has a user name before its host", "remove it: it looks like another host"
        url_text = _URL_TEXT.match(text)
        if url_text and url_text[1].lower().removeprefix("www.") != host.removeprefix("www."):
            problem = f"a link's text is {bounded(text, 40)}, but it leads to {host}"
            yield problem, "use the same host in the text, or no URL as text"


def _parse_url(url: str) -> SplitResult | None:
    try:
        return urlsplit(url)
    except ValueError:
        return None


def _is_ip_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return host.isdigit()
    return True
