"""Check 11: links that readers and filters can trust."""

import re
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Final
from urllib.parse import SplitResult, urlsplit

from mailroom.checking.mail import Complaint, Mail, excerpt
from mailroom.checking.page import text_of

_HARMLESS: Final = frozenset({"https", "mailto", "tel"})
_SHORTENERS: Final = frozenset(
    {
        "bit.ly", "tinyurl.com", "goo.gl", "t.co", "ow.ly", "is.gd", "buff.ly", "rebrand.ly", "cutt.ly", "shorturl.at",
        "lnkd.in", "tiny.cc", "t.ly", "rb.gy", "v.gd", "bl.ink", "short.io", "s.id",
    }
)  # fmt: skip
_NAMED: Final = re.compile(r"(?:https?://)?((?:[a-z0-9-]+\.)+[a-z]{2,24})(?::\d+)?(?:[/?#]\S*)?\Z", re.IGNORECASE)
"""A link's text that is itself an address."""


def lead_where_they_say(mail: Mail) -> Iterator[Complaint]:
    """Check 11."""
    for element, address in mail.page.links:
        for problem, remedy in _objections(address, " ".join(text_of(element).split())):
            yield Complaint(11, problem, remedy, html=mail.page.tag_of(element))


def _objections(address: str, text: str) -> Iterator[tuple[str, str]]:
    parts = _parsed(address)
    if not address or address.startswith("#"):
        yield "a link leads nowhere", "take it out, or put it within {% if link %}: the payload may lack its address"
    elif parts is None or parts.scheme.lower() not in _HARMLESS:
        yield f"a link leads to {excerpt(address, 60)}", "use its whole https address: filters distrust all others"
    elif parts.scheme.lower() == "https":
        host = (parts.hostname or "").lower()
        if not host or _is_number(host):
            yield f"a link leads to a number: {excerpt(address, 60)}", "use a host with a name"
        if host.removeprefix("www.") in _SHORTENERS:
            yield f"{host} hides where it leads", "use the address itself: filters block shorteners"
        if parts.username is not None:
            yield "a link has a user name before its host", "take it out: it looks like another host"
        named = _NAMED.match(text)
        if named and named[1].lower().removeprefix("www.") != host.removeprefix("www."):
            yield f"a link says {excerpt(text)} and leads to {host}", "let it say where it leads, or words"


def _parsed(address: str) -> SplitResult | None:
    try:
        return urlsplit(address)
    except ValueError:
        return None


def _is_number(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return host.isdigit()
    return True
