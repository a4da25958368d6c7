"""Decides as a receiver does whether an address may send for a domain (SPF, RFC 7208 §4)."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from ipaddress import ip_network
from typing import Final

from mailroom.doctor.dns import IpAddress, NoAnswer, Resolver, addresses, below, names, unmapped
from mailroom.doctor.spf_record import ASKS, BadRecord, Question, Record, Term, expand, parse, records_among

MOST_LOOK_UPS: Final = 10
MOST_EMPTY: Final = 2
MOST_NAMES: Final = 10
"""Of one mx or ptr."""


class Result(StrEnum):
    """What comes of it (§2.6)."""

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
    """The term that decided, with its domain; or what is wrong."""


@dataclass(slots=True)
class _Budget:
    look_ups: int = 0
    empty: int = 0
    open: list[str] = field(default_factory=list)
    """The domains whose records are being read, outermost first."""


class _Error(Exception):
    """A permerror that is not a record's syntax."""


async def check_host(resolver: Resolver, domain: str, question: Question) -> Verdict:
    """Return what a receiver makes of a mail from this address for this domain."""
    question = replace(question, address=unmapped(question.address))
    try:
        return await _Check(resolver, question).host(domain)
    except (_Error, BadRecord) as error:
        return Verdict(Result.PERMERROR, str(error))
    except NoAnswer as error:
        return Verdict(Result.TEMPERROR, str(error))


async def record_of(resolver: Resolver, domain: str) -> Record | None:
    """Return a domain's record, None if there is none. Raises BadRecord (also for several), NoAnswer."""
    found = records_among(await resolver.look_up(domain, "TXT"))
    if len(found) > 1:
        raise BadRecord(f"{domain} has {len(found)} SPF records, and one is allowed; join them into one")
    try:
        return parse(found[0]) if found else None
    except BadRecord as error:
        raise BadRecord(f"{domain}: {error}") from None


class _Check:
    def __init__(self, resolver: Resolver, question: Question) -> None:
        self._resolver = resolver
        self._question = question
        self._budget = _Budget()

    async def host(self, domain: str) -> Verdict:
        if domain.lower() in self._budget.open:
            raise _Error(f"{' → '.join([*self._budget.open, domain])}: the record includes itself")
        record = await record_of(self._resolver, domain)
        if record is None:
            return Verdict(Result.NONE, f"{domain} has no SPF record")
        self._budget.open.append(domain.lower())
        for term in record.mechanisms:
            if await self._fits(term, domain):
                self._budget.open.pop()
                return Verdict(BY_QUALIFIER[term.qualifier], f"{term.text} of {domain}")
        if record.redirect is None:
            self._budget.open.pop()
            return Verdict(Result.NEUTRAL, f"nothing in the record of {domain} fits")
        target = self._spend(record.redirect, domain)
        verdict = await self.host(target)
        self._budget.open.pop()
        if verdict.result is Result.NONE:
            raise _Error(f"{record.redirect.text} of {domain}: {verdict.why}")
        return verdict

    def _spend(self, term: Term, domain: str) -> str:
        """Count a look-up and return the name that the term is about."""
        if term.name in ASKS:
            self._budget.look_ups += 1
            if self._budget.look_ups > MOST_LOOK_UPS:
                raise _Error(f"more than {MOST_LOOK_UPS} look-ups are needed, at {term.text} of {domain}")
        return expand(term.domain, domain, self._question) if term.domain else domain

    async def _fits(self, term: Term, domain: str) -> bool:
        name = self._spend(term, domain)
        address = self._question.address
        match term.name:
            case "all":
                fits = True
            case "ip4" | "ip6":
                fits = term.network is not None and address in term.network
            case "include":
                fits = await self._included(term, domain, name)
            case "exists":
                fits = bool(self._counted(await self._resolver.look_up(name, "A")))
            case "ptr":
                fits = await self._named(name)
            case "mx":
                fits = await self._receives(name, term)
            case _:
                fits = self._among(await self._addresses(name), term)
        return fits

    async def _included(self, term: Term, domain: str, name: str) -> bool:
        verdict = await self.host(name)
        if verdict.result is Result.NONE:
            raise _Error(f"{term.text} of {domain}: {verdict.why}")
        return verdict.result is Result.PASS

    async def _receives(self, name: str, term: Term) -> bool:
        exchangers = self._counted(await self._resolver.look_up(name, "MX"))
        if len(exchangers) > MOST_NAMES:
            raise _Error(f"{term.text}: {name} has more than {MOST_NAMES} MX records")
        for line in exchangers:
            if self._among(await self._addresses(line.partition(" ")[2], count=False), term):
                return True
        return False

    async def _named(self, domain: str) -> bool:
        address = self._question.address
        try:
            found = self._counted(await names(self._resolver, address))[:MOST_NAMES]
        except NoAnswer:
            return False  # §5.5
        for name in found:
            try:
                confirmed = address in await self._addresses(name, count=False)
            except NoAnswer:
                continue
            if confirmed and below(name, domain):
                return True
        return False

    async def _addresses(self, name: str, *, count: bool = True) -> tuple[IpAddress, ...]:
        found = await addresses(self._resolver, name, 4 if self._question.address.version == 4 else 6)  # noqa: PLR2004 - IPv4
        if count:
            self._counted([str(address) for address in found])
        return found

    def _among(self, found: tuple[IpAddress, ...], term: Term) -> bool:
        address = self._question.address
        prefix = term.prefixes[0 if address.version == 4 else 1]  # noqa: PLR2004 - IPv4
        return any(address in ip_network((other, prefix), strict=False) for other in found)

    def _counted(self, found: Sequence[str]) -> Sequence[str]:
        if not found:
            self._budget.empty += 1
            if self._budget.empty > MOST_EMPTY:
                raise _Error(f"more than {MOST_EMPTY} look-ups find nothing (§4.6.4)")
        return found
