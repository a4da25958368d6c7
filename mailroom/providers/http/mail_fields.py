"""Writes addresses, headers and credentials as vendors' APIs take them."""

import base64
import re
from email.header import Header
from functools import lru_cache
from typing import Final

from pydantic import SecretStr

from mailroom.address import ascii_form
from mailroom.errors import Declined, Misconfigured
from mailroom.message import Address, Email

_HEADER_NAME: Final = re.compile(r"[!-9;-~]{1,76}")
_SEPARATOR: Final = re.compile(r"[,;:<>()\[\]\\]|@.*@")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_ATOM: Final = r"[A-Za-z0-9!#$%&'*+\-/=?^_`{|}~\u0080-\U0010ffff]+"
_ATOMS: Final = re.compile(rf"{_ATOM}(?: {_ATOM})*")


@lru_cache(maxsize=64)
def address_text(address: str) -> str:
    """Return an address from the settings with its domain in ASCII."""
    try:
        return ascii_form(address)
    except ValueError:
        raise Misconfigured("an address in the settings cannot be written") from None


def check_recipient(address: str) -> None:
    """Raise Declined for a recipient in which a vendor's API may read several addresses, or another one.

    Many take a list as one text, and it is documented nowhere how they read `"eve@evil.example,x"@acme.example`.
    """
    if _SEPARATOR.search(address):
        raise Declined(
            "the recipient's address has a character that separates addresses; APIs may read it differently",
            hint="add an SMTP provider for such recipients",
        )


def mailbox_text(mailbox: Address) -> str:
    """Return `Name <address>`, quoted where it must be (RFC 5322 §3.2.4); text beyond ASCII stays as it is."""
    address = address_text(mailbox.email)
    name = "".join(character for character in mailbox.name if character.isprintable())
    if not name:
        return address
    if not _ATOMS.fullmatch(name):
        name = '"' + re.sub(r'([\\"])', r"\\\1", name) + '"'
    return f"{name} <{address}>"


def mailbox_object(mailbox: Address, email: str = "email", name: str = "name") -> dict[str, str]:
    """Return `{"email": …, "name": …}`, without a name if there is none; `email` and `name` are the vendor's keys."""
    address = address_text(mailbox.email)
    return {email: address, name: mailbox.name} if mailbox.name else {email: address}


def encoded_words(text: str, header_name: str | None = None) -> str:
    """Return a text on one line, as encoded words (RFC 2047) if it is beyond ASCII."""
    return text if text.isascii() else Header(text, "utf-8", header_name=header_name).encode(linesep="")


def header_pairs(email: Email) -> list[tuple[str, str]]:
    """Return the mail's own headers, values as `encoded_words`. Raises Misconfigured for one that breaks the mail."""
    for name, value in email.headers:
        if not _HEADER_NAME.fullmatch(name) or _CONTROL.search(value):
            raise Misconfigured(f"the header {name[:60]!r} cannot be written")
    return [(name, encoded_words(value, name)) for name, value in email.headers]


def header_map(email: Email) -> dict[str, str]:
    """Return the mail's own headers as an object.

    Raises Misconfigured when a header stands there twice, which an object cannot express.
    """
    pairs = header_pairs(email)
    if len({name.lower() for name, _ in pairs}) < len(pairs):
        raise Misconfigured("a header stands in the mail twice, which this provider cannot express")
    return dict(pairs)


def basic(username: str, password: SecretStr) -> str:
    """Return the value of `Authorization` for a username and a password (RFC 7617)."""
    return f"Basic {base64.b64encode(f'{username}:{password.get_secret_value()}'.encode()).decode()}"


def bearer(token: SecretStr) -> str:
    """Return the value of `Authorization` for a token (RFC 6750)."""
    return f"Bearer {token.get_secret_value()}"
