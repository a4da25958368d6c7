"""Mail addresses: which are usable, which are the same, how they are written on the wire."""

from typing import Final

from email_validator import EmailNotValidError, ValidatedEmail, validate_email

from mailroom.message import Address

LONGEST_NAME: Final = 50
"""Display names are cut here: from 59 characters on CPython's folding loses their quotes (gh-80222)."""


def usable(address: str) -> bool:
    """Tell whether mail can be sent to what somebody typed. No DNS look-ups; special-use domains are allowed."""
    try:
        _validated(address)
    except EmailNotValidError:
        return False
    return True


def ascii_form(address: str) -> str:
    """Return the address with its domain in ASCII (RFC 5891); a local part beyond ASCII stays (RFC 6531).

    Raises ValueError when it is no address.
    """
    valid = _validated(address)
    return valid.ascii_email or f"{valid.local_part}@{valid.ascii_domain}"


def identity(address: str) -> str:
    """Return what two spellings of one mailbox have in common: casefolded local part and ASCII domain.

    Raises ValueError when it is no address.
    """
    valid = _validated(address)
    return f"{valid.local_part.casefold()}@{valid.ascii_domain}"


def mailbox(text: str) -> Address:
    """Parse `no-reply@acme.example` or `Acme <no-reply@acme.example>`.

    Raises ValueError when it is neither.
    """
    name, separator, rest = text.rpartition("<")
    if not separator:
        return Address(_validated(text.strip()).normalized)
    if not rest.endswith(">"):
        raise ValueError("a mailbox is written as Name <address>")
    cleaned = " ".join(name.split()).strip('"')
    if len(cleaned) > LONGEST_NAME:
        raise ValueError(f"a display name has at most {LONGEST_NAME} characters")
    return Address(_validated(rest[:-1].strip()).normalized, cleaned)


def _validated(address: str) -> ValidatedEmail:
    return validate_email(
        address,
        check_deliverability=False,
        test_environment=True,
        globally_deliverable=False,
        allow_smtputf8=True,
    )
