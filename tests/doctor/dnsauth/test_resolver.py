"""Asking the DNS: what comes back, and what no answer is told as."""

from ipaddress import ip_address

import pytest

from mailroom.doctor.dnsauth.resolver import LookupFailed, SystemResolver, addresses, is_within, names, unmapped
from tests.doctor.conftest import World
from tests.names import BROKEN, SILENT, NameServer, txt


async def test_the_strings_of_a_long_txt_record_are_one_text(world: World) -> None:
    """A DKIM key of 2048 bits does not fit into 255 octets."""
    text = "v=DKIM1; p=" + "A" * 700
    assert await world({("key.acme.example", "TXT"): [txt(text)]}).look_up("key.acme.example", "TXT") == (text,)


async def test_records_come_in_plain_words(world: World) -> None:
    resolver = world(
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


async def test_an_alias_is_followed(world: World) -> None:
    """Vendors have their DKIM keys pointed to."""
    zones = {("s1.acme.example", "CNAME"): ["s1.vendor.example"], ("s1.vendor.example", "TXT"): [txt("p=A")]}
    assert await world(zones).look_up("s1.acme.example", "TXT") == ("p=A",)


@pytest.mark.parametrize("name", ["nothing.example", "a..example", "x" * 64 + ".example", ".".join(["abcdefgh"] * 40)])
async def test_a_name_without_records_has_none(world: World, name: str) -> None:
    """Nor has what cannot be a name."""
    assert await world({("acme.example", "A"): ["192.0.2.1"]}).look_up(name, "TXT") == ()


@pytest.mark.parametrize(("record", "words"), [(SILENT, "within 0.5 s"), (BROKEN, "SERVFAIL")])
async def test_no_answer_is_not_taken_for_no_records(world: World, record: str, words: str) -> None:
    resolver = world({("acme.example", "TXT"): [record]})
    with pytest.raises(LookupFailed, match=words):
        await resolver.look_up("acme.example", "TXT")


async def test_nothing_is_asked_twice(world: World, servers: list[NameServer]) -> None:
    resolver = world({("acme.example", "TXT"): [txt("hello")], ("broken.example", "TXT"): [BROKEN]})
    for _ in range(2):
        await resolver.look_up("acme.example", "TXT")
        await resolver.look_up("ACME.example.", "TXT")
        with pytest.raises(LookupFailed):
            await resolver.look_up("broken.example", "TXT")
    assert servers[0].asked.count(("acme.example", "TXT")) == 1
    known = len(servers[0].asked)
    with pytest.raises(LookupFailed):
        await resolver.look_up("broken.example", "TXT")
    assert len(servers[0].asked) == known


async def test_a_name_server_that_is_not_there_is_no_answer() -> None:
    with pytest.raises(LookupFailed):
        await SystemResolver(["127.0.0.1"], port=1, seconds=0.2).look_up("acme.example", "TXT")


def test_below_counts_whole_labels() -> None:
    assert is_within("mx.acme.example", "acme.example")
    assert is_within("ACME.example.", "acme.example")
    assert not is_within("notacme.example", "acme.example")


def test_an_ipv4_address_in_ipv6_is_ipv4() -> None:
    assert unmapped(ip_address("::ffff:192.0.2.1")) == ip_address("192.0.2.1")
    assert unmapped(ip_address("2001:db8::1")) == ip_address("2001:db8::1")
