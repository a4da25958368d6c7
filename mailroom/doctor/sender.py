"""Checks MX, SPF, DKIM and DMARC of the sender's domain as receivers do, and PTR of the delivering addresses."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from mailroom.doctor.check_results import CheckResult, good, unknown, wrong
from mailroom.doctor.dnsauth import dkim_keys, dmarc, spf
from mailroom.doctor.dnsauth.resolver import IpAddress, LookupFailed, Resolver, addresses, names
from mailroom.doctor.dnsauth.spf_record import SpfClient
from mailroom.doctor.dnsauth.spf_tree import Tree, walk
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
    signing_domain: str | None = None
    """The `d=` of signatures that we make ourselves."""

    @property
    def domain(self) -> str:
        """The From domain."""
        return self.address.rpartition("@")[2].lower()

    @property
    def expected_selectors(self) -> tuple[str, ...]:
        """The selectors to look for; () if they are not known."""
        return self.selectors or (self.vendor.selectors if self.vendor else ())


async def check_dns(resolver: Resolver, sender: Sender) -> list[CheckResult]:
    """Return the results, in the order in which faults are best corrected."""
    mx = await _mx(resolver, sender.domain)
    spf_results, spf_passes = await _spf(resolver, sender)
    dkim_results, keys = await _dkim(resolver, sender)
    dmarc_results = await _dmarc(resolver, sender, keys, spf_passes=spf_passes)
    ptr_results = [await _ptr(resolver, address) for address in sender.egress]
    return [mx, *spf_results, *dkim_results, *dmarc_results, *ptr_results]


async def _mx(resolver: Resolver, domain: str) -> CheckResult:
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


async def _spf(resolver: Resolver, sender: Sender) -> tuple[list[CheckResult], bool]:
    """Return the results, and whether SPF will pass with the From domain as envelope sender."""
    domain, vendor = sender.domain, sender.vendor
    tree = await walk(resolver, domain)
    if faults := _record_faults(sender, tree):
        return faults, False
    text = f"the record of {domain} is valid, with {tree.look_ups} of {spf.MOST_LOOK_UPS} look-ups"
    if sender.egress:
        clients = [SpfClient(address, sender.address) for address in sender.egress]
        evaluations = [(client.address, await spf.check_host(resolver, domain, client)) for client in clients]
        results = [_spf_of_address(domain, address, evaluation, text) for address, evaluation in evaluations]
        return results, all(evaluation.result is spf.Result.PASS for _, evaluation in evaluations)
    if vendor is None:
        todo = "name the address that your relay delivers from: --egress ADDRESS"
        return [unknown("SPF", f"{text}; whether it allows your relay is not known", todo)], False
    included = next((name for name in vendor.spf if name in tree.domains), None)
    if included is not None:
        return [good("SPF", f"{text}, and allows {vendor.name} (include:{included})")], vendor.has_our_envelope
    if vendor.has_our_envelope:
        todo = f"add include:{vendor.spf[0]} to the TXT record of {domain}"
        return [wrong("SPF", f"the record of {domain} does not allow {vendor.name}", todo)], False
    return [good("SPF", f"{text}; {vendor.name} uses its own envelope sender, whose SPF record counts")], False


def _record_faults(sender: Sender, tree: Tree) -> list[CheckResult]:
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


def _no_spf(sender: Sender) -> CheckResult:
    domain, vendor = sender.domain, sender.vendor
    if vendor is not None and not vendor.has_our_envelope and not sender.egress:
        text = f"{domain} has no SPF record; {vendor.name} uses its own envelope sender, whose SPF record counts"
        todo = f'good to have: a TXT record "v=spf1 -all" at {domain}, or with those who send for it'
        return unknown("SPF", text, todo)
    allowed = [f"ip{address.version}:{address}" for address in sender.egress]
    allowed += [f"include:{vendor.spf[0]}"] if vendor is not None and vendor.spf else []
    record = " ".join(["v=spf1", *(allowed or ["ip4:<your relay's address>"]), "-all"])
    return wrong("SPF", f"{domain} has no SPF record", f'publish a TXT record at {domain}: "{record}"')


def _spf_of_address(domain: str, address: IpAddress, evaluation: spf.Evaluation, text: str) -> CheckResult:
    if evaluation.result is spf.Result.PASS:
        return good("SPF", f"{text}, and allows {address} ({evaluation.reason})")
    if evaluation.result is spf.Result.TEMPERROR:
        return unknown("SPF", evaluation.reason, _TRY_LATER)
    todo = f"add ip{address.version}:{address} to the TXT record of {domain}, before its end"
    problem = f"{address} may not send for {domain}: {evaluation.result} ({evaluation.reason})"
    return wrong("SPF", problem, todo)


async def _dkim(resolver: Resolver, sender: Sender) -> tuple[list[CheckResult], list[dkim_keys.Key]]:
    """Return the results, and the valid keys."""
    selectors, vendor = sender.expected_selectors, sender.vendor
    where = f"; {vendor.where} shows it" if vendor and vendor.where else ""
    if not selectors:
        todo = f"name it: --selector NAME{where} (s= in the DKIM-Signature of any mail that arrived)"
        return [unknown("DKIM", "which selector signs is not known", todo)], []
    results: list[CheckResult] = []
    keys: list[dkim_keys.Key] = []
    for selector in selectors:
        try:
            key = await _find_key(resolver, selector, sender)
        except dkim_keys.BadKey as error:
            results.append(wrong("DKIM", str(error), f"publish the key again, as its owner shows it{where}"))
        except LookupFailed as error:
            results.append(unknown("DKIM", str(error), _TRY_LATER))
        else:
            if key is not None:
                keys.append(key)
                text = f"a key at {selector}._domainkey.{key.domain} ({key.description})"
                results.append(good("DKIM", text, key.advice))
            elif sender.selectors:
                name = f"{selector}._domainkey.{sender.signing_domain or sender.domain}"
                results.append(wrong("DKIM", f"there is no key at {name}", f"publish it as a TXT record there{where}"))
    if not results:
        places = " nor ".join(f"{selector}._domainkey.{sender.domain}" for selector in selectors)
        todo = f"publish the key{where}; if the selector is another one, name it: --selector NAME"
        result = unknown if vendor is not None and vendor.may_generate_selectors else wrong
        results.append(result("DKIM", f"there is no key at {places}", todo))
    return results, keys


async def _find_key(resolver: Resolver, selector: str, sender: Sender) -> dkim_keys.Key | None:
    """Look up the key at the signing domain; if that is not known, at the From domain and its parents."""
    if sender.signing_domain is not None:
        return await dkim_keys.key_at(resolver, selector, sender.signing_domain)
    for domain in dmarc.parents(sender.domain)[:-1] or [sender.domain]:
        key = await dkim_keys.key_at(resolver, selector, domain)
        if key is not None:
            return key
    return None


async def _dmarc(
    resolver: Resolver, sender: Sender, keys: Sequence[dkim_keys.Key], *, spf_passes: bool
) -> list[CheckResult]:
    domain = sender.domain
    try:
        policy = await dmarc.policy_of(resolver, domain)
        if policy is None:
            todo = f'publish a TXT record at _dmarc.{domain}: "v=DMARC1; p=none; rua=mailto:dmarc@{domain}"'
            return [wrong("DMARC", f"{domain} has no policy; Google, Yahoo and Microsoft require one", todo)]
        results = [_check_policy(policy)]
        aligned = [
            f"DKIM of {key.domain}"
            for key in keys
            if await dmarc.is_aligned(resolver, policy, domain, key.domain, "dkim")
        ]
    except dmarc.BadPolicy as error:
        return [wrong("DMARC", str(error), f"correct the TXT record at _dmarc.{domain}")]
    except LookupFailed as error:
        return [unknown("DMARC", str(error), _TRY_LATER)]
    aligned += [f"SPF of {domain}"] if spf_passes else []
    if aligned:
        todo = "" if keys else "SPF is lost when mail is forwarded: sign with DKIM too"
        text = f"{domain} is authenticated by {' and '.join(dict.fromkeys(aligned))}"
        results.append(good("alignment", text, todo))
    elif keys and "dkim" in policy.strict:
        places = ", ".join(key.domain for key in keys)
        todo = f"sign with d={domain}, or remove adkim=s from the DMARC record"
        results.append(wrong("alignment", f"keys are at {places}, and adkim=s requires {domain} itself", todo))
    elif sender.expected_selectors and (sender.egress or (sender.vendor and sender.vendor.has_our_envelope)):
        text = f"no aligned SPF or DKIM for {domain}: DMARC fails"
        results.append(wrong("alignment", text, "correct SPF or, better, DKIM above"))
    else:
        text = f"no aligned SPF or DKIM is known for {domain}"
        results.append(unknown("alignment", text, "see SPF and DKIM above"))
    return results


def _check_policy(policy: dmarc.Policy) -> CheckResult:
    text = f"the policy at _dmarc.{policy.at} is {policy.action}" + (", as a test (t=y)" if policy.is_test else "")
    if not policy.reports:
        return good("DMARC", text, "add rua=mailto:… to get reports of who sends in your name")
    monitors = "it only monitors; use quarantine or reject once the reports are clean"
    return good("DMARC", text, monitors if policy.action == "none" else "")


async def _ptr(resolver: Resolver, address: IpAddress) -> CheckResult:
    todo = f"whoever owns {address} (your host) sets its reverse name, to a name that points back to it"
    try:
        hosts = await names(resolver, address)
        if not hosts:
            return wrong("PTR", f"{address} has no PTR record", todo)
        for name in hosts:
            if address in await addresses(resolver, name):
                return good("PTR", f"{address} is {name}, and back")
    except LookupFailed as error:
        return unknown("PTR", str(error), _TRY_LATER)
    return wrong("PTR", f"{address} has the name {', '.join(hosts)}, which does not point back to it", todo)
