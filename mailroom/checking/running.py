"""Goes through every kind, language and sample, and gathers what the checks say."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from typing import Final

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
from mailroom.checking.samples import Sample, message
from mailroom.checking.sources import Sources
from mailroom.checking.variables import are_known, are_replaced, are_the_same
from mailroom.checking.wire import headers_fit, parses_back
from mailroom.rendering.writer import Ingredients

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

    Takes about 5 ms a mail, of which there are four for each kind and language; `progress` is called after each.
    """
    found: list[Finding] = []
    examiner = Examiner(Sources(desk.writer.sources, desk.writer.folders))
    for kind, tags in desk.writer.kinds.items():
        if kinds and kind not in kinds:
            continue
        said: dict[str, Ingredients] = {}
        for language in tags:
            said[language] = desk.writer.ingredients(message(kind, Sample.FULL, language))
            if languages and language not in languages:
                continue
            found += examiner.variables(kind, language, said[language])
            for sample in Sample:
                made = desk.mail(kind, language, sample)
                found += [made] if isinstance(made, Finding) else examiner.findings(made)
                progress()
        found += [
            finding
            for finding in are_the_same(examiner.sources, kind, said, default_language)
            if not languages or set(finding.languages) & set(languages)
        ]
    return merged(found)


def count(desk: Desk) -> int:
    """Return how many mails there are to check."""
    return len(Sample) * sum(len(tags) for tags in desk.writer.kinds.values())


class Examiner:
    """Examines mails that are made of the same templates; remembers what it saw."""

    def __init__(self, sources: Sources) -> None:
        self.sources = sources
        self._mails: dict[tuple[str, str, bytes, bool], list[Finding]] = {}
        self._structures: dict[str, list[Complaint]] = {}
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
            file, line = self.sources.file(mail.ingredients.templates[0]), None
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
