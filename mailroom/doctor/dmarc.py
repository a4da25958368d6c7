"""Reads DMARC (RFC 9989): the policy of a From domain, its organizational domain, and what is aligned with it."""

from dataclasses import dataclass, field
from typing import Final, Literal

from mailroom.doctor.dkim import tags
from mailroom.doctor.dns import Resolver

_MOST_LABELS: Final = 8
"""§4.10: a longer name is looked at itself, and then from its last seven labels on."""
_POLICIES: Final = ("none", "quarantine", "reject")


class BadPolicy(Exception):
    """Receivers make nothing of the record."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What a domain wants done with mail that is not its own."""

    at: str
    """The domain that the record was found at."""
    organization: str
    """What two domains must have in common to be aligned in the relaxed way."""
    wish: str
    """`none`, `quarantine` or `reject`, for the domain that was asked about."""
    strict: frozenset[Literal["spf", "dkim"]] = field(default_factory=frozenset)
    reports: bool = False
    is_test: bool = False


def parents(domain: str) -> list[str]:
    """Return where a policy can stand, nearest first (§4.10): `a.b.c`, `b.c`, `c`."""
    labels = domain.split(".")
    first = 1 if len(labels) < _MOST_LABELS else len(labels) - _MOST_LABELS + 1
    return [domain, *(".".join(labels[start:]) for start in range(first, len(labels)))]


async def organization_of(resolver: Resolver, domain: str) -> str:
    """Return the organizational domain (§4.10.2); without any record it is the domain itself. Raises NoAnswer."""
    found = [(name, told) for name in parents(domain) if (told := await _told(resolver, name))]
    for name, told in found:
        if told.get("psd") == "n":
            return name
        if told.get("psd") == "y" and name != domain:
            return _one_below(name, domain)
    return found[-1][0] if found else domain


async def policy_of(resolver: Resolver, domain: str) -> Policy | None:
    """Return the policy for a From domain, None if there is none. Raises BadPolicy, NoAnswer."""
    organization = await organization_of(resolver, domain)
    for name in dict.fromkeys((domain, organization)):
        texts = await _records(resolver, name)
        if len(texts) > 1:
            raise BadPolicy(f"there are {len(texts)} DMARC records at _dmarc.{name}, and one is allowed")
        if texts:
            return _policy(name, organization, domain, tags(texts[0]))
    return None


def _policy(at: str, organization: str, domain: str, told: dict[str, str]) -> Policy:
    wish = told.get("p", "none" if "rua" in told else "").lower()
    if at != domain:
        wish = told.get("sp", wish).lower()
    if wish not in _POLICIES:
        raise BadPolicy(f"the record at _dmarc.{at} has no p= that is one of {', '.join(_POLICIES)}")
    strict: set[Literal["spf", "dkim"]] = set()
    if told.get("aspf", "r").lower() == "s":
        strict.add("spf")
    if told.get("adkim", "r").lower() == "s":
        strict.add("dkim")
    is_test = told.get("t", "n").lower() == "y"
    return Policy(at, organization, wish, frozenset(strict), bool(told.get("rua")), is_test)


async def is_aligned(resolver: Resolver, policy: Policy, domain: str, other: str, by: Literal["spf", "dkim"]) -> bool:
    """Tell whether a domain that passed by SPF or DKIM speaks for the From domain. Raises NoAnswer."""
    domain, other = domain.lower(), other.lower()
    if domain == other:
        return True
    return by not in policy.strict and await organization_of(resolver, other) == policy.organization


async def _told(resolver: Resolver, domain: str) -> dict[str, str] | None:
    texts = await _records(resolver, domain)
    return tags(texts[0]) if len(texts) == 1 else None


async def _records(resolver: Resolver, domain: str) -> list[str]:
    texts = await resolver.look_up(f"_dmarc.{domain}", "TXT")
    return [text for text in texts if text.replace(" ", "").startswith("v=DMARC1") and _version(text) == "DMARC1"]


def _version(text: str) -> str:
    return text.partition(";")[0].partition("=")[2].strip()


def _one_below(name: str, domain: str) -> str:
    count = name.count(".") + 2
    return ".".join(domain.split(".")[-count:])
