r"""Validates, normalizes and compares e-mail addresses.

Valid is what Logto accepts (`/^\S+@\S+\.\S+$/`: `emailRegEx` in npm's `@logto/core-kit` 2.13.0, lib/regex.js) and SMTP
can carry: printable characters before the last @, written as a quoted string where RFC 5321 §4.1.2 requires it
(`"a..b"@docomo.example`), and a domain name behind it, perhaps with underscores or, by IDNA 2003, with symbols.
Address literals (`ada@[192.0.2.1]`) are not: such a mail would go to any machine that the relay can reach.
"""

import re
import unicodedata
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from mailroom.message import Address

if TYPE_CHECKING:
    from email_validator import ValidatedEmail

LONGEST_NAME: Final = 50
"""Maximum characters of a display name: CPython's header folding drops quotes from 59 on (gh-80222)."""


def usable(address: str) -> bool:
    """Return whether this is a valid address. No DNS look-ups; special-use domains are allowed."""
    try:
        _parse(address)
    except ValueError:
        return False
    return True


def ascii_form(address: str) -> str:
    """Return the address as SMTP and headers write it: local part quoted if it must be, domain in ASCII.

    A local part beyond ASCII stays (RFC 6531). Raises ValueError for an invalid address.
    """
    local, domain = _parse(address)
    return f"{_quote(local)}@{domain}"


def identity(address: str) -> str:
    """Return the same key for all spellings of a mailbox: casefolded local part without quotes, and ASCII domain.

    Raises ValueError for an invalid address.
    """
    local, domain = _parse(address)
    return f"{local.casefold()}@{domain}"


def ascii_domain(domain: str) -> str:
    """Return a domain name in ASCII and lower case, by IDNA 2008, else by IDNA 2003, which allows symbols.

    Raises ValueError for anything else.
    """
    name = domain
    if not domain.isascii():
        try:
            name = _validate(f"a@{domain}").ascii_domain if "@" not in domain else ""
        except ValueError:
            name = domain.encode("idna").decode("ascii")  # UnicodeError is a ValueError
    name = name.removesuffix(".").lower()
    if not _DOMAIN.fullmatch(name):  # IDNA 2003 maps a full-width slash to "/"
        raise ValueError("not a domain name")
    return name


def mailbox(text: str) -> Address:
    """Parse `no-reply@acme.example`, `Acme <no-reply@acme.example>` or `"Acme" <no-reply@acme.example>`.

    The address is one that needs no quotes. Raises ValueError for anything else.
    """
    name, separator, rest = text.rpartition("<")
    if not separator:
        return Address(_normalize(text.strip()))
    if not rest.endswith(">"):
        raise ValueError("a mailbox is written as Name <address>")
    cleaned = _unquote(" ".join(name.split()))
    if len(cleaned) > LONGEST_NAME:
        raise ValueError(f"a display name has at most {LONGEST_NAME} characters")
    return Address(_normalize(rest[:-1].strip()), cleaned)


_ATOM: Final = r"[A-Za-z0-9_!#$%&'*+\-/=?^`{|}~]++"
_LABEL: Final = r"(?!..--)[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_SIMPLE: Final = re.compile(rf"({_ATOM}(?:\.{_ATOM})*+)@({_LABEL}(?:\.{_LABEL})*)\Z")
_DOT_ATOM: Final = re.compile(rf"(?:{_ATOM}|[^\x00-\x7f])+(?:\.(?:{_ATOM}|[^\x00-\x7f])+)*")
_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\.)+)"')
_DOMAIN: Final = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?)*"
)
_LONGEST: Final = 254
"""Octets: a path has at most 256 with its angle brackets (RFC 5321 §4.5.3.1.3)."""
_LOWERCASED: Final = frozenset(
    {
        "info", "marketing", "sales", "support", "abuse", "noc", "security", "postmaster", "hostmaster", "usenet",
        "news", "webmaster", "www", "uucp", "ftp",
    }
)  # fmt: skip
"""Local parts that email-validator converts to lower case (RFC 2142)."""


@lru_cache(maxsize=256)  # called three times for each mail
def _match_simple(address: str) -> re.Match[str] | None:
    """Match a simple address: ASCII, no quotes, no IDNA.

    Takes a twentieth of email-validator's 55 µs, which is more than the rest of a request. A test compares both.
    """
    match = _SIMPLE.match(address) if len(address) <= _LONGEST else None
    return match if match and match[1].lower() not in _LOWERCASED else None


def _parse(address: str) -> tuple[str, str]:
    """Return the local part without quotes, and the domain in ASCII. Raises ValueError."""
    if simple := _match_simple(address):
        return simple[1], simple[2].lower()
    if len(address) > _LONGEST:
        raise ValueError("too long")  # validate_email says so too, but takes 0.2 s for 300 kB
    return _parse_unusual(address)


@lru_cache(maxsize=256)
def _parse_unusual(address: str) -> tuple[str, str]:
    try:
        valid = _validate(address)
    except ValueError:
        text, at, domain = unicodedata.normalize("NFC", address).rpartition("@")
        local, name = _unquote(text), ascii_domain(domain)
        if not at or not local or " " in local or not local.isprintable():
            raise ValueError("not a local part") from None
        if len(f"{_quote(local)}@{name}".encode()) > _LONGEST:
            raise ValueError("too long") from None
        return local, name
    return valid.local_part, valid.ascii_domain


def _quote(local: str) -> str:
    """Return a local part as a dot-atom, or else as a quoted string (RFC 5321 §4.1.2)."""
    return local if _DOT_ATOM.fullmatch(local) else '"' + re.sub(r'(["\\])', r"\\\1", local) + '"'


def _unquote(text: str) -> str:
    """Return the content of a quoted string (RFC 5322 §3.2.4), any other text unchanged."""
    quoted = _QUOTED.fullmatch(text)
    return re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else text


def _normalize(address: str) -> str:
    simple = _match_simple(address)
    return f"{simple[1]}@{simple[2].lower()}" if simple else _validate(address).normalized


def _validate(address: str) -> "ValidatedEmail":
    import email_validator  # noqa: PLC0415 - takes 20 ms; most addresses are simple

    # The documented way to allow special-use domains: internal mail uses .local, tests use .invalid.
    email_validator.SPECIAL_USE_DOMAIN_NAMES.clear()
    return email_validator.validate_email(
        address,
        check_deliverability=False,
        test_environment=True,
        globally_deliverable=False,
        allow_smtputf8=True,
    )
