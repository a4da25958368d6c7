"""Goes through every kind, language and sample, and gathers what the checks say."""

from collections.abc import Callable, Collection, Hashable, Iterator, Mapping
from dataclasses import replace
from itertools import product
from typing import Final, TypeAlias

from mailroom.checking import Finding, merged
from mailroom.checking.contrast import text_stands_out
from mailroom.checking.css import is_obeyed
from mailroom.checking.document import (
    is_not_clipped,
    nothing_acts,
    parses_cleanly,
    says_what_it_is,
    styles_are_small,
    tables_are_layout,
)
from mailroom.checking.hostile import values_stay_inert
from mailroom.checking.links import lead_where_they_say
from mailroom.checking.mail import Check, Complaint, Mail
from mailroom.checking.making import Desk, has_what_it_is_for
from mailroom.checking.page import skeleton
from mailroom.checking.pictures import are_of_a_kind_that_is_shown, have_alt_and_address
from mailroom.checking.reading import code_is_one_run, preheader_is_there, subject_fits, text_says_the_same
from mailroom.checking.samples import Sample
from mailroom.checking.sources import Sources
from mailroom.checking.touched import touched
from mailroom.checking.variables import are_known, are_replaced, are_the_same
from mailroom.checking.wire import headers_fit, parses_back
from mailroom.rendering.engine import ENDING
from mailroom.rendering.inventory import Ingredients, Owner

_OF_HOSTILE: Final[tuple[Check, ...]] = (values_stay_inert, parses_back)
"""What a hostile payload is for; how such a mail looks is nobody's concern."""
_OF_WORDS: Final[tuple[Check, ...]] = (
    has_what_it_is_for,
    are_replaced,
    subject_fits,
    text_says_the_same,
    says_what_it_is,
    is_not_clipped,
    lead_where_they_say,
    preheader_is_there,
    code_is_one_run,
    parses_back,
    headers_fit,
)
_OF_STRUCTURE: Final[tuple[Check, ...]] = (
    tables_are_layout,
    have_alt_and_address,
    are_of_a_kind_that_is_shown,
    nothing_acts,
    is_obeyed,
    styles_are_small,
    text_stands_out,
    parses_cleanly,
)
"""These see tags, attributes and styles only: they say the same of mails that differ in their words."""


def check(
    desk: Desk,
    *,
    kinds: Collection[str] = (),
    languages: Collection[str] = (),
    default_language: str = "en",
    progress: Callable[[], None] = lambda: None,
) -> list[Finding]:
    """Return what is wrong with the mails of these kinds and languages (of all, where none are named).

    First with everybody's, then with those that single applications' and organizations' templates make otherwise.
    Takes about 5 ms a mail, of which there are four for each kind and language; `progress` is called after each.
    """
    found: list[Finding] = []
    structures: Structures = {}
    for at, mails in _rounds(desk):
        wanted = {
            kind: tuple(tag for tag in tags if not languages or tag in languages)
            for kind, tags in mails.items()
            if not kinds or kind in kinds
        }
        examiner = Examiner(Sources(at.inventory), structures)
        said = list(_said_of(at, wanted, examiner, default_language, progress))
        if owner := at.owner:
            known = {one for finding in found if not finding.owners for one in _signs(finding)}
            said = [_of(owner, finding, at, examiner.sources) for finding in said if known.isdisjoint(_signs(finding))]
        found += said
    return merged(found)


def count(desk: Desk) -> int:
    """Return how many mails there are to check."""
    tags = (tags for _, mails in _rounds(desk) for tags in mails.values())
    return len(Sample) * sum(map(len, tags))


def _rounds(desk: Desk) -> Iterator[tuple[Desk, Mapping[str, tuple[str, ...]]]]:
    """Yield who is asked to write, and which mails: kind -> languages."""
    everybodys = desk.inventory
    yield desk, everybodys.kinds
    for owner in desk.writer.owners:
        own = replace(desk, owner=owner)
        yield own, touched(own.inventory, everybodys)


def _said_of(
    desk: Desk,
    wanted: Mapping[str, tuple[str, ...]],
    examiner: "Examiner",
    default_language: str,
    progress: Callable[[], None],
) -> Iterator[Finding]:
    known = desk.inventory.kinds
    for kind, tags in wanted.items():
        said = {tag: desk.ingredients(kind, tag) for tag in known[kind]}
        for language in tags:
            yield from examiner.variables(kind, language, said[language])
            for sample in Sample:
                made = desk.mail(kind, language, sample)
                yield from [made] if isinstance(made, Finding) else examiner.findings(made)
                progress()
        for finding in are_the_same(examiner.sources, kind, said, default_language):
            if set(finding.languages) & set(tags):
                yield finding


def _of(owner: Owner, finding: Finding, desk: Desk, sources: Sources) -> Finding:
    """Return what an owner's mails alone show, with the owner's file where it shows in one that everybody has."""
    label = desk.inventory.folders[0][0]
    if finding.samples and finding.file.endswith(ENDING) and not finding.file.startswith(label):
        upper = sources.uppermost(desk.ingredients(finding.kinds[0], finding.languages[0]).templates)
        if upper.startswith(label):
            finding = replace(finding, file=upper, line=None)
    return replace(finding, owners=(owner.folder,))


def _signs(finding: Finding) -> Iterator[Hashable]:
    """Yield by what one finding is known from another: where it is, or else which mail says so."""
    yield finding.core
    if finding.line is None:
        for kind, language in product(finding.kinds, finding.languages):
            yield finding.check, finding.problem, kind, language


Structures: TypeAlias = dict[str, list[Complaint]]
"""The skeleton of a mail's HTML -> what the checks of structure say of it."""


class Examiner:
    """Examines mails that are made of the same templates; remembers what it saw."""

    def __init__(self, sources: Sources, structures: Structures | None = None) -> None:
        """Take where to look for lines, and what is known of structures: that holds for all templates."""
        self.sources = sources
        self._mails: dict[tuple[str, str, bytes, bool], list[Finding]] = {}
        self._structures: Structures = {} if structures is None else structures
        self._known: dict[tuple[str, tuple[str, ...], frozenset[str]], list[Finding]] = {}

    def findings(self, mail: Mail) -> list[Finding]:
        """Return what the checks say of one mail; two samples often make the same one."""
        key = mail.kind, mail.language, mail.email.raw, mail.sample is Sample.HOSTILE
        if key not in self._mails:
            self._mails = {other: found for other, found in self._mails.items() if other[:2] == key[:2]}
            self._mails[key] = list(self._findings(mail))
        return [replace(finding, samples=(mail.sample.value,)) for finding in self._mails[key]]

    def _findings(self, mail: Mail) -> Iterator[Finding]:
        if mail.sample is Sample.HOSTILE:
            checks = _OF_HOSTILE
        else:
            checks = _OF_WORDS
            for said in self._of_structure(mail):
                yield self._placed(said, mail)
        for one in checks:
            for said in one(mail):
                yield self._placed(said, mail)

    def variables(self, kind: str, language: str, ingredients: Ingredients) -> Iterator[Finding]:
        """Yield the variables in a kind's templates that nothing fills in."""
        key = kind, ingredients.templates, frozenset(ingredients.words)
        if key not in self._known:
            self._known[key] = list(are_known(self.sources, kind, language, ingredients))
        for finding in self._known[key]:
            yield replace(finding, languages=(language,))

    def _of_structure(self, mail: Mail) -> list[Complaint]:
        key = skeleton(mail.email.html)
        if key not in self._structures:
            self._structures[key] = [said for one in _OF_STRUCTURE for said in one(mail)]
        return self._structures[key]

    def _placed(self, said: Complaint, mail: Mail) -> Finding:
        if said.word:
            file, line = self.sources.word(mail.language, mail.kind, said.word)
        elif said.html:
            file, line = self.sources.place(mail.ingredients, mail.email.html, said.html)
        else:
            file, line = self.sources.uppermost(mail.ingredients.templates), None
        return Finding(
            said.check,
            said.problem,
            said.remedy,
            (mail.kind,),
            (mail.language,),
            (mail.sample.value,),
            file,
            line,
            said.is_warning,
        )
