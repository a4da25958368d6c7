"""Reads DMARC records (RFC 9989): a From domain's policy, its organizational domain, and which domains are aligned.

policy = await policy_of(resolver, "acme.example")  # policy.action is "reject"
"""

import re
from dataclasses import dataclass
from typing import Final, Literal

from mailroom.doctor.dnsauth.dkim_keys import tags
from mailroom.doctor.dnsauth.resolver import Resolver

_MOST_LABELS: Final = 8
"""§4.10: for a longer name, the name itself and then its last seven labels are looked up."""
_POLICIES: Final = ("none", "quarantine", "reject")
_VERSION: Final = re.compile(r"\s*v\s*=\s*DMARC1\s*(?:;|\Z)")

Mechanism = Literal["spf", "dkim"]
_ALIGNMENT_TAGS: Final[dict[Mechanism, str]] = {"spf": "aspf", "dkim": "adkim"}


class BadPolicy(Exception):
    """The record is not valid; receivers ignore it."""


@dataclass(frozen=True, slots=True)
class Policy:
    """A domain's policy for mail that fails DMARC."""

    at: str
    """The domain with the record."""
    organization: str
    """The organizational domain; two domains with the same one are aligned in relaxed mode."""
    action: str
    """`none`, `quarantine` or `reject`, for the domain that was looked up."""
    strict: frozenset[Mechanism] = frozenset()
    reports: bool = False
    is_test: bool = False


def parents(domain: str) -> list[str]:
    """Return the domains that can have the policy, nearest first (§4.10): `a.b.c`, `b.c`, `c`."""
    labels = domain.split(".")
    first = 1 if len(labels) < _MOST_LABELS else len(labels) - _MOST_LABELS + 1
    return [domain, *(".".join(labels[start:]) for start in range(first, len(labels)))]


async def organization_of(resolver: Resolver, domain: str) -> str:
    """Return the organizational domain (§4.10.2); without any record it is the domain itself. Raises LookupFailed."""
    organization = domain
    for name in parents(domain):
        texts = await _records(resolver, name)
        if len(texts) != 1:
            continue
        organization, psd = name, tags(texts[0]).get("psd")
        if psd == "n":
            return name
        if psd == "y" and name != domain:  # a public suffix: the organization is one label below it
            return ".".join(domain.split(".")[-name.count(".") - 2 :])
    return organization


async def policy_of(resolver: Resolver, domain: str) -> Policy | None:
    """Return the policy for a From domain, None if there is none. Raises BadPolicy, LookupFailed."""
    organization = await organization_of(resolver, domain)
    for name in dict.fromkeys((domain, organization)):
        texts = await _records(resolver, name)
        if len(texts) > 1:
            raise BadPolicy(f"there are {len(texts)} DMARC records at _dmarc.{name}, and one is allowed")
        if texts:
            return _policy(name, organization, domain, tags(texts[0]))
    return None


def _policy(at: str, organization: str, domain: str, values: dict[str, str]) -> Policy:
    action = values.get("p", "none" if "rua" in values else "").lower()
    if at != domain:
        action = values.get("sp", action).lower()
    if action not in _POLICIES:
        raise BadPolicy(f"the record at _dmarc.{at} has no p= with one of {', '.join(_POLICIES)}")
    strict = frozenset(mechanism for mechanism, tag in _ALIGNMENT_TAGS.items() if values.get(tag, "").lower() == "s")
    is_test = values.get("t", "n").lower() == "y"
    return Policy(at, organization, action, strict, bool(values.get("rua")), is_test)


async def is_aligned(resolver: Resolver, policy: Policy, domain: str, other: str, by: Mechanism) -> bool:
    """Return whether a domain that passed SPF or DKIM is aligned with the From domain. Raises LookupFailed."""
    domain, other = domain.lower(), other.lower()
    if domain == other:
        return True
    return by not in policy.strict and await organization_of(resolver, other) == policy.organization


async def _records(resolver: Resolver, domain: str) -> list[str]:
    return [text for text in await resolver.look_up(f"_dmarc.{domain}", "TXT") if _VERSION.match(text)]
