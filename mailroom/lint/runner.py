"""Applies the rules to every kind, language and sample: `check(context)` returns the findings."""

from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, product
from typing import Final, TypeAlias

from mailroom.lint import Finding, merge_findings
from mailroom.lint.changed_mails import find_changed_mails
from mailroom.lint.html import skeleton
from mailroom.lint.rule import RenderedMail, Rule, Violation
from mailroom.lint.rules.contrast import check_contrast
from mailroom.lint.rules.css import check_css_support
from mailroom.lint.rules.document import (
    check_html_errors,
    check_html_size,
    check_language_and_title,
    check_layout_tables,
    check_no_active_content,
    check_style_size,
)
from mailroom.lint.rules.images import check_image_alt_and_url, check_image_formats
from mailroom.lint.rules.inbox import check_code_unbroken, check_preheader, check_subject, check_text_part
from mailroom.lint.rules.injection import check_injection
from mailroom.lint.rules.link_targets import check_links
from mailroom.lint.rules.message_format import check_headers, check_round_trip
from mailroom.lint.rules.rendered import LintContext, check_code_and_link
from mailroom.lint.rules.variables import (
    check_empty_values,
    check_unreplaced_variables,
    compare_languages,
    find_unknown_variables,
)
from mailroom.lint.samples import Sample
from mailroom.lint.source_lines import SourceLines
from mailroom.rendering.engines.jinja_engine import ENDING
from mailroom.rendering.inventory import MailSources
from mailroom.rendering.overlay import Owner

_TEXT_RULES: Final[tuple[Rule, ...]] = (
    check_code_and_link,
    check_unreplaced_variables,
    check_empty_values,
    check_subject,
    check_text_part,
    check_code_unbroken,
    check_round_trip,
    check_headers,
)
_HTML_RULES: Final[tuple[Rule, ...]] = (check_language_and_title, check_html_size, check_links, check_preheader)
"""Further rules for mails with HTML."""
_STRUCTURE_RULES: Final[tuple[Rule, ...]] = (
    check_layout_tables,
    check_image_alt_and_url,
    check_image_formats,
    check_no_active_content,
    check_css_support,
    check_style_size,
    check_contrast,
    check_html_errors,
)
"""Rules about tags, attributes and styles only: their result does not depend on texts."""


def check(
    context: LintContext,
    *,
    kinds: Collection[str] = (),
    languages: Collection[str] = (),
    default_language: str = "en",
    progress: Callable[[], None] = lambda: None,
) -> list[Finding]:
    """Return the findings for these kinds and languages (all by default).

    Mails without an owner come first, then those that templates of single applications and organizations change.
    Takes about 5 ms per mail; each kind and language has four. `progress` is called after each mail.
    """
    findings: list[Finding] = []
    structures: Structures = {}
    for owner_context, mails in _mails_by_owner(context):
        selected = {
            kind: [tag for tag in tags if not languages or tag in languages]
            for kind, tags in mails.items()
            if not kinds or kind in kinds
        }
        linter = Linter(SourceLines(owner_context.inventory), structures)
        new = list(_check_mails(owner_context, selected, linter, default_language, progress))
        if owner := owner_context.owner:
            known = {key for finding in findings if not finding.owners for key in _identities(finding)}
            new = [
                _assign_to_owner(owner, finding, owner_context, linter.sources)
                for finding in new
                if known.isdisjoint(_identities(finding))
            ]
        findings += new
    return merge_findings(findings)


def count(context: LintContext) -> int:
    """Return the number of mails to check."""
    tags = (tags for _, mails in _mails_by_owner(context) for tags in mails.values())
    return len(Sample) * sum(map(len, tags))


def _mails_by_owner(context: LintContext) -> Iterator[tuple[LintContext, Mapping[str, Sequence[str]]]]:
    """Yield a context for all mails, then one for each owner, with the mails to check: kind -> languages."""
    common = context.inventory
    yield context, common.kinds
    for owner in context.renderer.owners:
        owner_context = replace(context, owner=owner)
        mails: dict[str, list[str]] = {}
        for kind, language, mail_sources in find_changed_mails(owner_context.inventory, common):
            if mail_sources:
                mails.setdefault(kind, []).append(language)
        yield owner_context, mails


def _check_mails(
    context: LintContext,
    selected: Mapping[str, Sequence[str]],
    linter: "Linter",
    default_language: str,
    progress: Callable[[], None],
) -> Iterator[Finding]:
    languages_of = context.inventory.kinds
    for kind, languages in selected.items():
        by_language = {language: context.mail_sources(kind, language) for language in languages_of[kind]}
        for language in languages:
            yield from linter.variables(kind, language, by_language[language])
            for sample in Sample:
                result = context.render(kind, language, sample)
                yield from [result] if isinstance(result, Finding) else linter.findings(result)
                progress()
        for finding in compare_languages(linter.sources, kind, by_language, default_language):
            if set(finding.languages) & set(languages):
                yield finding


def _assign_to_owner(owner: Owner, finding: Finding, context: LintContext, sources: SourceLines) -> Finding:
    """Assign a finding to an owner; if it is in a file that all mails share, name the owner's template instead."""
    folder, _ = context.inventory.folders[0]
    if finding.samples and finding.file.endswith(ENDING) and not finding.file.startswith(folder):
        upper = sources.uppermost(context.mail_sources(finding.kinds[0], finding.languages[0]).templates)
        if upper.startswith(folder):
            finding = replace(finding, file=upper, line=None)
    return replace(finding, owners=(owner.folder,))


def _identities(finding: Finding) -> Iterator[Hashable]:
    """Yield keys that identify a finding: its location, or without a line the mails that have it."""
    yield finding.check, finding.file, finding.line, finding.problem
    if finding.line is None:
        for kind, language in product(finding.kinds, finding.languages):
            yield finding.check, finding.problem, kind, language


Structures: TypeAlias = dict[Hashable, list[Violation]]
"""Skeleton of a mail's HTML, or templates of a hostile mail -> violations of rules about its structure."""


class Linter:
    """Applies the rules to mails of the same templates, and caches results.

    A Logto template often gives the same mail in every language.
    """

    def __init__(self, sources: SourceLines, structures: Structures | None = None) -> None:
        """Use `sources` to find template lines; `structures` is a cache that may be shared by all templates."""
        self.sources = sources
        self._mails: dict[tuple[str, bytes, bool], list[Finding]] = {}
        self._structures: Structures = {} if structures is None else structures
        self._unknown_variables: dict[tuple[str, tuple[str, ...], frozenset[str]], list[Finding]] = {}

    def findings(self, mail: RenderedMail) -> list[Finding]:
        """Return the findings for one mail; cached, because two samples often give the same mail."""
        key = mail.kind, mail.email.raw, mail.sample is Sample.HOSTILE
        if key not in self._mails:
            self._mails = {other: findings for other, findings in self._mails.items() if other[0] == mail.kind}
            self._mails[key] = list(self._apply_rules(mail))
        return [replace(finding, samples=(mail.sample.value,)) for finding in self._mails[key]]

    def _apply_rules(self, mail: RenderedMail) -> Iterator[Finding]:
        has_html = bool(mail.email.html)
        violations = self._check_structure(mail) if has_html else []
        rules = _TEXT_RULES + _HTML_RULES if has_html else _TEXT_RULES
        if mail.sample is Sample.HOSTILE:
            rules = (check_round_trip,)
        for violation in chain(violations, *(rule(mail) for rule in rules)):
            yield self._add_location(violation, mail)

    def variables(self, kind: str, language: str, mail_sources: MailSources) -> Iterator[Finding]:
        """Yield the unknown variables in a kind's templates."""
        key = kind, mail_sources.templates, frozenset(mail_sources.translations)
        if key not in self._unknown_variables:
            self._unknown_variables[key] = list(find_unknown_variables(self.sources, kind, language, mail_sources))
        for finding in self._unknown_variables[key]:
            yield replace(finding, languages=(language,))

    def _check_structure(self, mail: RenderedMail) -> list[Violation]:
        """Return the violations of the HTML; cached, because parsing it as browsers do takes 5 ms."""
        sources = mail.mail_sources
        is_hostile = mail.sample is Sample.HOSTILE
        # Whether a value can inject HTML depends on its place in the template, not on the language around it.
        key: Hashable = (
            (mail.kind, self.sources.files(sources.templates) or sources.templates, sources.direction, id(self))
            if is_hostile
            else skeleton(mail.email.html)
        )
        if key not in self._structures:
            rules = (check_injection,) if is_hostile else _STRUCTURE_RULES
            self._structures[key] = [violation for rule in rules for violation in rule(mail)]
        return self._structures[key]

    def _add_location(self, violation: Violation, mail: RenderedMail) -> Finding:
        sources = mail.mail_sources
        if violation.translation:
            file, line = (
                self.sources.logto_key(sources.templates[0], violation.translation)
                if sources.is_logto
                else self.sources.translation(mail.language, mail.kind, violation.translation)
            )
        elif violation.html:
            body = mail.email.html if violation.html in mail.email.html else mail.email.text
            file, line = self.sources.template_line(sources, body, violation.html)
        else:
            file, line = self.sources.uppermost(sources.templates), None
        return Finding(
            violation.check,
            violation.problem,
            (sources.is_logto and violation.logto_remedy) or violation.remedy,
            (mail.kind,),
            (mail.email.language if sources.is_logto else mail.language,),
            (mail.sample.value,),
            file,
            line,
            violation.is_warning or sources.is_logto,  # Logto itself would send such a mail
        )
