"""What receivers make of a sender's domain, in words that an operator can act on."""

import re
from ipaddress import ip_address
from typing import Any, get_args

import pytest

from mailroom.doctor.check_results import CheckResult, Mark
from mailroom.doctor.sender import Sender, check_dns
from mailroom.doctor.vendors import VENDORS, vendor_of
from mailroom.providers.aliyun.direct_mail import Settings as Aliyun
from mailroom.providers.smtp.smtp_provider import Settings as Smtp
from tests.doctor.conftest import World
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


async def found(world: World, zones: Any, **changes: Any) -> dict[str, CheckResult]:
    """Examine acme.example behind its own relay; return what is said, by what it is about, the worst first."""
    given = {"address": "no-reply@acme.example", "egress": (RELAY,), "selectors": ("mail",)} | changes
    findings = await check_dns(world(zones), Sender(**given))
    told: dict[str, CheckResult] = {}
    for finding in findings:
        if finding.about not in told or finding.mark is Mark.WRONG:
            told[finding.about] = finding
    return told


def wrong(told: dict[str, CheckResult]) -> set[str]:
    for finding in told.values():
        assert finding.text
        if finding.mark is not Mark.GOOD:
            assert finding.todo, f"{finding} says nothing of what to do"
    return {about for about, finding in told.items() if finding.mark is Mark.WRONG}


async def test_a_sound_domain_is_good_in_everything(world: World) -> None:
    told = await found(world, GOOD)
    assert {about: finding.mark for about, finding in told.items()} == dict.fromkeys(
        ("MX", "SPF", "DKIM", "DMARC", "alignment", "PTR"), Mark.GOOD
    )
    assert "DKIM of acme.example and SPF of acme.example" in told["alignment"].text


async def test_a_domain_without_anything_is_told_what_to_publish(world: World) -> None:
    told = await found(world, {})
    assert wrong(told) == {"MX", "SPF", "DKIM", "DMARC", "PTR"}
    assert '"v=spf1 ip4:192.0.2.9 -all"' in told["SPF"].todo
    assert "mail._domainkey.acme.example" in told["DKIM"].text
    assert "_dmarc.acme.example" in told["DMARC"].todo


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
async def test_each_thing_that_is_wrong_is_told(
    world: World, place: tuple[str, str], records: list[str], about: str, words: str
) -> None:
    told = await found(world, {**GOOD, place: records})
    assert about in wrong(told)
    assert re.search(words, told[about].text), told[about].text


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
async def test_what_nobody_answers_is_not_called_wrong(world: World, name: str, kind: str, about: str) -> None:
    told = await found(world, {**GOOD, (name, kind): [SILENT]})
    assert told[about].mark is Mark.UNKNOWN
    assert about not in wrong(told)


async def test_a_domain_that_gets_mail_at_its_own_address_is_only_told_so(world: World) -> None:
    told = await found(world, {**GOOD, ("acme.example", "MX"): [], ("acme.example", "A"): ["192.0.2.9"]})
    assert told["MX"].mark is Mark.UNKNOWN


async def test_a_relay_whose_address_is_not_known_is_not_judged(world: World) -> None:
    told = await found(world, GOOD, egress=())
    assert told["SPF"].mark is Mark.UNKNOWN
    assert "--egress" in told["SPF"].todo
    assert "PTR" not in told
    assert told["alignment"].mark is Mark.GOOD


async def test_without_a_selector_the_operator_is_told_where_to_find_it(world: World) -> None:
    told = await found(world, GOOD, selectors=(), egress=())
    assert told["DKIM"].mark is Mark.UNKNOWN
    assert "--selector" in told["DKIM"].todo
    assert told["alignment"].mark is Mark.UNKNOWN
    assert not wrong(told)


async def test_a_vendors_usual_selector_is_looked_for(world: World) -> None:
    zones = {**GOOD, ("s1._domainkey.acme.example", "CNAME"): ["s1.u1.wl.sendgrid.net"],
             ("s1.u1.wl.sendgrid.net", "TXT"): [txt(f"k=rsa; p={RSA_2048}")]}  # fmt: skip
    told = await found(world, zones, vendor=vendor_of("sendgrid"), selectors=(), egress=())
    assert "s1._domainkey.acme.example" in told["DKIM"].text
    assert told["SPF"].mark is Mark.GOOD
    assert "own envelope sender" in told["SPF"].text
    assert told["alignment"].text == "acme.example is authenticated by DKIM of acme.example"
    assert not wrong(told)
    told = await found(world, GOOD, vendor=vendor_of("sendgrid"), selectors=(), egress=())
    assert wrong(told) == {"DKIM"}, "the vendor's envelope may be aligned"
    assert "Sender Authentication" in told["DKIM"].todo


async def test_a_vendor_that_makes_selectors_up_may_have_another_than_the_usual_ones(world: World) -> None:
    mailgun = vendor_of("mailgun")
    told = await found(world, GOOD, vendor=mailgun, selectors=(), egress=())
    assert told["DKIM"].mark is Mark.UNKNOWN
    assert "no key at pdk1._domainkey.acme.example nor pdk2._domainkey.acme.example" in told["DKIM"].text
    assert "--selector" in told["DKIM"].todo
    assert not wrong(told)
    zones = {**GOOD, ("pdk2._domainkey.acme.example", "TXT"): [txt(f"k=rsa; p={RSA_2048}")]}
    told = await found(world, zones, vendor=mailgun, selectors=(), egress=())
    assert told["DKIM"].mark is told["alignment"].mark is Mark.GOOD


async def test_direct_mail_wants_other_records_in_each_region(world: World) -> None:
    zones = {**GOOD, ("acme.example", "TXT"): [txt("v=spf1 include:spfdm-eu-central-1.aliyun.com -all")],
             ("spfdm-eu-central-1.aliyun.com", "TXT"): [txt("v=spf1 ip4:192.0.2.0/24 -all")],
             ("aliyun-eu-central-1._domainkey.acme.example", "TXT"): [txt(f"k=rsa; p={RSA_2048}")]}  # fmt: skip
    told = await found(world, zones, vendor=vendor_of("aliyun", region="eu-central-1"), selectors=(), egress=())
    assert not wrong(told)
    assert "DKIM of acme.example and SPF of acme.example" in told["alignment"].text
    told = await found(world, zones, vendor=vendor_of("aliyun", region="cn-hangzhou"), selectors=(), egress=())
    assert wrong(told) == {"SPF", "DKIM", "alignment"}
    assert "include:spf1.dm.aliyun.com" in told["SPF"].todo
    assert "aliyun-cn-hangzhou._domainkey" in told["DKIM"].text


async def test_a_vendor_that_keeps_our_envelope_must_be_included(world: World) -> None:
    google = vendor_of("smtp", "smtp.gmail.com")
    told = await found(world, GOOD, vendor=google, egress=())
    assert told["SPF"].todo == "add include:_spf.google.com to the TXT record of acme.example"
    zones = {**GOOD, ("acme.example", "TXT"): [txt("v=spf1 include:_spf.google.com -all")],
             ("_spf.google.com", "TXT"): [txt("v=spf1 ip4:198.51.100.0/24 ~all")]}  # fmt: skip
    told = await found(world, zones, vendor=google, egress=())
    assert not wrong(told)
    assert "SPF of acme.example" in told["alignment"].text


async def test_a_key_of_the_organization_vouches_for_a_subdomain(world: World) -> None:
    """Relaxed alignment, unless adkim=s."""
    zones = {**GOOD, ("mail.acme.example", "MX"): ["10 mx.acme.example."],
             ("mail.acme.example", "TXT"): [txt("v=spf1 -all")]}  # fmt: skip
    told = await found(world, zones, address="a@mail.acme.example")
    assert wrong(told) == {"SPF"}
    assert "DKIM of acme.example" in told["alignment"].text
    zones["_dmarc.acme.example", "TXT"] = [txt("v=DMARC1; p=none; adkim=s")]
    told = await found(world, zones, address="a@mail.acme.example")
    assert wrong(told) == {"SPF", "alignment"}
    assert "adkim=s" in told["alignment"].todo


async def test_where_we_sign_ourselves_the_key_must_be_there(world: World) -> None:
    told = await found(world, GOOD, address="a@mail.acme.example", signing_domain="mail.acme.example")
    assert "there is no key at mail._domainkey.mail.acme.example" in told["DKIM"].text


async def test_ways_to_do_better_are_told_without_calling_it_wrong(world: World) -> None:
    zones = {**GOOD, ("_dmarc.acme.example", "TXT"): [txt("v=DMARC1; p=none")]}
    told = await found(world, zones)
    assert told["DMARC"].mark is Mark.GOOD
    assert "rua=" in told["DMARC"].todo


def test_vendors_are_known_by_type_and_by_host() -> None:
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
def test_each_region_of_direct_mails_is_known_by_both_ways_in(region: str) -> None:
    found = vendor_of("aliyun", region=region)
    assert found is not None
    assert found.region == region
    smtp = Smtp.model_validate({"preset": "aliyun", "region": region, "username": "a@acme.example", "password": "p"})
    assert vendor_of("smtp", smtp.host) is found
