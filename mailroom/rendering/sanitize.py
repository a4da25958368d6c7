"""Sanitizes payload values (names, codes, texts) before they are put into a mail.

`name`, `code` and `to_printable` take any JSON value. They drop control characters, bound the length, and return an
empty string for values that cannot be shown. HTML escaping is done elsewhere, by the template engines.
"""

import re
from types import BuiltinMethodType, MethodType
from typing import Any, Final

LONGEST_NAME: Final = 60
LONGEST_CODE: Final = 64
LONGEST_LINE: Final = 250
LONGEST_VALUE: Final = 8000
"""Characters of any other printed value; Gmail clips a mail at 102 kB."""

_BIDI: Final = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_INVISIBLE: Final = re.compile(f"[\0-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufff9-\ufffb\U000e0000-\U000e007f{_BIDI}]+")
_LONE_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_LINE_BREAK: Final = re.compile(r"\r\n?|[\x0b\x0c\x85\u2028\u2029]")
_CONTROL: Final = re.compile("[\0-\x08\x0e-\x1f\x7f-\x9f\u202a-\u202e]")

_LINKABLE: Final = re.compile(r"(?<=\w)[.@](?=\w)|:(?=//)")
_WORD_JOINER: Final = "\u2060"


def name(value: Any) -> str:
    """Return a name for subject and body: one short line without control characters or anything linkable.

    Mail clients turn `evil.example` into a link. An invisible word joiner (U+2060) after each dot prevents that.
    """
    if not isinstance(value, str) or not value:
        return ""
    text = one_line(value[: 10 * LONGEST_NAME])
    if len(text) > LONGEST_NAME:
        text = text[: LONGEST_NAME - 1].rstrip() + "…"
    if "." in text or "@" in text or "://" in text:
        return _LINKABLE.sub(rf"\g<0>{_WORD_JOINER}", text)
    return text


def code(value: Any) -> str:
    """Return a code unchanged, or empty if it is invalid. Logto sends six digits as a string that may begin with 0."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value) if abs(value) < 10**LONGEST_CODE else ""
    if not isinstance(value, str):
        return ""
    text = one_line(value[: 10 * LONGEST_CODE])
    return text if len(text) <= LONGEST_CODE else ""


def line(text: str) -> str:
    """Return a text as one bounded line without control characters, valid in a header."""
    return one_line(text[: 4 * LONGEST_LINE])[:LONGEST_LINE]


def to_printable(value: Any) -> Any:
    """Return what `{{ … }}` prints for a value: nothing for null, lists and objects; texts are bounded.

    Logto sends null for a user's empty fields; Jinja would print None.
    """
    if type(value) is str:
        return value if value.isprintable() and len(value) <= LONGEST_VALUE else clean_text(value)
    return "" if value is None or isinstance(value, _NOT_PRINTABLE) or is_too_large(value) else value


def clean_text(value: str) -> str:
    """Return a text for a mail's body: bounded, with LF line breaks, without other control characters."""
    if value.isprintable() and len(value) <= LONGEST_VALUE:
        return value
    return _CONTROL.sub("", _LINE_BREAK.sub("\n", replace_surrogates(value[:LONGEST_VALUE])))


_NOT_PRINTABLE: Final = (dict, list, tuple, MethodType, BuiltinMethodType)


def is_too_large(value: Any) -> bool:
    """Return whether a number has more digits than Python converts to a string (4300)."""
    return isinstance(value, int) and value.bit_length() > LONGEST_VALUE


def replace_surrogates(text: str) -> str:
    """Return the text with lone surrogates replaced: JSON can hold them, UTF-8 cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return _LONE_SURROGATE.sub("\ufffd", text)
    return text


def one_line(text: str) -> str:
    """Return the text on one line, without control characters, with runs of white space as single spaces."""
    if text.isascii() and text.isprintable() and "  " not in text:
        return text.strip(" ")
    return " ".join(_INVISIBLE.sub(" ", replace_surrogates(text)).split())
