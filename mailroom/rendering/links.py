"""What a payload's link becomes: an address to click, a text to copy, or nothing.

Links are written by people and by other people's software, so they are repaired as browsers do it (WHATWG URL, §4.4):
trimmed, percent-encoded, the host in ASCII. What still is no address may be copied; `javascript:` and its kin never.
"""

import re
from collections.abc import Collection
from functools import lru_cache
from typing import Any, Final
from urllib.parse import quote

import msgspec

from mailroom.address import ascii_form
from mailroom.rendering.inert import LONGEST_VALUE, one_line, whole

LONGEST_LINK: Final = LONGEST_VALUE
"""Characters, percent-encoding included. A signed token makes thousands of them."""

DANGEROUS_SCHEMES: Final = frozenset(
    {
        *("javascript", "data", "vbscript", "livescript", "mocha", "about", "blob", "file", "filesystem", "jar"),
        *("mhtml", "mk", "its", "ms-its", "res", "view-source", "wyciwyg"),
    }
)
"""Schemes that run code, or show what stands in the link itself or on the reader's disk."""
SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")
"""RFC 3986 §3.1."""

_READY: Final = re.compile(
    r"https?://(?:[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9_])?|\[[0-9A-Fa-f:.]{2,45}\])"
    r"(?::[0-9]{1,5})?"
    r"(?:[/?#][A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]*)?\Z",
    re.IGNORECASE,
)
_PARTS: Final = re.compile(r"(https?)://([^/?#\\]*)([^?#]*)(.*)\Z", re.IGNORECASE | re.DOTALL)
_HOST: Final = re.compile(r"[A-Za-z0-9._-]+")
_AUTHORITY: Final = re.compile(r"(.*?)(:[0-9]{0,5})?\Z")
_AROUND: Final = "".join(map(chr, range(0x21))) + "\x7f\xa0\u2028\u2029\u3000\ufeff"
_WITHIN: Final = re.compile(r"[\t\r\n]+")
_KEPT: Final = "._~:/?#[]@!$&'()*+,;=%-"
_NO_SCHEME: Final = re.compile(r"[^A-Za-z0-9+.:-]+")


_PICTURES: Final = frozenset({"png", "jpg", "jpeg", "gif"})
_LONGEST_LOGO: Final = 2048


class Link(msgspec.Struct, frozen=True):
    """How a mail shows a link; at most one of the two."""

    href: str = ""
    """An absolute address in ASCII, without anything that could leave an attribute in quotes."""
    text: str = ""
    """What is to be copied, one line: it cannot be an address."""

    @property
    def shown(self) -> str:
        """Whichever there is."""
        return self.href or self.text


_NO_LINK: Final = Link()


def is_given(value: Any) -> bool:
    """Return whether a payload has a link, of whatever kind: null, an empty text or an empty object is none."""
    return bool(value.strip()) if isinstance(value, str) else bool(value)


def link(value: Any, schemes: Collection[str] = ()) -> Link:
    """Return how to show any JSON value that stands for a link; `schemes` are allowed beside http and https."""
    if value is None:  # as in the mails of codes
        return _NO_LINK
    href = address(value, schemes)
    return Link(href=href) if href else Link(text=_copyable(value))


def address(value: Any, schemes: Collection[str] = ()) -> str:
    """Return an absolute link with one of the schemes, or nothing.

    User and password before the host are refused: `https://bank.example@evil.example/` leads to the second.
    """
    if not isinstance(value, str) or not value or len(value) > LONGEST_LINK:
        return ""
    if _READY.match(value):
        return value
    text = _WITHIN.sub("", whole(value).strip(_AROUND))
    made = _web_address(text) or _address_of_an_application(text, schemes)
    return made if len(made) <= LONGEST_LINK else ""


def _web_address(text: str) -> str:
    parts = _PARTS.match(text)
    if not parts:
        return ""
    scheme, authority, path, rest = parts.groups()
    host, port = _split(authority)
    made = f"{scheme}://{_ascii_host(host)}{port}{_encoded(path.replace(chr(92), '/') + rest)}"
    return made if _READY.match(made) else ""


def _split(authority: str) -> tuple[str, str]:
    found = _AUTHORITY.match(authority)
    assert found  # it matches everything
    return found[1], "" if found[2] in (None, ":") else found[2]


def _ascii_host(host: str) -> str:
    """Return a host in ASCII by IDNA 2008, else 2003, which has symbols; nothing if it is none."""
    if host.isascii():
        return host
    try:
        made = ascii_form(f"a@{host}").rpartition("@")[2]
    except ValueError:
        try:
            made = host.encode("idna").decode("ascii")
        except UnicodeError:
            return ""
    return made if _HOST.fullmatch(made) else ""  # a full-width slash becomes a real one


def _address_of_an_application(text: str, schemes: Collection[str]) -> str:
    scheme, colon, rest = text.partition(":")
    if not colon or not rest or scheme.lower() not in schemes or scheme.lower() in DANGEROUS_SCHEMES:
        return ""
    return f"{scheme}:{_encoded(rest)}"


def _encoded(text: str) -> str:
    return quote(text, safe=_KEPT)


def _copyable(value: Any) -> str:
    """Return one line that can be copied; nothing of what is no text, is dangerous, or too long to be shown whole."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    if isinstance(value, int) and value.bit_length() > LONGEST_LINK:  # Python refuses to write it
        return ""
    if isinstance(value, str) and len(value) > LONGEST_LINK:
        return ""
    text = one_line(str(value))
    scheme = _NO_SCHEME.sub("", text).partition(":")[0]
    return "" if scheme.lower() in DANGEROUS_SCHEMES and ":" in text else text


def logo(value: Any) -> str:
    """Return the https address of a picture that mail clients show: PNG, JPEG or GIF by its ending, or without one."""
    return _picture(value) if isinstance(value, str) and len(value) <= _LONGEST_LOGO else ""


@lru_cache(maxsize=128)
def _picture(value: str) -> str:
    """Look at a logo once: it is in every mail of its owner."""
    found = address(value)
    if not found.startswith("https://"):
        return ""
    _, _, file = found.partition("?")[0].partition("#")[0].rpartition("/")
    _, dot, ending = file.rpartition(".")
    return found if not dot or ending.lower() in _PICTURES else ""
