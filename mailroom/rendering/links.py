"""Sanitizes links of payloads: `link(value)` gives a URL to click, a text to copy, or nothing.

Links are normalized as browsers do it (WHATWG URL, §4.4): trimmed, percent-encoded, host in ASCII. A value that is no
valid URL then is shown as text to copy, unless it has a dangerous scheme such as `javascript:`.
"""

import re
from collections.abc import Collection
from functools import lru_cache
from typing import Any, Final
from urllib.parse import quote

import msgspec

from mailroom.address import ascii_domain
from mailroom.rendering.sanitize import LONGEST_VALUE, is_too_large, one_line, replace_surrogates

LONGEST_LINK: Final = LONGEST_VALUE
"""Characters after percent-encoding. Links with signed tokens can have thousands."""

DANGEROUS_SCHEMES: Final = frozenset(
    {
        *("javascript", "data", "vbscript", "livescript", "mocha", "about", "blob", "file", "filesystem", "jar"),
        *("mhtml", "mk", "its", "ms-its", "res", "view-source", "wyciwyg"),
    }
)
"""Schemes that run code, or show content of the link itself or of the reader's disk."""
SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")
"""RFC 3986 §3.1."""

_NORMALIZED: Final = re.compile(
    r"https?://(?:[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9_])?|\[[0-9A-Fa-f:.]{2,45}\])"
    r"(?::[0-9]{1,5})?"
    r"(?:[/?#][A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]*)?\Z",
    re.IGNORECASE,
)
_PARTS: Final = re.compile(
    r"(https?)://([^/?#\\]*?)(?::([0-9]{0,5}))?"  # scheme, host, port
    r"((?:[/\\][^?#]*)?)((?:[?#].*)?)\Z",  # path; query and fragment
    re.IGNORECASE | re.DOTALL,
)
_OUTER_SPACE: Final = "".join(map(chr, range(0x21))) + "\x7f\xa0\u2028\u2029\u3000\ufeff"
_INNER_SPACE: Final = re.compile(r"[\t\r\n]+")
_UNQUOTED: Final = "._~:/?#[]@!$&'()*+,;=%-"
_NOT_IN_SCHEME: Final = re.compile(r"[^A-Za-z0-9+.:-]+")


_IMAGE_SUFFIXES: Final = frozenset({"png", "jpg", "jpeg", "gif"})
_LONGEST_LOGO: Final = 2048


class Link(msgspec.Struct, frozen=True):
    """A sanitized link; at most one of the two fields is set."""

    href: str = ""
    """An absolute URL in ASCII, safe within a quoted HTML attribute."""
    text: str = ""
    """One line to be copied by the reader, because it is not a valid URL."""

    @property
    def shown(self) -> str:
        """Whichever of the two is set, else empty."""
        return self.href or self.text


_NO_LINK: Final = Link()


def is_given(value: Any) -> bool:
    """Return whether a payload has any link, valid or not: null, blank texts and empty objects are none."""
    return bool(value.strip()) if isinstance(value, str) else bool(value)


def link(value: Any, schemes: Collection[str] = ()) -> Link:
    """Return the sanitized link for any JSON value; `schemes` are allowed in addition to http and https."""
    if value is None:  # mails with a code have no link
        return _NO_LINK
    href = address(value, schemes)
    return Link(href=href) if href else Link(text=_text_to_copy(value))


def address(value: Any, schemes: Collection[str] = ()) -> str:
    """Return an absolute URL with http, https or one of these schemes, else an empty string.

    User and password before the host are refused: `https://bank.example@evil.example/` leads to evil.example.
    """
    if not isinstance(value, str) or not value or len(value) > LONGEST_LINK:
        return ""
    if _NORMALIZED.match(value):
        return value
    text = _INNER_SPACE.sub("", replace_surrogates(value).strip(_OUTER_SPACE))
    url = _normalize_web_url(text) or _normalize_app_url(text, schemes)
    return url if len(url) <= LONGEST_LINK else ""


def _normalize_web_url(text: str) -> str:
    parts = _PARTS.match(text)
    if not parts:
        return ""
    scheme, host, port, path, rest = parts.groups()
    authority = f"{_host_to_ascii(host)}:{port}" if port else _host_to_ascii(host)
    url = f"{scheme}://{authority}{_percent_encode(path.replace(chr(92), '/') + rest)}"
    return url if _NORMALIZED.match(url) else ""


def _host_to_ascii(host: str) -> str:
    """Return a host in ASCII; empty if it is invalid."""
    if host.isascii():
        return host
    try:
        return ascii_domain(host)
    except ValueError:
        return ""


def _normalize_app_url(text: str, schemes: Collection[str]) -> str:
    scheme, colon, rest = text.partition(":")
    if not colon or not rest or scheme.lower() not in schemes or scheme.lower() in DANGEROUS_SCHEMES:
        return ""
    return f"{scheme}:{_percent_encode(rest)}"


def _percent_encode(text: str) -> str:
    return quote(text, safe=_UNQUOTED)


def _text_to_copy(value: Any) -> str:
    """Return one line that can be copied; empty for other types, dangerous schemes, and texts that are too long."""
    if isinstance(value, bool) or not isinstance(value, str | int | float) or is_too_large(value):
        return ""
    if isinstance(value, str) and len(value) > LONGEST_LINK:
        return ""
    text = one_line(str(value))
    scheme = _NOT_IN_SCHEME.sub("", text).partition(":")[0]
    return "" if scheme.lower() in DANGEROUS_SCHEMES and ":" in text else text


def logo(value: Any) -> str:
    """Return the https URL of an image that mail clients show: its suffix is PNG, JPEG or GIF, or it has none."""
    return _image_url(value) if isinstance(value, str) and len(value) <= _LONGEST_LOGO else ""


@lru_cache(maxsize=128)
def _image_url(value: str) -> str:
    """Validate a logo's URL; cached, because it is in every mail of its owner."""
    url = address(value)
    if not url.startswith("https://"):
        return ""
    _, _, file = url.partition("?")[0].partition("#")[0].rpartition("/")
    _, dot, suffix = file.rpartition(".")
    return url if not dot or suffix.lower() in _IMAGE_SUFFIXES else ""
