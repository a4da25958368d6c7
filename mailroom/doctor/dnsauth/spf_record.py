"""Parses SPF records (RFC 7208 §4.6 and §12), and expands their macros (§7)."""

import re
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import Final
from urllib.parse import quote

from mailroom.doctor.dnsauth.resolver import IpAddress

LOOK_UP_TERMS: Final = frozenset({"include", "a", "mx", "ptr", "exists", "redirect"})
"""The terms that need a look-up, which is counted (§4.6.4)."""

_VERSION: Final = re.compile(r"v=spf1(?: |\Z)", re.IGNORECASE)
_NETWORKS: Final[dict[str, type[IPv4Network | IPv6Network]]] = {"ip4": IPv4Network, "ip6": IPv6Network}
_NETWORK_TERM: Final = re.compile(
    r"(?P<qualifier>[-+~?]?)(?P<name>ip[46]):(?P<network>[0-9a-f:.]+(?:/(?:0|[1-9][0-9]{0,2}))?)", re.IGNORECASE
)
_TERM: Final = re.compile(
    r"(?P<qualifier>[-+~?]?)(?P<name>all|include|a|mx|ptr|exists)(?::(?P<value>[^/].*?))??"
    r"(?:/(?P<four>[0-9]{1,3}))?(?://(?P<six>[0-9]{1,3}))?",
    re.IGNORECASE,
)
_MODIFIER: Final = re.compile(r"(?P<name>[A-Za-z][A-Za-z0-9._-]*)=(?P<value>.*)")
_EXPAND: Final = r"%\{[slodiphvSLODIPHV][0-9]*[rR]?[.\-+,/_=]*\}"
_EXPAND_ANY: Final = r"%\{[slodiphvcrtSLODIPHVCRT][0-9]*[rR]?[.\-+,/_=]*\}"
_MACROS: Final = rf"(?:{_EXPAND}|%%|%_|%-|[!-$&-~])*"
_MACROS_ANY: Final = re.compile(rf"(?:{_EXPAND_ANY}|%%|%_|%-|[ !-$&-~])*")
_DOMAIN: Final = re.compile(rf"{_MACROS}(?:\.(?:[A-Za-z0-9]*[A-Za-z][A-Za-z0-9]*|[A-Za-z0-9]+-[A-Za-z0-9-]*[A-Za-z0-9])"
                            rf"\.?|{_EXPAND})")  # fmt: skip
_MACRO: Final = re.compile(r"%(?:\{([A-Za-z])([0-9]*)(r?)([.\-+,/_=]*)\}|([%_-]))", re.IGNORECASE)
_LITERAL: Final = {"%": "%", "_": " ", "-": "%20"}


class BadRecord(Exception):
    """The record is not valid (RFC 7208); receivers treat it as `permerror`."""


@dataclass(frozen=True, slots=True)
class Term:
    """One mechanism, or the redirect."""

    text: str
    """As it was written."""
    name: str
    qualifier: str = "+"
    domain: str = ""
    """With its macros; empty: the domain whose record this is."""
    network: IPv4Network | IPv6Network | None = None
    prefixes: tuple[int, int] = (32, 128)


@dataclass(frozen=True, slots=True)
class Record:
    """A parsed SPF record."""

    mechanisms: tuple[Term, ...]
    redirect: Term | None = None

    @property
    def everything(self) -> Term | None:
        """The `all` that ends it, if there is one."""
        return next((term for term in self.mechanisms if term.name == "all"), None)


def is_spf(text: str) -> bool:
    """Return whether a TXT record is an SPF record."""
    return _VERSION.match(text) is not None


def parse(text: str) -> Record:
    """Return the record. Raises BadRecord, with a message for the operator."""
    if not text.isascii() or not text.replace("\t", "\0").isprintable():
        raise BadRecord("it holds characters beyond printable ASCII")
    mechanisms: list[Term] = []
    modifiers: dict[str, Term] = {}
    for word in text.split(" ")[1:]:
        if not word:
            continue
        modifier = _MODIFIER.fullmatch(word)
        if modifier is None:
            mechanisms.append(_mechanism(word))
            continue
        name = modifier["name"].lower()
        if name in ("redirect", "exp"):
            if name in modifiers:
                raise BadRecord(f"it has several {name}=")
            modifiers[name] = Term(word, name, domain=_domain(word, modifier["value"]))
        elif not _MACROS_ANY.fullmatch(modifier["value"]):
            raise BadRecord(f"{word!r} is not understood")
    return Record(tuple(mechanisms), modifiers.get("redirect"))


def _mechanism(word: str) -> Term:
    if match := _NETWORK_TERM.fullmatch(word):
        name = match["name"].lower()
        try:
            network = _NETWORKS[name](match["network"], strict=False)
        except ValueError:
            raise BadRecord(f"{word!r} names no network") from None
        return Term(word, name, match["qualifier"] or "+", network=network)
    match = _TERM.fullmatch(word)
    if match is None:
        raise BadRecord(f"{word!r} is not understood; is it misspelt?")
    name, value = match["name"].lower(), match["value"]
    if (name == "all" and value is not None) or (name in ("include", "exists") and value is None):
        raise BadRecord(f"{word!r} is not understood")
    if (match["four"] or match["six"]) and name not in ("a", "mx"):
        raise BadRecord(f"{word!r} has a prefix length, which only a, mx, ip4 and ip6 may have")
    prefixes = (_prefix(word, match["four"], 32), _prefix(word, match["six"], 128))
    return Term(word, name, match["qualifier"] or "+", "" if value is None else _domain(word, value), None, prefixes)


def _prefix(word: str, digits: str | None, most: int) -> int:
    if not digits:
        return most
    if int(digits) > most or (digits.startswith("0") and digits != "0"):
        raise BadRecord(f"{word!r} has an impossible prefix length")
    return int(digits)


def _domain(word: str, text: str) -> str:
    if not _DOMAIN.fullmatch(text):
        raise BadRecord(f"{word!r} names no domain")
    return text


@dataclass(frozen=True, slots=True)
class SpfClient:
    """The client and sender of a mail: the values of macros."""

    address: IpAddress
    sender: str
    """The envelope sender, local part included."""


def expand(text: str, domain: str, client: SpfClient) -> str:
    """Expand macros (§7.3); `%{p}` is "unknown", which the RFC allows and advises."""
    local, _, sender_domain = client.sender.rpartition("@")
    address = client.address
    values = {
        "s": client.sender,
        "l": local,
        "o": sender_domain,
        "d": domain,
        "i": str(address) if address.version == 4 else ".".join(address.exploded.replace(":", "")),  # noqa: PLR2004 - IPv4
        "p": "unknown",
        "v": "in-addr" if address.version == 4 else "ip6",  # noqa: PLR2004 - IPv4
        "h": "localhost",
    }

    def expand_macro(match: re.Match[str]) -> str:
        letter, digits, reverse, delimiters, literal = match.groups()
        if literal:
            return _LITERAL[literal]
        parts = re.split(f"[{re.escape(delimiters or '.')}]", values[letter.lower()])
        if reverse:
            parts.reverse()
        if digits:
            if int(digits) == 0:
                raise BadRecord(f"{text!r} asks for the last 0 parts of a name")
            parts = parts[-int(digits) :]
        value = ".".join(parts)
        return quote(value, safe="-._~") if letter.isupper() else value

    name = _MACRO.sub(expand_macro, text)
    while len(name) > 253 and "." in name:  # noqa: PLR2004 - §7.3: the left side is cut
        name = name.partition(".")[2]
    return name.removesuffix(".")
