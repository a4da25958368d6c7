"""Checks MX, SPF, DKIM and DMARC of the sender's domain as receivers do, and PTR of the delivering addresses."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final

from mailroom.doctor.dnsauth import dkim_keys, dmarc, spf
from mailroom.doctor.dnsauth.resolver import IpAddress, LookupFailed, Resolver, addresses, names
from mailroom.doctor.dnsauth.spf_record import SpfClient
from mailroom.doctor.dnsauth.spf_tree import Tree, walk
from mailroom.doctor.findings import Finding, good, unknown, wrong
from mailroom.doctor.vendors import Vendor

_TRY_LATER: Final = "try again later; if it persists, check the domain's name servers"


@dataclass(frozen=True, slots=True)
class Sender:
    """The sender of the mails, and how they are delivered."""

    address: str
    """The From address, its domain in ASCII."""
    vendor: Vendor | None = None
    egress: tuple[IpAddress, ...] = ()
    """Addresses that deliver to receivers, as far as they are known."""
    selectors: tuple[str, ...] = ()
    """DKIM selectors to look for, beside the vendor's usual ones."""
    signs_for: str | None = None
    """The `d=` of signatures that we make ourselves."""

    @property
    def domain(self) -> str:
        """The From domain."""
        return self.address.rpartition("@")[2].lower()

    @property
    def wanted(self) -> tuple[str, ...]:
        """The selectors to look for; () if they are not known."""
        return self.selectors or (self.vendor.selectors if self.vendor else ())


async def examine(resolver: Resolver, sender: Sender) -> AsyncIterator[Finding]:
    """Yield the findings, in the order in which faults are best corrected."""
    yield await _mx(resolver, sender.domain)
    findings, spf_passes = await _spf(resolver, sender)
    for finding in findings:
        yield finding
    keys: list[dkim_keys.Key] = []
    async for finding, key in _dkim(resolver, sender):
        keys += [key] if key else []
        yield finding
    async for finding in _dmarc(resolver, sender, keys, spf_passes=spf_passes):
        yield finding
    for address in sender.egress:
        yield await _ptr(resolver, address)


async def _mx(resolver: Resolver, domain: str) -> Finding:
    todo = (
        f"publish an MX record for {domain}: bounces and replies go there, and receivers distrust domains without one"
    )
    try:
        lines = await resolver.look_up(domain, "MX")
        hosts = [line.partition(" ")[2].removesuffix(".") for line in lines]
        if hosts == [""]:
            return wrong("MX", f"{domain} declares that it accepts no mail (null MX, RFC 7505)", todo)
        if not hosts:
            if await addresses(resolver, domain):
                return unknown("MX", f"{domain} has no MX record: mail to it goes to its own address", todo)
            return wrong("MX", f"{domain} has no MX record", todo)
        dead = [host for host in hosts if not host or not await addresses(resolver, host)]
    except LookupFailed as error:
        return unknown("MX", str(error), _TRY_LATER)
    if dead:
        return wrong("MX", f"{', '.join(dead)} of {domain} has no address", "correct or remove that MX record")
    return good("MX", f"{domain} gets mail at {', '.join(sorted(hosts))}")


async def _spf(resolver: Resolver, sender: Sender) -> tuple[list[Finding], bool]:
    """Return findings, and whether SPF will pass with the From domain as envelope sender."""
    domain = sender.domain
    tree = await walk(resolver, domain)
    if findings := _record_faults(sender, tree):
        return findings, False
    words = f"the record of {domain} is valid, with {tree.look_ups} of {spf.MOST_LOOK_UPS} look-ups"
    if sender.egress:
        asked = [(address, SpfClient(address, sender.address)) for address in sender.egress]
        verdicts = [(address, await spf.check_host(resolver, domain, question)) for address, question in asked]
        passes = all(verdict.result is spf.Result.PASS for _, verdict in verdicts)
        return [_spf_finding(domain, address, verdict, words) for address, verdict in verdicts], passes
    if sender.vendor is not None:
        return _spf_of_vendor(domain, sender.vendor, tree, words)
    todo = "name the address that your relay delivers from: --egress ADDRESS"
    return [unknown("SPF", f"{words}; whether it allows your relay is not known", todo)], False


def _record_faults(sender: Sender, tree: Tree) -> list[Finding]:
    """Return faults of the record that concern all senders."""
    domain = sender.domain
    if tree.problems:
        todo = f"correct the TXT record of {domain}: until then SPF passes for nobody"
        return [wrong("SPF", problem, todo) for problem in tree.problems]
    if tree.unanswered:
        return [unknown("SPF", "; ".join(tree.unanswered), _TRY_LATER)]
    if not tree.exists:
        return [_no_spf(sender)]
    if tree.ending is not None and tree.ending.qualifier == "+":
        todo = "end it with -all or ~all"
        return [wrong("SPF", f"the record of {domain} allows everybody to send ({tree.ending.text})", todo)]
    return []


def _spf_of_vendor(domain: str, vendor: Vendor, tree: Tree, words: str) -> tuple[list[Finding], bool]:
    included = next((name for name in vendor.spf if name in tree.domains), None)
    if included is not None:
        return [good("SPF", f"{words}, and allows {vendor.name} (include:{included})")], vendor.keeps_envelope
    if vendor.keeps_envelope:
        todo = f"add include:{vendor.spf[0]} to the TXT record of {domain}"
        return [wrong("SPF", f"the record of {domain} does not allow {vendor.name}", todo)], False
    return [good("SPF", f"{words}; {vendor.name} uses its own envelope sender, whose SPF record counts")], False


def _no_spf(sender: Sender) -> Finding:
    domain, vendor = sender.domain, sender.vendor
    if vendor is not None and not vendor.keeps_envelope and not sender.egress:
        words = f"{domain} has no SPF record; {vendor.name} uses its own envelope sender, whose SPF record counts"
        return unknown(
            "SPF", words, f'good to have: a TXT record "v=spf1 -all" at {domain}, or with those who send for it'
        )
    allowed = [f"ip{address.version}:{address}" for address in sender.egress]
    allowed += [f"include:{vendor.spf[0]}"] if vendor is not None and vendor.spf else []
    record = " ".join(["v=spf1", *(allowed or ["ip4:<your relay's address>"]), "-all"])
    return wrong("SPF", f"{domain} has no SPF record", f'publish a TXT record at {domain}: "{record}"')


def _spf_finding(domain: str, address: IpAddress, verdict: spf.Verdict, words: str) -> Finding:
    match verdict.result:
        case spf.Result.PASS:
            return good("SPF", f"{words}, and allows {address} ({verdict.why})")
        case spf.Result.TEMPERROR:
            return unknown("SPF", verdict.why, _TRY_LATER)
        case _:
            todo = f"add ip{address.version}:{address} to the TXT record of {domain}, before its end"
            return wrong("SPF", f"{address} may not send for {domain}: {verdict.result} ({verdict.why})", todo)


async def _dkim(resolver: Resolver, sender: Sender) -> AsyncIterator[tuple[Finding, dkim_keys.Key | None]]:
    asked = sender.wanted
    where = f"; {sender.vendor.where} shows it" if sender.vendor and sender.vendor.where else ""
    if not asked:
        words = "which selector signs is not known"
        todo = f"name it: --selector NAME{where} (s= in the DKIM-Signature of any mail that arrived)"
        yield unknown("DKIM", words, todo), None
        return
    found = False
    for selector in asked:
        try:
            key = await _find_key(resolver, selector, sender)
        except dkim_keys.BadKey as error:
            found = True
            yield wrong("DKIM", str(error), f"publish the key again, as its owner shows it{where}"), None
        except LookupFailed as error:
            found = True
            yield unknown("DKIM", str(error), _TRY_LATER), None
        else:
            if key is not None:
                found = True
                yield good("DKIM", f"a key at {selector}._domainkey.{key.domain} ({key.words})", key.advice), key
            elif sender.selectors:
                found = True
                name = f"{selector}._domainkey.{sender.signs_for or sender.domain}"
                yield wrong("DKIM", f"there is no key at {name}", f"publish it as a TXT record there{where}"), None
    if not found:
        names_ = " nor ".join(f"{selector}._domainkey.{sender.domain}" for selector in asked)
        todo = f"publish the key{where}; if the selector is another one, name it: --selector NAME"
        make_finding = unknown if sender.vendor is not None and sender.vendor.others else wrong
        yield make_finding("DKIM", f"there is no key at {names_}", todo), None


async def _find_key(resolver: Resolver, selector: str, sender: Sender) -> dkim_keys.Key | None:
    """Look up the key at the signing domain; if that is not known, at the From domain and its parents."""
    if sender.signs_for is not None:
        return await dkim_keys.key_at(resolver, selector, sender.signs_for)
    for domain in dmarc.parents(sender.domain)[:-1] or [sender.domain]:
        key = await dkim_keys.key_at(resolver, selector, domain)
        if key is not None:
            return key
    return None


async def _dmarc(
    resolver: Resolver, sender: Sender, keys: Sequence[dkim_keys.Key], *, spf_passes: bool
) -> AsyncIterator[Finding]:
    domain = sender.domain
    try:
        policy = await dmarc.policy_of(resolver, domain)
        if policy is None:
            todo = f'publish a TXT record at _dmarc.{domain}: "v=DMARC1; p=none; rua=mailto:dmarc@{domain}"'
            yield wrong("DMARC", f"{domain} has no policy; Google, Yahoo and Microsoft require one", todo)
            return
        yield _policy_finding(policy)
        aligned = [
            f"DKIM of {key.domain}"
            for key in keys
            if await dmarc.is_aligned(resolver, policy, domain, key.domain, "dkim")
        ]
    except dmarc.BadPolicy as error:
        yield wrong("DMARC", str(error), f"correct the TXT record at _dmarc.{domain}")
        return
    except LookupFailed as error:
        yield unknown("DMARC", str(error), _TRY_LATER)
        return
    aligned += [f"SPF of {domain}"] if spf_passes else []
    strict = [key.domain for key in keys] if "dkim" in policy.strict else []
    if aligned:
        todo = "" if keys else "SPF is lost when mail is forwarded: sign with DKIM too"
        yield good("alignment", f"{domain} is authenticated by {' and '.join(dict.fromkeys(aligned))}", todo)
    elif strict:
        todo = f"sign with d={domain}, or remove adkim=s from the DMARC record"
        yield wrong("alignment", f"keys are at {', '.join(strict)}, and adkim=s requires {domain} itself", todo)
    elif not (sender.wanted and (sender.egress or (sender.vendor and sender.vendor.keeps_envelope))):
        yield unknown("alignment", f"no aligned SPF or DKIM is known for {domain}", "see SPF and DKIM above")
    else:
        yield wrong(
            "alignment", f"no aligned SPF or DKIM for {domain}: DMARC fails", "correct SPF or, better, DKIM above"
        )


def _policy_finding(policy: dmarc.Policy) -> Finding:
    words = f"the policy at _dmarc.{policy.at} is {policy.action}"
    if policy.is_test:
        words += ", as a test (t=y)"
    todo = "" if policy.reports else "add rua=mailto:… to get reports of who sends in your name"
    if policy.action == "none":
        todo = todo or "it only monitors; use quarantine or reject once the reports are clean"
    return good("DMARC", words, todo)


async def _ptr(resolver: Resolver, address: IpAddress) -> Finding:
    todo = f"whoever owns {address} (your host) sets its reverse name, to a name that points back to it"
    try:
        found = await names(resolver, address)
        if not found:
            return wrong("PTR", f"{address} has no PTR record", todo)
        for name in found:
            if address in await addresses(resolver, name):
                return good("PTR", f"{address} is {name}, and back")
    except LookupFailed as error:
        return unknown("PTR", str(error), _TRY_LATER)
    return wrong("PTR", f"{address} has the name {', '.join(found)}, which does not point back to it", todo)
