"""Makes a stranger's values harmless: what may stand in a mail of a name, a code or any other text.

Every function takes any JSON value and returns a string, empty where there is nothing to show.
"""

import re
from types import BuiltinMethodType, MethodType
from typing import Any, Final

LONGEST_NAME: Final = 60
LONGEST_CODE: Final = 64
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


def name(value: Any) -> str:
    """Return a name for subject and body: one short line without controls, in which no mail client finds a link.

    A word joiner after its dots keeps `evil.example` from being made a link; it can be read all the same.
    """
    if not isinstance(value, str) or not value:
        return ""
    text = one_line(value[: 10 * LONGEST_NAME])
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
    text = one_line(value[: 10 * LONGEST_CODE])
    return text if len(text) <= LONGEST_CODE else ""


def line(text: str) -> str:
    """Return a text as one line without controls, as a header can hold it."""
    return one_line(text[: 4 * LONGEST_LINE])[:LONGEST_LINE]


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


def one_line(text: str) -> str:
    """Return the text without controls of any kind, its white space single spaces."""
    if text.isascii() and text.isprintable() and "  " not in text:
        return text.strip(" ")
    return " ".join(_INVISIBLE.sub(" ", whole(text)).split())
