"""Makes a stranger's values harmless: what may stand in a mail of a name, a code, a link or a logo, or nothing.

Every function takes any JSON value and returns a string, empty where there is nothing to show.
"""

import re
from functools import lru_cache
from types import BuiltinMethodType, MethodType
from typing import Any, Final
from urllib.parse import quote

LONGEST_NAME: Final = 60
LONGEST_CODE: Final = 64
LONGEST_LINK: Final = 2048
LONGEST_LINE: Final = 250
LONGEST_VALUE: Final = 8000
"""Characters of any other value that a template prints; Gmail clips a mail at 102 kB."""

_BIDI: Final = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_INVISIBLE: Final = re.compile(f"[\0-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufff9-\ufffb\U000e0000-\U000e007f{_BIDI}]+")
_ALONE: Final = re.compile("[\ud800-\udfff]")
_BREAKS: Final = re.compile(r"\r\n?|[\x0b\x0c\x85\u2028\u2029]")
_HARMFUL: Final = re.compile("[\0-\x08\x0e-\x1f\x7f-\x9f\u202a-\u202e]")

_TEMPTING: Final = re.compile(r"(?<=\w)[.@](?=\w)|:(?=//)")
_JOINER: Final = "\u2060"

_LINK: Final = re.compile(
    r"(?:https://(?:[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\])"
    r"|http://(?:localhost|127\.0\.0\.1|\[::1\]))"
    r"(?::[0-9]{1,5})?"
    r"(?:[/?#][A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]*)?\Z",
    re.IGNORECASE,
)

_PICTURES: Final = frozenset({"png", "jpg", "jpeg", "gif"})


def name(value: Any) -> str:
    """Return a name for subject and body: one short line without controls, in which no mail client finds a link.

    A word joiner after its dots keeps `evil.example` from being made a link; it can be read all the same.
    """
    if not isinstance(value, str) or not value:
        return ""
    text = _one_line(value[: 10 * LONGEST_NAME])
    if len(text) > LONGEST_NAME:
        text = text[: LONGEST_NAME - 1].rstrip() + "…"
    if "." in text or "@" in text or "://" in text:
        return _TEMPTING.sub(rf"\g<0>{_JOINER}", text)
    return text


def code(value: Any) -> str:
    """Return a code as it was given: Logto sends a string of six digits that may begin with 0."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value) if abs(value) < 10**LONGEST_CODE else ""
    if not isinstance(value, str):
        return ""
    text = _one_line(value[: 10 * LONGEST_CODE])
    return text if len(text) <= LONGEST_CODE else ""


def line(text: str) -> str:
    """Return a text as one line without controls, as a header can hold it."""
    return _one_line(text[: 4 * LONGEST_LINE])[:LONGEST_LINE]


def link(value: Any) -> str:
    """Return an https link (http on this machine only, for development) in ASCII, or nothing.

    No other scheme, no user or password before the host, no space, quote or control character. A path beyond
    ASCII is percent-encoded; a host beyond ASCII must come in its ASCII form, as `new URL(…).href` writes it.
    """
    if not isinstance(value, str) or len(value) > LONGEST_LINK:
        return ""
    if not value.isascii():
        value = quote(value, safe=_ASCII, errors="replace")
    return value if _LINK.match(value) else ""


_ASCII: Final = bytes(range(128))
"""Left to the pattern; a host beyond ASCII gets per cents, which the pattern refuses."""


def logo(value: Any) -> str:
    """Return the https address of a picture that mail clients show: PNG, JPEG or GIF by its ending, or without one."""
    return _picture(value) if isinstance(value, str) and len(value) <= LONGEST_LINK else ""


@lru_cache(maxsize=128)
def _picture(value: str) -> str:
    """Look at a logo once: it is in every mail of its owner."""
    address = link(value)
    if not address.startswith("https://"):
        return ""
    _, _, file = address.partition("?")[0].partition("#")[0].rpartition("/")
    _, dot, ending = file.rpartition(".")
    return address if not dot or ending.lower() in _PICTURES else ""


def printed(value: Any) -> Any:
    """Return what a template's `{{ … }}` prints of a value: null, lists and objects are nothing, texts are bounded.

    Logto sends null for a user's empty fields: nobody is to be greeted as None.
    """
    if type(value) is not str:
        return "" if value is None or isinstance(value, _NO_TEXT) or _huge(value) else value
    return written(value)


def written(value: str) -> str:
    """Return a text for a mail's body: bounded, its line breaks plain, without other controls."""
    if value.isprintable() and len(value) <= LONGEST_VALUE:
        return value
    return _HARMFUL.sub("", _BREAKS.sub("\n", whole(value[:LONGEST_VALUE])))


_NO_TEXT: Final = (dict, list, tuple, MethodType, BuiltinMethodType)


def _huge(value: Any) -> bool:
    """Tell which numbers Python refuses to write (4300 digits)."""
    return isinstance(value, int) and value.bit_length() > LONGEST_VALUE


def whole(text: str) -> str:
    """Return the text with lone surrogates, which JSON can carry and UTF-8 cannot, replaced."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return _ALONE.sub("\ufffd", text)
    return text


def _one_line(text: str) -> str:
    """Return the text without controls of any kind, its white space single spaces."""
    if text.isascii() and text.isprintable() and "  " not in text:
        return text.strip(" ")
    return " ".join(_INVISIBLE.sub(" ", whole(text)).split())
