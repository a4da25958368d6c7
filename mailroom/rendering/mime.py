"""Writes a mail as RFC 5322 text: multipart/alternative, text first, CRLF, 7bit.

The standard library's `EmailMessage` takes 1.2 ms for what takes some tens of microseconds here; it is the oracle in
the tests, which parse every mail back. A subject beyond ASCII is the rule in most languages, so encoded words are
written here too (`email.header.Header` takes 50 to 240 µs for one).
"""

import re
from binascii import b2a_base64, b2a_qp
from collections.abc import Iterable
from email.utils import formatdate
from functools import lru_cache
from typing import Final

from mailroom.clock import Instant
from mailroom.errors import RenderingError
from mailroom.message import Address

_SOFT_LIMIT: Final = 78
_HARD_LIMIT: Final = 998
"""Octets of a line, RFC 5322 §2.1.1."""

_FORBIDDEN: Final = re.compile("[\r\n\0]")
_HEADER_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,60}\Z")
_TOKEN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,59}\Z")
_ADDRESS: Final = re.compile(r'[^\0- \x7f<>(),;:\\"\[\]@]+@[^\0- \x7f<>(),;:\\"\[\]@]+\Z')
_PHRASE: Final = re.compile(r"[A-Za-z0-9!#$%&'*+\-/^_`{|}~]+(?: [A-Za-z0-9!#$%&'*+\-/^_`{|}~]+)*\Z")
_QUOTED: Final = re.compile(r"[ -~]*\Z")
_TO_ESCAPE: Final = re.compile(r'([\\"])')


def serialize(
    *,
    sender: Address,
    recipient: str,
    reply_to: Address | None,
    subject: str,
    date: Instant,
    message_id: str,
    headers: Iterable[tuple[str, str]],
    text: str,
    html: str,
    boundary: str,
) -> bytes:
    """Return the mail; `boundary` is letters, digits and hyphens, and the same arguments give the same bytes.

    Without HTML it is one part of plain text.

    A local part beyond ASCII stays UTF-8 in its header, for no encoding of it exists (RFC 6532): such a mail is not
    7bit, and goes only where SMTPUTF8 is spoken. Raises RenderingError for a header that would break the mail.
    """
    if not _TOKEN.match(boundary):
        raise RenderingError("a boundary is made of letters, digits and hyphens")
    # "=_" occurs in no quoted-printable or base64 text (RFC 2045 §6.7); plain parts are searched for it.
    delimiter = f"=_{boundary}"
    lines = [
        f"From: {_mailbox(sender)}",
        f"To: {_address(recipient)}",
        *([f"Reply-To: {_mailbox(reply_to)}"] if reply_to else []),
        _folded(f"Subject: {_unstructured(subject)}"),
        f"Date: {_date(int(date))}",
        _field("Message-ID", message_id),
        "MIME-Version: 1.0",
        *[_field(name, value) for name, value in headers],
    ]
    if html:
        lines += (
            f'Content-Type: multipart/alternative; boundary="{delimiter}"',
            "",
            f"--{delimiter}",
            *_part("plain", text, delimiter),
            # The line break before a delimiter belongs to it (RFC 2046 §5.1.1): one more, and the text keeps its own.
            f"\r\n--{delimiter}",
            *_part("html", html, delimiter),
            f"\r\n--{delimiter}--",
        )
    else:
        lines += _part("plain", text, delimiter)
    lines.append("")
    return "\r\n".join(lines).encode()


def _part(subtype: str, body: str, delimiter: str) -> tuple[str, str, str, str]:
    encoding, encoded = _encoded(body, delimiter)
    return (
        f'Content-Type: text/{subtype}; charset="utf-8"',
        f"Content-Transfer-Encoding: {encoding}",
        "",
        encoded,
    )


def _encoded(body: str, delimiter: str) -> tuple[str, str]:
    """Return the shortest of the transfer encodings that carry this text, and it without its last line break."""
    if "\r" in body:
        body = body.replace("\r\n", "\n").replace("\r", "\n")
    body = body.removesuffix("\n")
    text = body.replace("\n", "\r\n")
    if text.isascii():
        if "\0" not in text and not _has_long_line(body) and delimiter not in text:
            return "7bit", text
        return "quoted-printable", _quoted_printable(f"{text}\r\n".encode())
    octets = f"{text}\r\n".encode()
    foreign = len(octets.translate(None, _ASCII))
    # Quoted-printable spends two octets more on each that it escapes, base64 one more on every three.
    if 2 * (foreign + octets.count(b"=")) <= len(octets) / 3:
        return "quoted-printable", _quoted_printable(octets)
    packed = b2a_base64(octets, newline=False).decode()
    return "base64", "\r\n".join([packed[at : at + 76] for at in range(0, len(packed), 76)])


_ASCII: Final = bytes(range(128))


def _has_long_line(body: str) -> bool:
    """Tell whether a line is longer than one may be: some line has to end within any so many characters."""
    begins = 0
    while len(body) - begins > _HARD_LIMIT:
        ends = body.rfind("\n", begins, begins + _HARD_LIMIT + 1)
        if ends < 0:
            return True
        begins = ends + 1
    return False


def _quoted_printable(octets: bytes) -> str:
    return b2a_qp(octets).decode().removesuffix("\r\n")


@lru_cache(16)
def _date(second: int) -> str:
    return f"{formatdate(second)[:-5]}+0000"


@lru_cache(64)
def _field(name: str, value: str) -> str:
    """Return a header whose value stays as it is, however long: it has a grammar of its own (List-Unsubscribe)."""
    _check(name, value)
    if not _HEADER_NAME.match(name) or not value.isascii():
        raise RenderingError(f"{name[:60]!r} is not a header in ASCII")
    return _folded(f"{name}: {value}")


@lru_cache(16)
def _mailbox(address: Address) -> str:
    email = _address(address.email)
    if not address.name:
        return email
    _check("a display name", address.name)
    name = address.name
    if "=?" in name or not _QUOTED.match(name):
        name = _encoded_words(name)
    elif not _PHRASE.match(name):
        name = '"' + _TO_ESCAPE.sub(r"\\\1", name) + '"'
    # On a line of its own the address can make none of them too long.
    separator = "\r\n " if len(name) + len(email) > _SOFT_LIMIT - 14 else " "
    return f"{name}{separator}<{email}>"


def _address(email: str) -> str:
    if not _ADDRESS.match(email) or len(email) > _HARD_LIMIT // 2:
        raise RenderingError("an address in a header is not one that can be written there")
    return email


def _unstructured(text: str) -> str:
    _check("Subject", text)
    literal = _QUOTED.match(text) and "=?" not in text and text == text.strip(" ") and "  " not in text
    if literal and max(map(len, text.split(" "))) <= _HARD_LIMIT // 2:
        return text
    return _encoded_words(text)


def _encoded_words(text: str) -> str:
    """Return RFC 2047 encoded words, one a line, none splitting a character.

    The standard library joins them without a space between, as the RFC says.
    """
    words = []
    chunk = b""
    for character in text:
        octets = character.encode()
        if len(chunk) + len(octets) > _ENCODED_WORD:
            words.append(chunk)
            chunk = b""
        chunk += octets
    words.append(chunk)
    return "\r\n ".join([f"=?utf-8?b?{b2a_base64(word, newline=False).decode()}?=" for word in words])


_ENCODED_WORD: Final = 39
"""Octets in one: 12 of syntax and 52 of base64 leave room for "Reply-To: " within 76 (RFC 2047 §2)."""


def _folded(line: str) -> str:
    """Return a header folded before the spaces that it has, never within a word."""
    if len(line) <= _SOFT_LIMIT or "\r\n" in line:
        return line
    rows: list[str] = []
    name, _, value = line.partition(" ")
    row, *words = value.split(" ")
    row = f"{name} {row}"
    for word in words:
        if len(row) + 1 + len(word) > _SOFT_LIMIT:
            rows.append(row)
            row = f" {word}"
        else:
            row += f" {word}"
    rows.append(row)
    if len(max(rows, key=len)) > _HARD_LIMIT:
        raise RenderingError(f"the header {name} holds a word that is longer than a line may be")
    return "\r\n".join(rows)


def _check(name: str, value: str) -> None:
    if _FORBIDDEN.search(value):
        raise RenderingError(f"{name} holds a line break or NUL")
