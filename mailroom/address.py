"""Validates, normalizes and compares e-mail addresses."""

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from mailroom.message import Address

if TYPE_CHECKING:
    from email_validator import ValidatedEmail

LONGEST_NAME: Final = 50
"""Maximum characters of a display name: CPython's header folding drops quotes from 59 on (gh-80222)."""


def usable(address: str) -> bool:
    """Return whether this is a valid address. No DNS look-ups; special-use domains are allowed."""
    if _match_simple(address):
        return True
    if len(address) > _LONGEST:
        return False  # validate_email refuses it too, but takes 0.2 s for 300 kB
    try:
        _validate(address)
    except ValueError:
        return False
    return True


def ascii_form(address: str) -> str:
    """Return the address with its domain in ASCII (RFC 5891); a local part beyond ASCII stays (RFC 6531).

    Raises ValueError for an invalid address.
    """
    if simple := _match_simple(address):
        return f"{simple[1]}@{simple[2].lower()}"
    valid = _validate(address)
    return valid.ascii_email or f"{valid.local_part}@{valid.ascii_domain}"


def identity(address: str) -> str:
    """Return the same key for all spellings of a mailbox: casefolded local part and ASCII domain.

    Raises ValueError for an invalid address.
    """
    if _match_simple(address):
        return address.lower()
    valid = _validate(address)
    return f"{valid.local_part.casefold()}@{valid.ascii_domain}"


def mailbox(text: str) -> Address:
    """Parse `no-reply@acme.example` or `Acme <no-reply@acme.example>`.

    Raises ValueError for anything else.
    """
    name, separator, rest = text.rpartition("<")
    if not separator:
        return Address(_normalize(text.strip()))
    if not rest.endswith(">"):
        raise ValueError("a mailbox is written as Name <address>")
    cleaned = " ".join(name.split()).strip('"')
    if len(cleaned) > LONGEST_NAME:
        raise ValueError(f"a display name has at most {LONGEST_NAME} characters")
    return Address(_normalize(rest[:-1].strip()), cleaned)


_ATOM: Final = r"[A-Za-z0-9_!#$%&'*+\-/=?^`{|}~]++"
_LABEL: Final = r"(?!..--)[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_SIMPLE: Final = re.compile(rf"({_ATOM}(?:\.{_ATOM})*+)@({_LABEL}(?:\.{_LABEL})*)\Z")
_LONGEST: Final = 254
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


def _normalize(address: str) -> str:
    return ascii_form(address) if _match_simple(address) else _validate(address).normalized


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
