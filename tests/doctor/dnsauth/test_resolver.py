"""DNS look-ups: records, missing records, and failures."""

from ipaddress import ip_address

import pytest

from mailroom.doctor.dnsauth.resolver import LookupFailed, SystemResolver, addresses, is_within, names, unmapped
from tests.doctor.conftest import Dns
from tests.names import BROKEN, SILENT, NameServer, txt


async def test_the_strings_of_a_long_txt_record_are_one_text(dns: Dns) -> None:
    """A DKIM key of 2048 bits does not fit into 255 octets."""
    text = "v=DKIM1; p=" + "A" * 700
    assert await dns({("key.acme.example", "TXT"): [txt(text)]}).look_up("key.acme.example", "TXT") == (text,)


async def test_records_are_returned_as_text(dns: Dns) -> None:
    resolver = dns(
        {
            ("acme.example", "MX"): ["10 MX1.acme.example.", "20 mx2.acme.example."],
            ("mx1.acme.example", "A"): ["192.0.2.1"],
            ("mx1.acme.example", "AAAA"): ["2001:db8::1"],
            ("1.2.0.192.in-addr.arpa", "PTR"): ["mx1.acme.example."],
        }
    )
    assert set(await resolver.look_up("acme.example", "MX")) == {"10 mx1.acme.example", "20 mx2.acme.example"}
    assert await addresses(resolver, "mx1.acme.example") == (ip_address("192.0.2.1"), ip_address("2001:db8::1"))
    assert await addresses(resolver, "mx1.acme.example", 6) == (ip_address("2001:db8::1"),)
    assert await names(resolver, ip_address("192.0.2.1")) == ("mx1.acme.example",)


async def test_a_cname_is_followed(dns: Dns) -> None:
    """Vendors publish DKIM keys by a CNAME."""
    zones = {("s1.acme.example", "CNAME"): ["s1.vendor.example"], ("s1.vendor.example", "TXT"): [txt("p=A")]}
    assert await dns(zones).look_up("s1.acme.example", "TXT") == ("p=A",)


@pytest.mark.parametrize("name", ["nothing.example", "a..example", "x" * 64 + ".example", ".".join(["abcdefgh"] * 40)])
async def test_a_name_without_records_returns_none(dns: Dns, name: str) -> None:
    """An invalid name has no records either."""
    assert await dns({("acme.example", "A"): ["192.0.2.1"]}).look_up(name, "TXT") == ()


@pytest.mark.parametrize(("record", "words"), [(SILENT, "within 0.5 s"), (BROKEN, "SERVFAIL")])
async def test_a_missing_answer_raises(dns: Dns, record: str, words: str) -> None:
    resolver = dns({("acme.example", "TXT"): [record]})
    with pytest.raises(LookupFailed, match=words):
        await resolver.look_up("acme.example", "TXT")


async def test_answers_and_failures_are_cached(dns: Dns, servers: list[NameServer]) -> None:
    resolver = dns({("acme.example", "TXT"): [txt("hello")], ("broken.example", "TXT"): [BROKEN]})
    for _ in range(2):
        await resolver.look_up("acme.example", "TXT")
        await resolver.look_up("ACME.example.", "TXT")
        with pytest.raises(LookupFailed):
            await resolver.look_up("broken.example", "TXT")
    assert servers[0].queries.count(("acme.example", "TXT")) == 1
    known = len(servers[0].queries)
    with pytest.raises(LookupFailed):
        await resolver.look_up("broken.example", "TXT")
    assert len(servers[0].queries) == known


async def test_an_unreachable_name_server_raises() -> None:
    with pytest.raises(LookupFailed):
        await SystemResolver(["127.0.0.1"], port=1, seconds=0.2).look_up("acme.example", "TXT")


def test_is_within_compares_whole_labels() -> None:
    assert is_within("mx.acme.example", "acme.example")
    assert is_within("ACME.example.", "acme.example")
    assert not is_within("notacme.example", "acme.example")


def test_an_ipv4_mapped_address_becomes_ipv4() -> None:
    assert unmapped(ip_address("::ffff:192.0.2.1")) == ip_address("192.0.2.1")
    assert unmapped(ip_address("2001:db8::1")) == ip_address("2001:db8::1")
