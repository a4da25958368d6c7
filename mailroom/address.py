"""Mail addresses: which are usable, which are the same, how they are written on the wire."""

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from mailroom.message import Address

if TYPE_CHECKING:
    from email_validator import ValidatedEmail

LONGEST_NAME: Final = 50
"""Display names are cut here: from 59 characters on CPython's folding loses their quotes (gh-80222)."""


def usable(address: str) -> bool:
    """Tell whether mail can be sent to what somebody typed. No DNS look-ups; special-use domains are allowed."""
    if _plain(address):
        return True
    if len(address) > _LONGEST:
        return False  # validate_email says so too, but takes 0.2 s over 300 kB
    try:
        _validated(address)
    except ValueError:
        return False
    return True


def ascii_form(address: str) -> str:
    """Return the address with its domain in ASCII (RFC 5891); a local part beyond ASCII stays (RFC 6531).

    Raises ValueError when it is no address.
    """
    plain = _plain(address)
    if plain:
        return f"{plain[1]}@{plain[2].lower()}"
    valid = _validated(address)
    return valid.ascii_email or f"{valid.local_part}@{valid.ascii_domain}"


def identity(address: str) -> str:
    """Return what two spellings of one mailbox have in common: casefolded local part and ASCII domain.

    Raises ValueError when it is no address.
    """
    if _plain(address):
        return address.lower()
    valid = _validated(address)
    return f"{valid.local_part.casefold()}@{valid.ascii_domain}"


def mailbox(text: str) -> Address:
    """Parse `no-reply@acme.example` or `Acme <no-reply@acme.example>`.

    Raises ValueError when it is neither.
    """
    name, separator, rest = text.rpartition("<")
    if not separator:
        return Address(_normalized(text.strip()))
    if not rest.endswith(">"):
        raise ValueError("a mailbox is written as Name <address>")
    cleaned = " ".join(name.split()).strip('"')
    if len(cleaned) > LONGEST_NAME:
        raise ValueError(f"a display name has at most {LONGEST_NAME} characters")
    return Address(_normalized(rest[:-1].strip()), cleaned)


_ATOM: Final = r"[A-Za-z0-9_!#$%&'*+\-/=?^`{|}~]++"
_LABEL: Final = r"(?!..--)[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_PLAIN: Final = re.compile(rf"({_ATOM}(?:\.{_ATOM})*+)@({_LABEL}(?:\.{_LABEL})*)\Z")
_LONGEST: Final = 254
_LOWERED: Final = frozenset(
    {
        "info", "marketing", "sales", "support", "abuse", "noc", "security", "postmaster", "hostmaster", "usenet",
        "news", "webmaster", "www", "uucp", "ftp",
    }
)  # fmt: skip
"""Local parts of which email-validator changes the case (RFC 2142)."""


@lru_cache(maxsize=256)  # asked three times for each mail
def _plain(address: str) -> re.Match[str] | None:
    """Match an address in which there is nothing to decide: ASCII, unquoted, no IDNA.

    A twentieth of email-validator's 55 µs, which would be more than the rest of a request. A test holds it to the
    same answers.
    """
    match = _PLAIN.match(address) if len(address) <= _LONGEST else None
    return match if match and match[1].lower() not in _LOWERED else None


def _normalized(address: str) -> str:
    plain = _plain(address)
    return f"{plain[1]}@{plain[2].lower()}" if plain else _validated(address).normalized


def _validated(address: str) -> "ValidatedEmail":
    import email_validator  # noqa: PLC0415 - 20 ms, and most addresses are plain

    # Its documented switch: mail within a house goes to .local, tests to .invalid.
    email_validator.SPECIAL_USE_DOMAIN_NAMES.clear()
    return email_validator.validate_email(
        address,
        check_deliverability=False,
        test_environment=True,
        globally_deliverable=False,
        allow_smtputf8=True,
    )
