"""Reads DMARC (RFC 9989): the policy of a From domain, its organizational domain, and what is aligned with it."""

from dataclasses import dataclass, field
from typing import Final, Literal

from mailroom.doctor.dnsauth.dkim_keys import tags
from mailroom.doctor.dnsauth.resolver import Resolver

_MOST_LABELS: Final = 8
"""§4.10: for a longer name, the name itself and then its last seven labels are looked up."""
_POLICIES: Final = ("none", "quarantine", "reject")


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
    strict: frozenset[Literal["spf", "dkim"]] = field(default_factory=frozenset)
    reports: bool = False
    is_test: bool = False


def parents(domain: str) -> list[str]:
    """Return the domains that can have the policy, nearest first (§4.10): `a.b.c`, `b.c`, `c`."""
    labels = domain.split(".")
    first = 1 if len(labels) < _MOST_LABELS else len(labels) - _MOST_LABELS + 1
    return [domain, *(".".join(labels[start:]) for start in range(first, len(labels)))]


async def organization_of(resolver: Resolver, domain: str) -> str:
    """Return the organizational domain (§4.10.2); without any record it is the domain itself. Raises NoAnswer."""
    records = [(name, values) for name in parents(domain) if (values := await _record_at(resolver, name))]
    for name, values in records:
        if values.get("psd") == "n":
            return name
        if values.get("psd") == "y" and name != domain:
            return _one_below(name, domain)
    return records[-1][0] if records else domain


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


def _policy(at: str, organization: str, domain: str, values: dict[str, str]) -> Policy:
    action = values.get("p", "none" if "rua" in values else "").lower()
    if at != domain:
        action = values.get("sp", action).lower()
    if action not in _POLICIES:
        raise BadPolicy(f"the record at _dmarc.{at} has no p= with one of {', '.join(_POLICIES)}")
    strict: set[Literal["spf", "dkim"]] = set()
    if values.get("aspf", "r").lower() == "s":
        strict.add("spf")
    if values.get("adkim", "r").lower() == "s":
        strict.add("dkim")
    is_test = values.get("t", "n").lower() == "y"
    return Policy(at, organization, action, frozenset(strict), bool(values.get("rua")), is_test)


async def is_aligned(resolver: Resolver, policy: Policy, domain: str, other: str, by: Literal["spf", "dkim"]) -> bool:
    """Return whether a domain that passed SPF or DKIM is aligned with the From domain. Raises NoAnswer."""
    domain, other = domain.lower(), other.lower()
    if domain == other:
        return True
    return by not in policy.strict and await organization_of(resolver, other) == policy.organization


async def _record_at(resolver: Resolver, domain: str) -> dict[str, str] | None:
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
