"""The DNS checks of a sender's domain, and their remedies."""

import re
from ipaddress import ip_address
from typing import Any, get_args

import pytest

from mailroom.doctor.check_results import CheckResult, Mark
from mailroom.doctor.sender import Sender, check_dns
from mailroom.doctor.vendors import VENDORS, vendor_of
from mailroom.providers.aliyun.direct_mail import Settings as Aliyun
from mailroom.providers.smtp.smtp_provider import Settings as Smtp
from tests.doctor.conftest import Dns
from tests.doctor.dnsauth.test_dkim_keys import RSA_2048
from tests.names import SILENT, txt

RELAY = ip_address("192.0.2.9")
GOOD = {
    ("acme.example", "MX"): ["10 mx.acme.example."],
    ("mx.acme.example", "A"): ["192.0.2.9"],
    ("9.2.0.192.in-addr.arpa", "PTR"): ["mx.acme.example."],
    ("acme.example", "TXT"): [txt("v=spf1 mx -all")],
    ("mail._domainkey.acme.example", "TXT"): [txt(f"v=DKIM1; p={RSA_2048}")],
    ("_dmarc.acme.example", "TXT"): [txt("v=DMARC1; p=reject; rua=mailto:d@acme.example")],
}


async def checked(dns: Dns, zones: Any, **changes: Any) -> dict[str, CheckResult]:
    """Check acme.example with its own relay; return the results by subject, a fault before others."""
    given = {"address": "no-reply@acme.example", "egress": (RELAY,), "selectors": ("mail",)} | changes
    findings = await check_dns(dns(zones), Sender(**given))
    results: dict[str, CheckResult] = {}
    for finding in findings:
        if finding.about not in results or finding.mark is Mark.WRONG:
            results[finding.about] = finding
    return results


def wrong(results: dict[str, CheckResult]) -> set[str]:
    for finding in results.values():
        assert finding.text
        if finding.mark is not Mark.GOOD:
            assert finding.todo, f"{finding} has no remedy"
    return {about for about, finding in results.items() if finding.mark is Mark.WRONG}


async def test_all_checks_of_a_correct_domain_are_good(dns: Dns) -> None:
    results = await checked(dns, GOOD)
    assert {about: finding.mark for about, finding in results.items()} == dict.fromkeys(
        ("MX", "SPF", "DKIM", "DMARC", "alignment", "PTR"), Mark.GOOD
    )
    assert "DKIM of acme.example and SPF of acme.example" in results["alignment"].text


async def test_a_domain_without_records_gets_the_records_to_publish(dns: Dns) -> None:
    results = await checked(dns, {})
    assert wrong(results) == {"MX", "SPF", "DKIM", "DMARC", "PTR"}
    assert '"v=spf1 ip4:192.0.2.9 -all"' in results["SPF"].todo
    assert "mail._domainkey.acme.example" in results["DKIM"].text
    assert "_dmarc.acme.example" in results["DMARC"].todo


@pytest.mark.parametrize(
    ("place", "records", "about", "words"),
    [
        (("acme.example", "MX"), ["0 ."], "MX", "null MX"),
        (("mx.acme.example", "A"), [], "MX", "mx.acme.example of acme.example has no address"),
        (("acme.example", "TXT"), [txt("v=spf1 ip4:192.0.2.8 -all")], "SPF", "192.0.2.9 may not send .*: fail"),
        (("acme.example", "TXT"), [txt("v=spf1 ip4:192.0.2.8")], "SPF", "neutral"),
        (("acme.example", "TXT"), [txt("v=spf1 mx +all")], "SPF", r"everybody to send \(\+all\)"),
        (("acme.example", "TXT"), [txt("v=spf1 mx all")], "SPF", r"everybody to send \(all\)"),
        (("acme.example", "TXT"), [txt("v=spf1 mx -all"), txt("v=spf1 -all")], "SPF", "2 SPF records"),
        (("acme.example", "TXT"), [txt("v=spf1 mx include:acme.example -all")], "SPF", "includes itself"),
        (("mail._domainkey.acme.example", "TXT"), [txt("p=")], "DKIM", "revoked"),
        (("_dmarc.acme.example", "TXT"), [txt("v=DMARC1")], "DMARC", "no p="),
        (("9.2.0.192.in-addr.arpa", "PTR"), ["elsewhere.example."], "PTR", "does not point back"),
        (("9.2.0.192.in-addr.arpa", "PTR"), [], "PTR", "has no PTR record"),
    ],
)
async def test_each_fault_is_reported(
    dns: Dns, place: tuple[str, str], records: list[str], about: str, words: str
) -> None:
    results = await checked(dns, {**GOOD, place: records})
    assert about in wrong(results)
    assert re.search(words, results[about].text), results[about].text


@pytest.mark.parametrize(
    ("name", "kind", "about"),
    [
        ("acme.example", "MX", "MX"),
        ("acme.example", "TXT", "SPF"),
        ("mail._domainkey.acme.example", "TXT", "DKIM"),
        ("_dmarc.acme.example", "TXT", "DMARC"),
        ("9.2.0.192.in-addr.arpa", "PTR", "PTR"),
    ],
)
async def test_a_failed_look_up_is_unknown_not_wrong(dns: Dns, name: str, kind: str, about: str) -> None:
    results = await checked(dns, {**GOOD, (name, kind): [SILENT]})
    assert results[about].mark is Mark.UNKNOWN
    assert about not in wrong(results)


async def test_a_domain_without_mx_but_with_an_address_is_not_wrong(dns: Dns) -> None:
    results = await checked(dns, {**GOOD, ("acme.example", "MX"): [], ("acme.example", "A"): ["192.0.2.9"]})
    assert results["MX"].mark is Mark.UNKNOWN


async def test_spf_of_a_relay_with_unknown_address_is_unknown(dns: Dns) -> None:
    results = await checked(dns, GOOD, egress=())
    assert results["SPF"].mark is Mark.UNKNOWN
    assert "--egress" in results["SPF"].todo
    assert "PTR" not in results
    assert results["alignment"].mark is Mark.GOOD


async def test_a_missing_selector_is_reported_with_the_place_to_find_it(dns: Dns) -> None:
    results = await checked(dns, GOOD, selectors=(), egress=())
    assert results["DKIM"].mark is Mark.UNKNOWN
    assert "--selector" in results["DKIM"].todo
    assert results["alignment"].mark is Mark.UNKNOWN
    assert not wrong(results)


async def test_a_vendors_usual_selectors_are_looked_up(dns: Dns) -> None:
    zones = {**GOOD, ("s1._domainkey.acme.example", "CNAME"): ["s1.u1.wl.sendgrid.net"],
             ("s1.u1.wl.sendgrid.net", "TXT"): [txt(f"k=rsa; p={RSA_2048}")]}  # fmt: skip
    results = await checked(dns, zones, vendor=vendor_of("sendgrid"), selectors=(), egress=())
    assert "s1._domainkey.acme.example" in results["DKIM"].text
    assert results["SPF"].mark is Mark.GOOD
    assert "own envelope sender" in results["SPF"].text
    assert results["alignment"].text == "acme.example is authenticated by DKIM of acme.example"
    assert not wrong(results)
    results = await checked(dns, GOOD, vendor=vendor_of("sendgrid"), selectors=(), egress=())
    assert wrong(results) == {"DKIM"}, "the vendor's envelope may be aligned"
    assert "Sender Authentication" in results["DKIM"].todo


async def test_missing_usual_selectors_are_not_wrong_for_a_vendor_that_generates_them(
    dns: Dns,
) -> None:
    mailgun = vendor_of("mailgun")
    results = await checked(dns, GOOD, vendor=mailgun, selectors=(), egress=())
    assert results["DKIM"].mark is Mark.UNKNOWN
    assert "no key at pdk1._domainkey.acme.example nor pdk2._domainkey.acme.example" in results["DKIM"].text
    assert "--selector" in results["DKIM"].todo
    assert not wrong(results)
    zones = {**GOOD, ("pdk2._domainkey.acme.example", "TXT"): [txt(f"k=rsa; p={RSA_2048}")]}
    results = await checked(dns, zones, vendor=mailgun, selectors=(), egress=())
    assert results["DKIM"].mark is results["alignment"].mark is Mark.GOOD


async def test_direct_mail_requires_different_records_in_each_region(dns: Dns) -> None:
    zones = {**GOOD, ("acme.example", "TXT"): [txt("v=spf1 include:spfdm-eu-central-1.aliyun.com -all")],
             ("spfdm-eu-central-1.aliyun.com", "TXT"): [txt("v=spf1 ip4:192.0.2.0/24 -all")],
             ("aliyun-eu-central-1._domainkey.acme.example", "TXT"): [txt(f"k=rsa; p={RSA_2048}")]}  # fmt: skip
    results = await checked(dns, zones, vendor=vendor_of("aliyun", region="eu-central-1"), selectors=(), egress=())
    assert not wrong(results)
    assert "DKIM of acme.example and SPF of acme.example" in results["alignment"].text
    results = await checked(dns, zones, vendor=vendor_of("aliyun", region="cn-hangzhou"), selectors=(), egress=())
    assert wrong(results) == {"SPF", "DKIM", "alignment"}
    assert "include:spf1.dm.aliyun.com" in results["SPF"].todo
    assert "aliyun-cn-hangzhou._domainkey" in results["DKIM"].text


async def test_a_vendor_that_uses_our_envelope_sender_must_be_in_the_spf_record(dns: Dns) -> None:
    google = vendor_of("smtp", "smtp.gmail.com")
    results = await checked(dns, GOOD, vendor=google, egress=())
    assert results["SPF"].todo == "add include:_spf.google.com to the TXT record of acme.example"
    zones = {**GOOD, ("acme.example", "TXT"): [txt("v=spf1 include:_spf.google.com -all")],
             ("_spf.google.com", "TXT"): [txt("v=spf1 ip4:198.51.100.0/24 ~all")]}  # fmt: skip
    results = await checked(dns, zones, vendor=google, egress=())
    assert not wrong(results)
    assert "SPF of acme.example" in results["alignment"].text


async def test_a_key_of_the_organizational_domain_is_aligned_with_a_subdomain(dns: Dns) -> None:
    """Relaxed alignment, unless adkim=s."""
    zones = {**GOOD, ("mail.acme.example", "MX"): ["10 mx.acme.example."],
             ("mail.acme.example", "TXT"): [txt("v=spf1 -all")]}  # fmt: skip
    results = await checked(dns, zones, address="a@mail.acme.example")
    assert wrong(results) == {"SPF"}
    assert "DKIM of acme.example" in results["alignment"].text
    zones["_dmarc.acme.example", "TXT"] = [txt("v=DMARC1; p=none; adkim=s")]
    results = await checked(dns, zones, address="a@mail.acme.example")
    assert wrong(results) == {"SPF", "alignment"}
    assert "adkim=s" in results["alignment"].todo


async def test_a_key_for_our_own_signatures_must_be_published(dns: Dns) -> None:
    results = await checked(dns, GOOD, address="a@mail.acme.example", signing_domain="mail.acme.example")
    assert "there is no key at mail._domainkey.mail.acme.example" in results["DKIM"].text


async def test_advice_is_given_without_a_fault(dns: Dns) -> None:
    zones = {**GOOD, ("_dmarc.acme.example", "TXT"): [txt("v=DMARC1; p=none")]}
    results = await checked(dns, zones)
    assert results["DMARC"].mark is Mark.GOOD
    assert "rua=" in results["DMARC"].todo


def test_a_vendor_is_recognized_by_type_and_by_host() -> None:
    assert vendor_of("smtp", "email-smtp.eu-west-1.amazonaws.com") is vendor_of("ses")
    assert vendor_of("smtp", "smtp.acme.example") is None
    assert vendor_of("smtp", "notsendgrid.net") is None
    assert vendor_of("http") is None
    assert vendor_of("ses", region="eu-central-1") is vendor_of("ses")
    assert vendor_of("smtp", "smtpdm-us-east-1.aliyuncs.com") is vendor_of("aliyun", region="us-east-1")
    assert vendor_of("smtp", "smtpdm.aliyun.com") is vendor_of("aliyun")
    assert vendor_of("smtp", "smtp.qiye.aliyun.com") is None, "mailboxes, which want another SPF record"
    for vendor in VENDORS:
        assert vendor.where
        assert vendor.spf or not vendor.has_our_envelope


@pytest.mark.parametrize("region", get_args(Aliyun.model_fields["region"].annotation))
def test_each_region_of_direct_mail_is_recognized_by_type_and_by_host(region: str) -> None:
    found = vendor_of("aliyun", region=region)
    assert found is not None
    assert found.region == region
    smtp = Smtp.model_validate({"preset": "aliyun", "region": region, "username": "a@acme.example", "password": "p"})
    assert vendor_of("smtp", smtp.host) is found
