"""Checks 3 and 22: unknown, unreplaced or empty variables, and translations with different placeholders."""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import fields
from difflib import get_close_matches
from string import Formatter
from typing import Any, Final

from jinja2 import meta, nodes

from mailroom.lint import Finding
from mailroom.lint.rule import RenderedMail, Violation
from mailroom.lint.samples import Sample, payload
from mailroom.lint.source_lines import SourceLines
from mailroom.logto import EVENT_FIELDS, MESSAGE_TYPES, PAYLOAD_FIELDS
from mailroom.rendering import Brand
from mailroom.rendering.colors import Palette
from mailroom.rendering.identity import Logo
from mailroom.rendering.inventory import MailSources
from mailroom.rendering.languages.translations import OPTIONAL_KEYS, PLACEHOLDERS
from mailroom.text import bounded

_KNOWN_VARIABLES: Final = PLACEHOLDERS | {
    "link", "link_text", "logo", "words", "lang", "dir", "start", "brand", "colors", "sans", "mono", "sizes", "contact",
    "range", "namespace", "locale", "uiLocales", "application", "user", "organization", "inviter", "event",
}  # fmt: skip
_FIELDS: Final[Mapping[str, frozenset[str]]] = {
    "brand": frozenset(Brand.model_fields),
    "colors": frozenset(field.name for field in fields(Palette)),
    "logo": frozenset(Logo.__annotations__),
}
_UNREPLACED: Final = re.compile(
    r"\{\{[^{}]{0,40}\}\}|\{\{.{0,40}|\}\}|\{%.{0,40}|\{[A-Za-z_]\w*\}|\[object Object\]|%recipient[.\w]*%"
)
_HANDLEBARS: Final = re.compile(r"\{\{\{|\{\{\s*(?:[#/^>&]|else\b)")
_GAP: Final = re.compile(r"\w[^\S\n\u00a0\u202f]+[,.](?!\w)|(?:^|\n)[ \t]*[,.!?](?=\s|$)|\( *\)")
_GAP_BEFORE_MARK: Final = re.compile(r"\w[ \t]+[!?](?!\w)")
"""Not in French, which has a space before them."""
_MISSING_VALUE: Final = re.compile(r"\b(?:None|undefined|Undefined|NaN)\b")


def check_unreplaced_variables(mail: RenderedMail) -> Iterator[Violation]:
    """Check 3 for a rendered mail."""
    if mail.sample is Sample.HOSTILE:
        return
    parts = {"subject": mail.email.subject, "text": mail.email.text, "HTML": mail.quick_page.body_text}
    for part, text in parts.items():
        translations = mail.mail_sources.translations
        for pattern in (_UNREPLACED, _MISSING_VALUE):
            match = pattern.search(text)
            if match and not (pattern is _MISSING_VALUE and match[0] in " ".join(translations.values())):
                key = next((key for key, text in translations.items() if match[0] in text), "")
                problem = f"the {part} shows {bounded(match[0], 40)}"
                remedy = "use an existing variable, or remove it"
                line = mail.quick_page.line_with(match[0])
                logto_remedy = _explain_unreplaced(match[0])
                yield Violation(3, problem, remedy, html=line, translation=key, logto_remedy=logto_remedy)


def _explain_unreplaced(shown: str) -> str:
    """Return the remedy for a Logto template."""
    if _HANDLEBARS.match(shown):
        return "remove it: Logto fills in placeholders like {{code}} only, and shows other Handlebars as they are"
    if field := re.match(r"\{\{\s*(\w+)", shown):
        return f"remove it, or accept it: a request without {field[1]} leaves the placeholder as it is"
    return "remove it"


def check_empty_values(mail: RenderedMail) -> Iterator[Violation]:
    """Check 3 for values that are missing in front of a punctuation mark: `Hello ,`."""
    if mail.sample not in (Sample.MINIMAL, Sample.NULL):
        return
    blocks = "\n".join(" ".join(text.split()) for text in mail.quick_page.blocks)
    parts = {"subject": mail.email.subject, "text": mail.email.text, "HTML": blocks}
    for part, text in parts.items():
        found = _GAP.search(text)
        if not found and not mail.email.language.startswith("fr"):
            found = _GAP_BEFORE_MARK.search(text)
        if found:
            start = text.rfind("\n", 0, found.end() - 1) + 1
            line = text[start:].partition("\n")[0]
            shown = " ".join(text[start : found.end()].split()[-3:])
            yield Violation(
                3,
                f"the {part} shows “{bounded(shown, 40)}” if a value is missing",
                "put the value, and the words that need it, into {% if … %}",
                html=mail.quick_page.line_with(found[0].strip()) if part == "HTML" else line,
                translation=_key_with_gap(mail) if part == "subject" else "",
                is_warning=True,
                logto_remedy="remove the placeholder: Logto may send no value for it",
            )


def _key_with_gap(mail: RenderedMail) -> str:
    return "subject" if mail.mail_sources.is_logto or "subject" in mail.mail_sources.translations else ""


def find_unknown_variables(
    sources: SourceLines, kind: str, language: str, mail_sources: MailSources
) -> Iterator[Finding]:
    """Check 3 for templates: variables that no payload has, also in branches that no sample reaches."""
    full_payload = payload(kind, Sample.FULL, language)
    known = _KNOWN_VARIABLES | set(full_payload) | (frozenset() if kind in MESSAGE_TYPES else EVENT_FIELDS)
    for template in sources.files(mail_sources.templates):
        tree = sources.tree(template)
        mail: dict[str, Any] = {"kinds": (kind,), "languages": (language,), "file": sources.file(template)}
        tested = {node.attr for test in tree.find_all(nodes.If) for node in test.test.find_all(nodes.Getattr)}
        tested |= OPTIONAL_KEYS
        unknown = meta.find_undeclared_variables(tree) - known
        for name in tree.find_all(nodes.Name):
            if name.name in unknown and name.ctx == "load":
                yield _unknown((name.name,), known, line=name.lineno, **mail)
        for node in tree.find_all(nodes.Getattr):
            path = _path(node)
            fields_known = _known_fields(path, full_payload, mail_sources, tested) if path else None
            if fields_known is not None:
                yield _unknown(path, fields_known, line=node.lineno, **mail)


def _unknown(path: tuple[str, ...], known: Collection[str], **location: Any) -> Finding:
    *objects, name = path
    problem = f"the variable {'.'.join(path)} does not exist"
    similar = get_close_matches(name, known, 1)
    suggestion = f"did you mean {'.'.join((*objects, similar[0]))}?" if similar else "check the spelling;"
    remedy = f"{suggestion} docs/templates.md lists the variables"
    return Finding(3, problem, remedy, **location)


def _path(node: nodes.Getattr) -> tuple[str, ...]:
    """Return `("user", "name")` for `user.name`; empty if the expression does not start with a name."""
    names: list[str] = []
    inner: nodes.Node = node
    while isinstance(inner, nodes.Getattr):
        names.insert(0, inner.attr)
        inner = inner.node
    return (inner.name, *names) if isinstance(inner, nodes.Name) else ()


def _known_fields(
    path: tuple[str, ...], full_payload: Mapping[str, Any], mail_sources: MailSources, tested: set[str]
) -> Collection[str] | None:
    """Return the names that could stand in place of the last one, which is unknown; None if it is known."""
    root, name = path[0], path[1]
    if root == "words":
        return None if name in mail_sources.translations or name in tested else mail_sources.translations
    if root in _FIELDS:
        return None if name in _FIELDS[root] else _FIELDS[root]
    if root in PLACEHOLDERS and root not in full_payload:
        return None
    value: Any = full_payload.get(root)
    for key in path[1:]:
        if not isinstance(value, Mapping) or not value:  # null, a text, or an object with fields of the operator
            return None
        if key not in value:
            is_known = key in PAYLOAD_FIELDS or key != path[-1]  # else the inner expression is reported
            return None if is_known else value
        value = value[key]
    return None


def compare_languages(
    sources: SourceLines, kind: str, by_language: Mapping[str, MailSources], default_language: str
) -> Iterator[Finding]:
    """Check 22. The reference is what most languages use; `by_language` has the kind's texts in each language."""
    keys = {key for mail_sources in by_language.values() for key in mail_sources.translations}
    for key in sorted(keys):
        used = {
            tag: _placeholders(mail_sources.translations[key])
            for tag, mail_sources in by_language.items()
            if mail_sources.translations.get(key)
        }
        if not used:
            continue
        counted = Counter(used.values()).most_common()
        usual = counted[0][0]
        if len(counted) > 1 and counted[0][1] == counted[1][1]:
            usual = used.get(default_language, usual)
        for tag, names in used.items():
            if names != usual:
                file, line = sources.translation(tag, kind, key)
                problem = f"{key} {_difference(names, usual)}, unlike in the other languages"
                remedy = "use the same {placeholders} in every language, in any order"
                yield Finding(22, problem, remedy, (kind,), (tag,), file=file, line=line)


def _difference(names: frozenset[str], usual: frozenset[str]) -> str:
    lacking, more = sorted(usual - names), sorted(names - usual)
    differences = [f"lacks {{{name}}}" for name in lacking] + [f"has {{{name}}}" for name in more]
    return " and ".join(differences)


def _placeholders(text: str) -> frozenset[str]:
    """Return the placeholders of a text but the reader's name: languages that inflect it greet without."""
    return frozenset(field for _, field, _, _ in Formatter().parse(text) if field) - {"name"}
