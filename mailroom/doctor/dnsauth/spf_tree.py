"""Walks an SPF record with all its includes, as if no term matched: counts the look-ups of the worst case."""

from dataclasses import dataclass, field
from typing import Final

from mailroom.doctor.dnsauth.resolver import Kind, LookupFailed, Resolver
from mailroom.doctor.dnsauth.spf import MOST_EMPTY, MOST_LOOK_UPS, record_of
from mailroom.doctor.dnsauth.spf_record import ASKS, BadRecord, Term, has_macros

_KINDS: Final[dict[str, tuple[Kind, ...]]] = {"a": ("A", "AAAA"), "mx": ("MX",), "exists": ("A",)}
_GIVE_UP: Final = 60
"""Look-ups; a record that needs more is wrong whatever else it says."""


@dataclass(slots=True)
class Tree:
    """A record with all records that it includes."""

    exists: bool = False
    look_ups: int = 0
    empty: int = 0
    domains: set[str] = field(default_factory=set)
    """Every domain whose record is included."""
    problems: list[str] = field(default_factory=list)
    """Each of these makes receivers return `permerror`, so SPF never passes."""
    unanswered: list[str] = field(default_factory=list)
    ending: Term | None = None
    """The `all` at the end of it."""

    def check_limits(self) -> "Tree":
        """Add problems with the total numbers."""
        if self.look_ups > MOST_LOOK_UPS:
            more = "or more " if self.look_ups >= _GIVE_UP else ""
            self.problems.append(
                f"it needs {self.look_ups} {more}look-ups, and {MOST_LOOK_UPS} are allowed (RFC 7208 §4.6.4)"
            )
        if self.empty > MOST_EMPTY:
            self.problems.append(f"{self.empty} of its look-ups find nothing, and {MOST_EMPTY} may")
        return self


async def walk(resolver: Resolver, domain: str) -> Tree:
    """Walk a domain's record; `exists` is False if there is none."""
    tree = Tree()
    try:
        tree.exists = await _visit(resolver, domain.lower(), tree, ())
    except LookupFailed as error:
        tree.unanswered.append(str(error))
    return tree.check_limits()


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
        if term.name not in ASKS:
            continue
        tree.look_ups += 1
        if tree.look_ups >= _GIVE_UP:
            return True
        if has_macros(term.domain) or term.name == "ptr":
            continue  # depends on the mail; it counts as a look-up nevertheless
        await _follow(resolver, domain, term, tree, (*ancestors, domain))
    tree.ending = record.everything or (tree.ending if redirects else None)
    return True


async def _follow(resolver: Resolver, domain: str, term: Term, tree: Tree, ancestors: tuple[str, ...]) -> None:
    name = (term.domain or domain).lower().removesuffix(".")
    try:
        if term.name in ("include", "redirect"):
            found = await _visit(resolver, name, tree, ancestors)
            if term.name == "include":
                tree.domains.add(name)
            if not found:
                tree.problems.append(f"{term.text} of {domain}: {name} has no SPF record")
        elif not any([await resolver.look_up(name, kind) for kind in _KINDS[term.name]]):
            tree.empty += 1
    except LookupFailed as error:
        tree.unanswered.append(str(error))
