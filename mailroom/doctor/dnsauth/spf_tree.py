"""Reads an SPF record with everything that it includes, and counts the look-ups of the worst case: no term matches."""

from dataclasses import dataclass, field
from typing import Final

from mailroom.doctor.dnsauth.resolver import LookupFailed, RecordType, Resolver
from mailroom.doctor.dnsauth.spf import MOST_EMPTY, MOST_LOOK_UPS, record_of
from mailroom.doctor.dnsauth.spf_record import LOOK_UP_TERMS, BadRecord, Term

_RECORD_TYPES: Final[dict[str, tuple[RecordType, ...]]] = {"a": ("A", "AAAA"), "mx": ("MX",), "exists": ("A",)}
_GIVE_UP: Final = 60
"""Look-ups after which the rest of the record is not read."""


@dataclass(slots=True)
class Tree:
    """A record with all records that it includes."""

    exists: bool = False
    look_ups: int = 0
    empty: int = 0
    domains: set[str] = field(default_factory=set)
    """Every domain whose record is included."""
    problems: list[str] = field(default_factory=list)
    """Each of these is a `permerror` to receivers, so SPF never passes."""
    unanswered: list[str] = field(default_factory=list)
    ending: Term | None = None
    """The `all` that ends it."""


async def walk(resolver: Resolver, domain: str) -> Tree:
    """Walk a domain's record; `exists` is False if there is none."""
    tree = Tree()
    try:
        tree.exists = await _visit(resolver, domain.lower(), tree, ())
    except LookupFailed as error:
        tree.unanswered.append(str(error))
    if tree.look_ups > MOST_LOOK_UPS:
        count = f"{tree.look_ups} or more" if tree.look_ups >= _GIVE_UP else tree.look_ups
        tree.problems.append(f"it needs {count} look-ups, and {MOST_LOOK_UPS} are allowed (RFC 7208 §4.6.4)")
    if tree.empty > MOST_EMPTY:
        tree.problems.append(f"{tree.empty} of its look-ups find nothing, and {MOST_EMPTY} may")
    return tree


async def _visit(resolver: Resolver, domain: str, tree: Tree, ancestors: tuple[str, ...]) -> bool:
    if domain in ancestors:
        tree.problems.append(f"it includes itself: {' → '.join((*ancestors, domain))}")
        return True
    try:
        record = await record_of(resolver, domain)
    except BadRecord as error:
        tree.problems.append(str(error))
        return True
    if record is None:
        return False
    redirects = () if record.everything or record.redirect is None else (record.redirect,)
    for term in (*record.mechanisms, *redirects):
        if term.name not in LOOK_UP_TERMS:
            continue
        tree.look_ups += 1
        if tree.look_ups >= _GIVE_UP:
            return True
        if "%" in term.domain or term.name == "ptr":
            continue  # a macro, or ptr, depends on the mail; it counts as a look-up nevertheless
        await _follow(resolver, domain, term, tree, (*ancestors, domain))
    tree.ending = record.everything or (tree.ending if redirects else None)
    return True


async def _follow(resolver: Resolver, domain: str, term: Term, tree: Tree, ancestors: tuple[str, ...]) -> None:
    name = (term.domain or domain).lower().removesuffix(".")
    try:
        if term.name in ("include", "redirect"):
            exists = await _visit(resolver, name, tree, ancestors)
            if term.name == "include":
                tree.domains.add(name)
            if not exists:
                tree.problems.append(f"{term.text} of {domain}: {name} has no SPF record")
        elif not any([await resolver.look_up(name, type_) for type_ in _RECORD_TYPES[term.name]]):
            tree.empty += 1
    except LookupFailed as error:
        tree.unanswered.append(str(error))
