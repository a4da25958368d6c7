"""Evaluates SPF for an address and a domain as a receiver does (RFC 7208 §4).

client = SpfClient(ip_address("192.0.2.1"), "no-reply@acme.example")
evaluation = await check_host(resolver, "acme.example", client)  # evaluation.result is Result.PASS
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from ipaddress import ip_network
from typing import Final

from mailroom.doctor.dnsauth.resolver import IpAddress, LookupFailed, Resolver, addresses, is_within, names, unmapped
from mailroom.doctor.dnsauth.spf_record import LOOK_UP_TERMS, BadRecord, Record, SpfClient, Term, expand, is_spf, parse

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


_BY_QUALIFIER: Final = {"+": Result.PASS, "-": Result.FAIL, "~": Result.SOFTFAIL, "?": Result.NEUTRAL}


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A result with its reason."""

    result: Result
    reason: str
    """The matching term with its domain, or the error."""


class _PermError(Exception):
    """A permerror that is not a record's syntax."""


async def check_host(resolver: Resolver, domain: str, client: SpfClient) -> Evaluation:
    """Evaluate SPF for a mail from this client for this domain."""
    try:
        return await _Evaluator(resolver, replace(client, address=unmapped(client.address))).evaluate(domain)
    except (_PermError, BadRecord) as error:
        return Evaluation(Result.PERMERROR, str(error))
    except LookupFailed as error:
        return Evaluation(Result.TEMPERROR, str(error))


async def record_of(resolver: Resolver, domain: str) -> Record | None:
    """Return a domain's record, None if there is none. Raises BadRecord (also for several), LookupFailed."""
    texts = [text for text in await resolver.look_up(domain, "TXT") if is_spf(text)]
    if len(texts) > 1:
        raise BadRecord(f"{domain} has {len(texts)} SPF records, and one is allowed; join them into one")
    try:
        return parse(texts[0]) if texts else None
    except BadRecord as error:
        raise BadRecord(f"{domain}: {error}") from None


class _Evaluator:
    """One evaluation, with the counts of its limits (§4.6.4)."""

    def __init__(self, resolver: Resolver, client: SpfClient) -> None:
        self._resolver = resolver
        self._client = client
        self._look_ups = 0
        self._empty = 0
        self._open: tuple[str, ...] = ()
        """The domains whose records are being evaluated, outermost first."""

    async def evaluate(self, domain: str) -> Evaluation:
        if domain.lower() in self._open:
            raise _PermError(f"{' → '.join([*self._open, domain])}: the record includes itself")
        record = await record_of(self._resolver, domain)
        if record is None:
            return Evaluation(Result.NONE, f"{domain} has no SPF record")
        outer = self._open
        self._open = (*outer, domain.lower())
        evaluation = await self._evaluate_record(record, domain)
        self._open = outer
        return evaluation

    async def _evaluate_record(self, record: Record, domain: str) -> Evaluation:
        for term in record.mechanisms:
            if await self._matches(term, domain):
                return Evaluation(_BY_QUALIFIER[term.qualifier], f"{term.text} of {domain}")
        if record.redirect is None:
            return Evaluation(Result.NEUTRAL, f"nothing in the record of {domain} matches")
        return await self._evaluate_other(record.redirect, domain, self._count_look_up(record.redirect, domain))

    async def _evaluate_other(self, term: Term, domain: str, other: str) -> Evaluation:
        """Evaluate the record that an include or a redirect names; it must exist."""
        evaluation = await self.evaluate(other)
        if evaluation.result is Result.NONE:
            raise _PermError(f"{term.text} of {domain}: {evaluation.reason}")
        return evaluation

    def _count_look_up(self, term: Term, domain: str) -> str:
        """Count a look-up and return the term's expanded domain."""
        if term.name in LOOK_UP_TERMS:
            self._look_ups += 1
            if self._look_ups > MOST_LOOK_UPS:
                raise _PermError(f"more than {MOST_LOOK_UPS} look-ups are needed, at {term.text} of {domain}")
        return expand(term.domain, domain, self._client) if term.domain else domain

    async def _matches(self, term: Term, domain: str) -> bool:
        name = self._count_look_up(term, domain)
        address = self._client.address
        match term.name:
            case "all":
                matches = True
            case "ip4" | "ip6":
                matches = term.network is not None and address in term.network
            case "include":
                matches = (await self._evaluate_other(term, domain, name)).result is Result.PASS
            case "exists":
                matches = bool(self._count_empty(await self._resolver.look_up(name, "A")))
            case "ptr":
                matches = await self._match_ptr(name)
            case "mx":
                matches = await self._match_mx(name, term)
            case _:
                matches = self._contains(await self._addresses(name), term)
        return matches

    async def _match_mx(self, name: str, term: Term) -> bool:
        exchangers = self._count_empty(await self._resolver.look_up(name, "MX"))
        if len(exchangers) > MOST_NAMES:
            raise _PermError(f"{term.text}: {name} has more than {MOST_NAMES} MX records")
        for line in exchangers:
            if self._contains(await self._addresses(line.partition(" ")[2], count=False), term):
                return True
        return False

    async def _match_ptr(self, domain: str) -> bool:
        address = self._client.address
        try:
            answers = self._count_empty(await names(self._resolver, address))[:MOST_NAMES]
        except LookupFailed:
            return False  # §5.5
        for name in answers:
            with suppress(LookupFailed):
                if is_within(name, domain) and address in await self._addresses(name, count=False):
                    return True
        return False

    async def _addresses(self, name: str, *, count: bool = True) -> tuple[IpAddress, ...]:
        answers = await addresses(self._resolver, name, 4 if self._client.address.version == 4 else 6)  # noqa: PLR2004 - IPv4
        if count:
            self._count_empty([str(address) for address in answers])
        return answers

    def _contains(self, answers: tuple[IpAddress, ...], term: Term) -> bool:
        address = self._client.address
        prefix = term.prefixes[0 if address.version == 4 else 1]  # noqa: PLR2004 - IPv4
        return any(address in ip_network((other, prefix), strict=False) for other in answers)

    def _count_empty(self, answers: Sequence[str]) -> Sequence[str]:
        if not answers:
            self._empty += 1
            if self._empty > MOST_EMPTY:
                raise _PermError(f"more than {MOST_EMPTY} look-ups find nothing (§4.6.4)")
        return answers
