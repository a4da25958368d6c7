"""Evaluates SPF for an address and a domain as a receiver does (RFC 7208 §4)."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from ipaddress import ip_network
from typing import Final

from mailroom.doctor.dnsauth.resolver import IpAddress, LookupFailed, Resolver, addresses, is_within, names, unmapped
from mailroom.doctor.dnsauth.spf_record import ASKS, BadRecord, Record, SpfClient, Term, expand, parse, records_among

MOST_LOOK_UPS: Final = 10
MOST_EMPTY: Final = 2
MOST_NAMES: Final = 10
"""The limit of names of one mx or ptr (§4.6.4)."""


class Result(StrEnum):
    """The result of an evaluation (§2.6)."""

    NONE = "none"
    NEUTRAL = "neutral"
    PASS = "pass"  # noqa: S105 - the RFC's word
    FAIL = "fail"
    SOFTFAIL = "softfail"
    TEMPERROR = "temperror"
    PERMERROR = "permerror"


BY_QUALIFIER: Final = {"+": Result.PASS, "-": Result.FAIL, "~": Result.SOFTFAIL, "?": Result.NEUTRAL}


@dataclass(frozen=True, slots=True)
class Verdict:
    """A result, and why."""

    result: Result
    why: str
    """The matching term with its domain, or the error."""


@dataclass(slots=True)
class _Budget:
    look_ups: int = 0
    empty: int = 0
    open: list[str] = field(default_factory=list)
    """The domains whose records are being read, outermost first."""


class _PermError(Exception):
    """A permerror that is not a record's syntax."""


async def check_host(resolver: Resolver, domain: str, question: SpfClient) -> Verdict:
    """Evaluate SPF for a mail from this address for this domain."""
    question = replace(question, address=unmapped(question.address))
    try:
        return await _Check(resolver, question).host(domain)
    except (_PermError, BadRecord) as error:
        return Verdict(Result.PERMERROR, str(error))
    except LookupFailed as error:
        return Verdict(Result.TEMPERROR, str(error))


async def record_of(resolver: Resolver, domain: str) -> Record | None:
    """Return a domain's record, None if there is none. Raises BadRecord (also for several), NoAnswer."""
    answers = records_among(await resolver.look_up(domain, "TXT"))
    if len(answers) > 1:
        raise BadRecord(f"{domain} has {len(answers)} SPF records, and one is allowed; join them into one")
    try:
        return parse(answers[0]) if answers else None
    except BadRecord as error:
        raise BadRecord(f"{domain}: {error}") from None


class _Check:
    def __init__(self, resolver: Resolver, question: SpfClient) -> None:
        self._resolver = resolver
        self._question = question
        self._budget = _Budget()

    async def host(self, domain: str) -> Verdict:
        if domain.lower() in self._budget.open:
            raise _PermError(f"{' → '.join([*self._budget.open, domain])}: the record includes itself")
        record = await record_of(self._resolver, domain)
        if record is None:
            return Verdict(Result.NONE, f"{domain} has no SPF record")
        self._budget.open.append(domain.lower())
        for term in record.mechanisms:
            if await self._matches(term, domain):
                self._budget.open.pop()
                return Verdict(BY_QUALIFIER[term.qualifier], f"{term.text} of {domain}")
        if record.redirect is None:
            self._budget.open.pop()
            return Verdict(Result.NEUTRAL, f"nothing in the record of {domain} matches")
        target = self._count_look_up(record.redirect, domain)
        verdict = await self.host(target)
        self._budget.open.pop()
        if verdict.result is Result.NONE:
            raise _PermError(f"{record.redirect.text} of {domain}: {verdict.why}")
        return verdict

    def _count_look_up(self, term: Term, domain: str) -> str:
        """Count a look-up and return the term's expanded domain."""
        if term.name in ASKS:
            self._budget.look_ups += 1
            if self._budget.look_ups > MOST_LOOK_UPS:
                raise _PermError(f"more than {MOST_LOOK_UPS} look-ups are needed, at {term.text} of {domain}")
        return expand(term.domain, domain, self._question) if term.domain else domain

    async def _matches(self, term: Term, domain: str) -> bool:
        name = self._count_look_up(term, domain)
        address = self._question.address
        match term.name:
            case "all":
                matches = True
            case "ip4" | "ip6":
                matches = term.network is not None and address in term.network
            case "include":
                matches = await self._match_include(term, domain, name)
            case "exists":
                matches = bool(self._count_empty(await self._resolver.look_up(name, "A")))
            case "ptr":
                matches = await self._match_ptr(name)
            case "mx":
                matches = await self._match_mx(name, term)
            case _:
                matches = self._contains(await self._addresses(name), term)
        return matches

    async def _match_include(self, term: Term, domain: str, name: str) -> bool:
        verdict = await self.host(name)
        if verdict.result is Result.NONE:
            raise _PermError(f"{term.text} of {domain}: {verdict.why}")
        return verdict.result is Result.PASS

    async def _match_mx(self, name: str, term: Term) -> bool:
        exchangers = self._count_empty(await self._resolver.look_up(name, "MX"))
        if len(exchangers) > MOST_NAMES:
            raise _PermError(f"{term.text}: {name} has more than {MOST_NAMES} MX records")
        for line in exchangers:
            if self._contains(await self._addresses(line.partition(" ")[2], count=False), term):
                return True
        return False

    async def _match_ptr(self, domain: str) -> bool:
        address = self._question.address
        try:
            answers = self._count_empty(await names(self._resolver, address))[:MOST_NAMES]
        except LookupFailed:
            return False  # §5.5
        for name in answers:
            try:
                confirmed = address in await self._addresses(name, count=False)
            except LookupFailed:
                continue
            if confirmed and is_within(name, domain):
                return True
        return False

    async def _addresses(self, name: str, *, count: bool = True) -> tuple[IpAddress, ...]:
        answers = await addresses(self._resolver, name, 4 if self._question.address.version == 4 else 6)  # noqa: PLR2004 - IPv4
        if count:
            self._count_empty([str(address) for address in answers])
        return answers

    def _contains(self, answers: tuple[IpAddress, ...], term: Term) -> bool:
        address = self._question.address
        prefix = term.prefixes[0 if address.version == 4 else 1]  # noqa: PLR2004 - IPv4
        return any(address in ip_network((other, prefix), strict=False) for other in answers)

    def _count_empty(self, answers: Sequence[str]) -> Sequence[str]:
        if not answers:
            self._budget.empty += 1
            if self._budget.empty > MOST_EMPTY:
                raise _PermError(f"more than {MOST_EMPTY} look-ups find nothing (§4.6.4)")
        return answers
