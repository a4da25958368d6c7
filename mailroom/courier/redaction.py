"""Masks a message's secrets in diagnostics: providers repeat subjects, links and addresses, as they are or encoded.

Only letters and digits are compared, so `4 8 1-5.1 6` shows the code 481516. The text is searched as it is, decoded
(HTML, URL, JSON, quoted-printable, encoded words) and as base64, and what shows a secret is replaced where it stands.
"""

import re
from base64 import b64decode
from collections.abc import Callable, Iterable, Iterator, Mapping
from html import unescape
from quopri import decodestring
from typing import Final
from urllib.parse import unquote

import msgspec

from mailroom.message import MASK, Email, Message
from mailroom.text import one_line

_LONGEST_DIAGNOSTIC: Final = 500
_LONGEST_SEARCHED: Final = 4000
"""Characters of a diagnostic that are searched; bounds the work."""
_DEEPEST: Final = 3
"""Encodings within each other that are undone: base64 of a URL in HTML."""
_FEWEST: Final = 4
"""Letters and digits that a secret must have to be found when it is taken apart."""
_FEWEST_WITHOUT_DIGITS: Final = 8
"""The same of a secret without a digit: `Anna` is not in "an n a.", nor in "than nasty"."""
_FEWEST_BEGUN: Final = 3
"""Letters and digits of a secret that are masked at the end of a diagnostic that was cut."""


def redact(diagnostic: str, message: Message, email: Email | None = None) -> str:
    """Return a remote server's text as one line of at most 500 characters, the secrets of the message masked."""
    if not diagnostic:
        return ""
    line = one_line(diagnostic[:_LONGEST_SEARCHED])
    secrets = {message.recipient, *message.secrets()}
    if email is not None:
        secrets.update((email.recipient, email.subject))
    is_cut = diagnostic.endswith("…") or len(diagnostic) > _LONGEST_SEARCHED
    if is_cut or _may_show(line, secrets):
        found = _find_spans(line, [needle for secret in secrets for needle in _needles(secret)], is_cut=is_cut)
        line = _mask_spans(line, sorted(found))
    return line[:_LONGEST_DIAGNOSTIC]


class _Needle(msgspec.Struct, frozen=True):
    """One form of a secret to look for."""

    letters: str
    """Its letters and digits, casefolded."""
    pattern: re.Pattern[str] | None
    """How it stands in a text that does not take it apart; None: `letters` alone find it."""


_PUNCTUATION: Final = bytes(octet for octet in range(0x80) if not chr(octet).isalnum())
_NO_LETTERS: Final = _PUNCTUATION + bytes(range(0x80, 0x100))
_LETTERS: Final = re.compile(rb"[0-9A-Za-z]+")
_APART: Final = re.compile(r"[\W_]+")
_BETWEEN: Final = r"[\W_]+"


def _needles(secret: str) -> Iterator[_Needle]:
    """Yield what to look for: the secret itself, decoded, and of a link the parts that are worth as much."""
    for text in {secret, _decoded(secret)[0]}:
        letters = _letters(text)
        is_found_apart = len(letters) >= (_FEWEST if any(map(str.isdigit, letters)) else _FEWEST_WITHOUT_DIGITS)
        parts = one_line(text).split()
        if is_found_apart or parts:
            pattern = None if is_found_apart else re.compile(_BETWEEN.join(map(re.escape, parts)), re.IGNORECASE)
            yield _Needle(letters, pattern)
    _, is_link, rest = secret.partition("://")
    if is_link:
        for part in (rest, rest.partition("/")[2], rest.partition("?")[2], *_TOKEN.findall(rest.partition("/")[2])):
            if len(letters := _letters(part)) >= _FEWEST_WITHOUT_DIGITS:
                yield _Needle(letters, None)


_TOKEN: Final = re.compile(r"(?=[\w-]*\d)[\w-]{8,}")


def _letters(text: str) -> str:
    if text.isascii() and text.isalnum():
        return text.lower()
    return _APART.sub("", _APART.sub("", text).casefold())


def _may_show(line: str, secrets: Iterable[str]) -> bool:
    """Return, quickly, whether the line may show one of the secrets: nearly all lines do not. Works on octets."""
    texts = [line.encode()]
    if _BASE64_HINT.search(line):
        texts += (_base64_octets(run[at:]) for run, _ in _base64_runs(line) for at in range(4))
    if any(_is_encoded(octets) for octets in texts):
        return True
    shown = b"\n".join([octets.translate(None, _NO_LETTERS).lower() for octets in texts])
    if not line.isascii() or len(texts) > 1:
        shown += b"\n" + b"\n".join([octets.translate(None, _PUNCTUATION).lower() for octets in texts])
    return any(hint in shown for secret in secrets for hint in _hints(secret))


def _is_encoded(octets: bytes) -> bool:
    return not _BEGINS_ENCODED.isdisjoint(octets) and bool(_ENCODED.search(octets.decode("utf-8", "replace")))


def _hints(secret: str) -> Iterable[bytes]:
    """Return octets of which some are in every text that shows the secret, in lower case and without punctuation."""
    if secret.isascii() and secret.isalnum():  # as most codes are
        return (secret.lower().encode(),)
    if "://" in secret:
        tail = secret.partition("://")[2].partition("/")[2].lower().encode("utf-8", "replace")
        return [run for run in _LETTERS.findall(tail) if len(run) >= _FEWEST_BEGUN] or (b"",)
    runs = _LETTERS.findall(secret.encode("utf-8", "replace").translate(None, _PUNCTUATION).lower())
    if runs:
        return (max(runs, key=len),)
    char = next((char for char in secret if char.isprintable() and not char.isascii()), "")
    return [form.encode() for form in (char, char.lower(), char.upper())]


def _find_spans(
    text: str, needles: list[_Needle], *, is_cut: bool, depth: int = 0, is_base64: bool = False
) -> set[tuple[int, int]]:
    """Return where in the text secrets are shown: first character, and the one behind the last."""
    found = set(_find_in_text(text, needles, is_cut=is_cut))
    if depth < _DEEPEST and _ENCODED.search(text):
        decoded, places = _decoded(text)
        for start, end in _find_spans(decoded, needles, is_cut=is_cut, depth=depth + 1, is_base64=is_base64):
            found.add((places[start][0], places[end - 1][1]))
    for run, at in () if is_base64 else _base64_runs(text):
        for offset, decoded in enumerate(_base64_texts(run)):
            for span in _find_spans(decoded, needles, is_cut=is_cut, depth=depth, is_base64=True):
                first, last = (len(decoded[:end].encode("utf-8", "surrogateescape")) for end in span)
                # Three octets are four characters.
                found.add((at[offset + first * 4 // 3], at[min(offset - (-last * 4 // 3), len(at)) - 1] + 1))
    return found


def _find_in_text(text: str, needles: list[_Needle], *, is_cut: bool) -> Iterator[tuple[int, int]]:
    squeezed = _letters(text)
    places: list[int] = []
    for needle in needles:
        if needle.pattern is not None:
            yield from (match.span() for match in needle.pattern.finditer(text) if match[0])
            continue
        length = len(needle.letters)
        starts = [match.start() for match in re.finditer(f"(?={needle.letters})", squeezed)]
        if is_cut and (rest := _cut_length(squeezed, needle.letters)):
            starts.append(len(squeezed) - rest)
        if starts:
            # `casefold` can make several letters of one, so each is traced to its place.
            places = places or [at for at, char in enumerate(text) for _ in _letters(char)]
            yield from ((places[start], places[min(start + length, len(places)) - 1] + 1) for start in starts)


def _cut_length(letters: str, secret: str) -> int:
    """Return how many letters of the secret stand at the end of a text that was cut there."""
    lengths = range(len(secret) - 1, _FEWEST_BEGUN - 1, -1)
    return next((length for length in lengths if letters.endswith(secret[:length])), 0)


_ENCODED: Final = re.compile(
    r"(?P<word>=\?(?P<charset>[\w-]+)(?:\*[\w-]*)?\?(?P<encoding>[BbQq])\?(?P<text>[^? ]*)\?=(?:\s+(?==\?))?)"
    r"|(?P<tag></?[A-Za-z][^<>]*>)"
    r"|(?P<entity>&\#?\w{1,31};)"
    r"|(?P<url>(?:%[0-9A-Fa-f]{2})+)"
    r"|(?P<json>(?:\\u[0-9A-Fa-f]{4}|\\[bfnrt\"\\/])+)"
    r"|(?P<octets>(?:\\x[0-9A-Fa-f]{2})+)"
    r"|(?P<printable>(?:=[0-9A-Fa-f]{2})+)"
    r"|(?P<soft>=(?=\s)\s+)"
)
_BEGINS_ENCODED: Final = frozenset(b"=<&%\\")


def _decoded(text: str) -> tuple[str, list[tuple[int, int]]]:
    """Return the text with one level of encodings undone, and for each of its characters where it came from."""
    made: list[str] = []
    places: list[tuple[int, int]] = []
    at = 0
    for match in _ENCODED.finditer(text):
        start, end = match.span()
        made.append(text[at:start])
        places += [(place, place + 1) for place in range(at, start)]
        made.append(_MEANINGS[match.lastgroup or ""](match))
        places += [(start, end)] * len(made[-1])
        at = end
    made.append(text[at:])
    places += [(place, place + 1) for place in range(at, len(text))]
    return "".join(made), places


def _word(match: re.Match[str]) -> str:
    """Return what an encoded word says (RFC 2047 §4)."""
    text, charset = match["text"], match["charset"]
    if match["encoding"] in "Qq":
        octets = decodestring(text.encode("utf-8", "replace"), header=True)
    else:
        octets = _base64_octets(_OUTSIDE_BASE64.sub("", text))
    try:
        return octets.decode(charset, "replace")
    except (LookupError, ValueError):
        return octets.decode("utf-8", "replace")


def _json(match: re.Match[str]) -> str:
    try:
        return str(msgspec.json.decode(f'"{match[0]}"'))
    except msgspec.DecodeError:  # half of a surrogate pair
        return match[0]


def _hexadecimal(match: re.Match[str]) -> str:
    return bytes.fromhex(re.sub(r"\\x|=", "", match[0])).decode("utf-8", "replace")


_MEANINGS: Final[Mapping[str, Callable[[re.Match[str]], str]]] = {
    "word": _word,
    "entity": lambda match: unescape(match[0]),
    "url": lambda match: unquote(match[0], errors="replace"),
    "json": _json,
    "octets": _hexadecimal,
    "printable": _hexadecimal,
    "tag": lambda _: "",
    "soft": lambda _: "",
}


_FOLDED_RUN: Final = re.compile(r"[A-Za-z0-9+/_-]+(?:\s+[A-Za-z0-9+/_-]+)*")
"""Base64 with the line breaks that MIME puts into it."""
_NO_BASE64: Final = re.compile(r"[A-Za-z]?[a-z]*|[0-9A-F-]*|[0-9a-f-]*")
"""Words, and the hexadecimal ids of receipts: base64 of digits has M to P in each group of four."""
_OUTSIDE_BASE64: Final = re.compile(r"[^A-Za-z0-9+/_-]+")
_BASE64_HINT: Final = re.compile(
    r"(?<![\w+/-])(?!(?:[A-Za-z]?[a-z]*|[0-9A-F-]*|[0-9a-f-]*)(?![\w+/-]))[A-Za-z0-9+/_-]{6}", re.ASCII
)
"""The beginning of a run that `_NO_BASE64` does not match."""
_URL_SAFE: Final = str.maketrans("-_", "+/")


_SHORTEST_RUN: Final = 6


def _base64_runs(text: str) -> Iterator[tuple[str, list[int]]]:
    """Yield what may be base64, without white space, and for each of its characters where it stands."""
    for match in _FOLDED_RUN.finditer(text):
        parts = match[0].split()
        if any(len(part) >= _SHORTEST_RUN and not _NO_BASE64.fullmatch(part) for part in parts):
            yield "".join(parts), [at for at in range(*match.span()) if not text[at].isspace()]


def _base64_texts(run: str) -> list[str]:
    """Return what a run says, wherever its groups of four begin; octets that are no UTF-8 as surrogates."""
    return [_base64_octets(run[offset:]).decode("utf-8", "surrogateescape") for offset in range(4)]


def _base64_octets(run: str) -> bytes:
    """Decode as many whole octets as there are; without padding."""
    length = len(run) - (len(run) % 4 == 1)
    return b64decode(run[:length].translate(_URL_SAFE) + "=" * (-length % 4))


def _mask_spans(line: str, spans: Iterable[tuple[int, int]]) -> str:
    made: list[str] = []
    at = 0
    for start, end in spans:
        if start >= at:
            made += (line[at:start], MASK)
        at = max(at, end)
    return "".join((*made, line[at:]))
