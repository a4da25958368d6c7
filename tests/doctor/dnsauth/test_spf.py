"""SPF (RFC 7208), with records on a real name server."""

from ipaddress import ip_address

import pytest

from mailroom.doctor.dnsauth.spf import Evaluation, Result, check_host
from mailroom.doctor.dnsauth.spf_record import SpfClient
from mailroom.doctor.dnsauth.spf_tree import walk
from tests.doctor.conftest import Dns
from tests.names import BROKEN, SILENT, Zones, txt

DOMAIN = "acme.example"


def zones(record: str, **more: str) -> dict[tuple[str, str], list[str]]:
    """Return the record of acme.example and others: `b="v=spf1 …"` is of b.example."""
    others = {(f"{name}.example", "TXT"): [txt(text)] for name, text in more.items()}
    return {(DOMAIN, "TXT"): [txt("hello=dns"), txt(record)], **others}


async def check(dns: Dns, given: Zones, address: str = "192.0.2.1", sender: str = f"ann-lee@{DOMAIN}") -> Evaluation:
    return await check_host(dns(given), DOMAIN, SpfClient(ip_address(address), sender))


HOSTS: Zones = {
    (DOMAIN, "A"): ["192.0.2.1"],
    (DOMAIN, "AAAA"): ["2001:db8::1"],
    (DOMAIN, "MX"): ["10 mx.acme.example."],
    ("mx.acme.example", "A"): ["192.0.2.7"],
    ("7.2.0.192.in-addr.arpa", "PTR"): ["mx.acme.example."],
    ("8.2.0.192.in-addr.arpa", "PTR"): ["mx.acme.example."],
    ("1.2.0.192.spf.acme.example", "A"): ["127.0.0.2"],
    ("lee.ann.at.acme.example", "A"): ["127.0.0.2"],
}


@pytest.mark.parametrize(
    ("record", "address", "result"),
    [
        ("v=spf1 ip4:192.0.2.1 -all", "192.0.2.1", Result.PASS),
        ("v=spf1 ip4:192.0.2.1 -all", "192.0.2.2", Result.FAIL),
        ("V=SPF1 IP4:192.0.2.0/24 ~ALL", "192.0.2.200", Result.PASS),
        ("v=spf1 ip4:192.0.2.0/24 ~all", "192.0.3.1", Result.SOFTFAIL),
        ("v=spf1 ip4:192.0.2.1 ?all", "192.0.3.1", Result.NEUTRAL),
        ("v=spf1 ip4:192.0.2.1", "192.0.3.1", Result.NEUTRAL),
        ("v=spf1 -ip4:192.0.2.1 +all", "192.0.2.1", Result.FAIL),
        ("v=spf1 ip6:2001:db8::/32 -all", "2001:db8::9", Result.PASS),
        ("v=spf1 ip4:192.0.2.1 -all", "::ffff:192.0.2.1", Result.PASS),
        ("v=spf1 a -all", "192.0.2.1", Result.PASS),
        ("v=spf1 a -all", "2001:db8::1", Result.PASS),
        ("v=spf1 a/24//64 -all", "192.0.2.99", Result.PASS),
        ("v=spf1 a/24//64 -all", "2001:db8::99", Result.PASS),
        ("v=spf1 a//64 -all", "192.0.2.99", Result.FAIL),
        ("v=spf1 mx -all", "192.0.2.7", Result.PASS),
        ("v=spf1 mx:acme.example/28 -all", "192.0.2.15", Result.PASS),
        ("v=spf1 mx -all", "192.0.2.8", Result.FAIL),
        ("v=spf1 ptr -all", "192.0.2.7", Result.PASS),
        ("v=spf1 ptr -all", "192.0.2.8", Result.FAIL),  # its name does not point back
        ("v=spf1 exists:%{i}.no.acme.example exists:%{ir}.spf.acme.example -all", "192.0.2.1", Result.PASS),
        ("v=spf1 exists:%{lr-}.at.%{d2} -all", "192.0.2.1", Result.PASS),
        ("v=spf1 a:mx.%{d} exp=why.%{d} x-unknown=%{c} -all", "192.0.2.7", Result.PASS),
    ],
)
async def test_mechanisms(dns: Dns, record: str, address: str, result: Result) -> None:
    evaluation = await check(dns, {**HOSTS, **zones(record)}, address)
    assert evaluation.result is result, evaluation.reason


@pytest.mark.parametrize(
    "record",
    [
        "v=spf1 ip:192.0.2.1 -all",
        "v=spf1 ip4=192.0.2.1 mx: -all",
        "v=spf1 ip4:192.0.2.300 -all",
        "v=spf1 ip4:192.0.2.1/33 -all",
        "v=spf1 ip6:192.0.2.1 -all",
        "v=spf1 include -all",
        "v=spf1 include:b.example/24 -all",
        "v=spf1 a/33 -all",
        "v=spf1 a//129 -all",
        "v=spf1 -all:b.example",
        "v=spf1 a:b.123 -all",
        "v=spf1 exists:%{q}.example -all",
        "v=spf1 exists:%{i0}.example -all",
        "v=spf1 exists:foo%.example -all",
        "v=spf1 redirect=b.example redirect=c.example",
        "v=spf1 ip4:192.0.2.1 \N{EN DASH}all",
        "v=spf1 , -all",
    ],
)
async def test_a_syntax_error_is_a_permerror_for_every_address(dns: Dns, record: str) -> None:
    """Also for an address that a term before the error allows: the whole record is parsed first."""
    given = zones(record) if record.isascii() else {(DOMAIN, "TXT"): ['"v=spf1 ip4:192.0.2.1 \\226\\128\\147all"']}
    assert (await check(dns, given)).result is Result.PERMERROR


@pytest.mark.parametrize(
    ("inner", "result"),
    [
        ("v=spf1 ip4:192.0.2.1 -all", Result.PASS),
        ("v=spf1 -all", Result.SOFTFAIL),
        ("v=spf1 ?all", Result.SOFTFAIL),
        ("v=spf1 nonsense", Result.PERMERROR),
        ("no spf", Result.PERMERROR),
    ],
)
async def test_an_include_matches_only_if_the_included_record_passes(dns: Dns, inner: str, result: Result) -> None:
    """Its -all does not end the record that includes it (§5.2)."""
    assert (await check(dns, zones("v=spf1 include:b.example ~all", b=inner))).result is result


async def test_a_redirect_replaces_the_record(dns: Dns) -> None:
    given = zones("v=spf1 redirect=b.example", b="v=spf1 ip4:192.0.2.1 -all")
    assert (await check(dns, given)).result is Result.PASS
    assert (await check(dns, given, "192.0.2.2")).result is Result.FAIL
    assert (await check(dns, zones("v=spf1 redirect=b.example"))).result is Result.PERMERROR
    assert (await check(dns, zones("v=spf1 redirect=b.example ?all"))).result is Result.NEUTRAL


async def test_a_record_that_includes_itself_is_a_permerror(dns: Dns) -> None:
    given = zones("v=spf1 include:b.example -all", b="v=spf1 include:acme.example -all")
    evaluation = await check(dns, given)
    loop = "acme.example → b.example → acme.example"
    assert evaluation == Evaluation(Result.PERMERROR, f"{loop}: the record includes itself")
    tree = await walk(dns(given), DOMAIN)
    assert tree.problems == [f"it includes itself: {loop}"]


async def test_a_loop_after_a_matching_term_is_found_by_walk_only(dns: Dns) -> None:
    """A receiver stops at the first matching term."""
    given = zones("v=spf1 ip4:192.0.2.1 include:acme.example -all")
    assert (await check(dns, given)).result is Result.PASS
    assert (await walk(dns(given), DOMAIN)).problems


@pytest.mark.parametrize(("count", "result"), [(10, Result.PASS), (11, Result.PERMERROR)])
async def test_ten_look_ups_are_allowed(dns: Dns, count: int, result: Result) -> None:
    chain = {f"n{number}": f"v=spf1 include:n{number + 1}.example -all" for number in range(1, count)}
    given = zones("v=spf1 include:n1.example -all", **chain, **{f"n{count}": "v=spf1 ip4:192.0.2.1 -all"})
    assert (await check(dns, given)).result is result
    tree = await walk(dns(given), DOMAIN)
    assert tree.look_ups == count
    assert [f"it needs {count} look-ups, and 10 are allowed (RFC 7208 §4.6.4)"][: len(tree.problems)] == tree.problems
    assert bool(tree.problems) is (result is Result.PERMERROR)


async def test_the_walk_of_exponential_includes_ends(dns: Dns) -> None:
    """Each record includes the next one ten times: a million look-ups in total."""
    bomb = {f"n{number}": "v=spf1" + f" include:n{number + 1}.example" * 10 for number in range(6)}
    tree = await walk(dns(zones("v=spf1 include:n0.example -all", **bomb, n6="v=spf1 -all")), DOMAIN)
    assert tree.look_ups < 70
    assert any("or more look-ups" in problem for problem in tree.problems)


async def test_two_empty_look_ups_are_allowed(dns: Dns) -> None:
    assert (await check(dns, zones("v=spf1 a:x.example a:y.example ~all"))).result is Result.SOFTFAIL
    given = zones("v=spf1 a:x.example a:y.example mx:z.example ~all")
    assert (await check(dns, given)).result is Result.PERMERROR
    assert (await walk(dns(given), DOMAIN)).problems == ["3 of its look-ups find nothing, and 2 may"]


async def test_several_records_are_a_permerror(dns: Dns) -> None:
    given = {(DOMAIN, "TXT"): [txt("v=spf1 ip4:192.0.2.1 -all"), txt("v=spf1 mx -all")]}
    evaluation = await check(dns, given)
    assert evaluation.result is Result.PERMERROR
    assert "2 SPF records" in evaluation.reason
    assert (await walk(dns(given), DOMAIN)).problems == [evaluation.reason]


async def test_the_strings_of_a_record_are_joined(dns: Dns) -> None:
    """`"v=spf1 ip4:192.0" ".2.1 -all"` is one text without a blank (§3.3)."""
    given = {(DOMAIN, "TXT"): ['"v=spf1 ip4:192.0" ".2.1 -all"']}
    assert (await check(dns, given)).result is Result.PASS
    long = "v=spf1 " + " ".join(f"ip4:198.51.100.{number}" for number in range(60)) + " ip4:192.0.2.1 -all"
    assert (await check(dns, zones(long))).result is Result.PASS


async def test_a_missing_record_has_the_result_none(dns: Dns) -> None:
    assert (await check(dns, {(DOMAIN, "TXT"): [txt("v=spf10 -all")]})).result is Result.NONE
    assert not (await walk(dns({}), DOMAIN)).exists


@pytest.mark.parametrize("record", [SILENT, BROKEN])
async def test_a_failed_look_up_is_a_temperror(dns: Dns, record: str) -> None:
    given = {**zones("v=spf1 include:b.example -all"), ("b.example", "TXT"): [record]}
    assert (await check(dns, given)).result is Result.TEMPERROR
    tree = await walk(dns(given), DOMAIN)
    assert tree.unanswered
    assert not tree.problems


async def test_walk_returns_the_included_domains_and_the_final_all(dns: Dns) -> None:
    given = zones("v=spf1 redirect=b.example", b="v=spf1 include:c.example ~all", c="v=spf1 +all")
    tree = await walk(dns(given), DOMAIN)
    assert (tree.exists, tree.look_ups, tree.domains) == (True, 2, {"c.example"})
    assert tree.ending is not None
    assert tree.ending.text == "~all"
