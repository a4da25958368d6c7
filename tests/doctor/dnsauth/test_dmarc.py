"""DMARC: policies, organizational domains, and alignment."""

import pytest

from mailroom.doctor.dnsauth.dmarc import BadPolicy, Policy, is_aligned, organization_of, parents, policy_of
from tests.doctor.conftest import Dns
from tests.names import Zones, txt


def zones(**records: str) -> dict[tuple[str, str], list[str]]:
    """Return policies: `mail_acme_example="v=DMARC1; …"` is of mail.acme.example."""
    return {(f"_dmarc.{name.replace('_', '.')}", "TXT"): [txt(text)] for name, text in records.items()}


async def policy(dns: Dns, given: Zones, domain: str = "acme.example") -> Policy | None:
    return await policy_of(dns(given), domain)


async def test_a_policy_is_parsed(dns: Dns) -> None:
    found = await policy(dns, zones(acme_example="v=DMARC1; p=reject; adkim=s; rua=mailto:d@acme.example; t=y"))
    assert found == Policy("acme.example", "acme.example", "reject", frozenset({"dkim"}), reports=True, is_test=True)


async def test_a_subdomain_has_the_policy_of_the_organizational_domain(dns: Dns) -> None:
    """By `sp`, or by `p` if there is none."""
    found = await policy(dns, zones(acme_example="v=DMARC1; p=reject; sp=quarantine"), "a.mail.acme.example")
    assert found is not None
    assert (found.at, found.organization, found.action) == ("acme.example", "acme.example", "quarantine")
    found = await policy(dns, zones(acme_example="v=DMARC1; p=reject"), "mail.acme.example")
    assert found is not None
    assert found.action == "reject"


async def test_a_domains_own_policy_is_used_first(dns: Dns) -> None:
    given = zones(acme_example="v=DMARC1; p=reject", mail_acme_example="v=DMARC1; p=none")
    found = await policy(dns, given, "mail.acme.example")
    assert found is not None
    assert (found.at, found.organization, found.action) == ("mail.acme.example", "acme.example", "none")


@pytest.mark.parametrize("record", ["v=spf1 -all", "v=DMARC10; p=none", "p=none; v=DMARC1", "V=dmarc1; p=none"])
async def test_other_records_are_no_policy(dns: Dns, record: str) -> None:
    assert await policy(dns, zones(acme_example=record)) is None


@pytest.mark.parametrize("record", ["v=DMARC1", "v=DMARC1; p=nothing", "v=DMARC1; sp=reject"])
async def test_a_policy_without_p_raises(dns: Dns, record: str) -> None:
    with pytest.raises(BadPolicy, match="p="):
        await policy(dns, zones(acme_example=record))


async def test_several_policies_raise(dns: Dns) -> None:
    with pytest.raises(BadPolicy, match="2 DMARC records"):
        await policy(dns, {("_dmarc.acme.example", "TXT"): [txt("v=DMARC1; p=none"), txt("v=DMARC1; p=reject")]})


@pytest.mark.parametrize(
    ("records", "domain", "organization"),
    [
        ({}, "a.b.acme.example", "a.b.acme.example"),
        ({"acme_example": "v=DMARC1; p=none"}, "a.b.acme.example", "acme.example"),
        ({"acme_example": "v=DMARC1; p=none", "b_acme_example": "v=DMARC1; p=none"}, "b.acme.example", "acme.example"),
        (
            {"acme_example": "v=DMARC1; p=none", "b_acme_example": "v=DMARC1; p=none; psd=n"},
            "a.b.acme.example",
            "b.acme.example",
        ),
        ({"example": "v=DMARC1; p=none; psd=y"}, "a.b.acme.example", "acme.example"),
    ],
)
async def test_the_organizational_domain_is_found_by_a_tree_walk(
    dns: Dns, records: dict[str, str], domain: str, organization: str
) -> None:
    assert await organization_of(dns(zones(**records)), domain) == organization


def test_at_most_eight_domains_are_looked_up() -> None:
    """RFC 9989 §4.10."""
    assert parents("a.b.c") == ["a.b.c", "b.c", "c"]
    asked = parents("a.b.c.d.e.f.g.h.i.j.acme.example")
    assert len(asked) == 8
    assert asked[:2] == ["a.b.c.d.e.f.g.h.i.j.acme.example", "f.g.h.i.j.acme.example"]


async def test_alignment_is_relaxed_by_default(dns: Dns) -> None:
    resolver = dns(zones(acme_example="v=DMARC1; p=none; aspf=s", other_example="v=DMARC1; p=none"))
    found = await policy_of(resolver, "mail.acme.example")
    assert found is not None

    async def aligned(other: str, by: str) -> bool:
        return await is_aligned(resolver, found, "mail.acme.example", other, "spf" if by == "spf" else "dkim")

    assert await aligned("acme.example", "dkim")
    assert await aligned("news.acme.example", "dkim")
    assert not await aligned("other.example", "dkim")
    assert not await aligned("acme.example", "spf")
    assert await aligned("Mail.acme.example", "spf")
