"""Checks 3 and 22: unknown or unreplaced variables, and translations with different placeholders."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import fields
from string import Formatter
from typing import Any, Final

from jinja2 import meta, nodes

from mailroom.lint import Finding
from mailroom.lint.rule import RenderedMail, Violation
from mailroom.lint.samples import Sample, payload
from mailroom.lint.source_lines import SourceLines
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
_UNREPLACED: Final = re.compile(r"\{\{.{0,40}|\}\}|\{%.{0,40}|\{[A-Za-z_]\w*\}|\[object Object\]|%recipient[.\w]*%")
_MISSING_VALUE: Final = re.compile(r"\b(?:None|undefined|Undefined|NaN)\b")


def check_unreplaced_variables(mail: RenderedMail) -> Iterator[Violation]:
    """Check 3 for a rendered mail."""
    if mail.sample is Sample.HOSTILE:
        return
    parts = {"subject": mail.email.subject, "text": mail.email.text, "HTML": mail.page.body_text}
    for part, text in parts.items():
        translations = mail.mail_sources.translations
        for pattern in (_UNREPLACED, _MISSING_VALUE):
            match = pattern.search(text)
            if match and not (pattern is _MISSING_VALUE and match[0] in " ".join(translations.values())):
                key = next((key for key, text in translations.items() if match[0] in text), "")
                problem = f"the {part} shows {bounded(match[0], 40)}"
                remedy = "use an existing variable, or remove it"
                yield Violation(3, problem, remedy, html=mail.page.line_with(match[0]), translation=key)


def find_unknown_variables(
    sources: SourceLines, kind: str, language: str, mail_sources: MailSources
) -> Iterator[Finding]:
    """Check 3 for templates: variables that no payload has, also in branches that no sample reaches."""
    full_payload = payload(kind, Sample.FULL, language)
    for template in sources.files(mail_sources.templates):
        tree = sources.tree(template)
        file = sources.file(template)
        tested = {node.attr for test in tree.find_all(nodes.If) for node in test.test.find_all(nodes.Getattr)}
        tested |= OPTIONAL_KEYS
        unknown = meta.find_undeclared_variables(tree) - _KNOWN_VARIABLES - set(full_payload)
        for name in tree.find_all(nodes.Name):
            if name.name in unknown and name.ctx == "load":
                yield _unknown(file, name.lineno, name.name, kind, language, is_warning=False)
        for node in tree.find_all(nodes.Getattr):
            path = _path(node)
            if path and _is_unknown(path, full_payload, mail_sources, tested):
                is_own_object = path[0] in (*_FIELDS, "words")
                yield _unknown(file, node.lineno, ".".join(path), kind, language, is_warning=not is_own_object)


def _unknown(file: str, line: int, name: str, kind: str, language: str, *, is_warning: bool) -> Finding:
    problem, remedy = f"the variable {name} does not exist", "check the spelling; docs/templates.md lists the variables"
    return Finding(3, problem, remedy, (kind,), (language,), file=file, line=line, is_warning=is_warning)


def _path(node: nodes.Getattr) -> tuple[str, ...]:
    """Return `("user", "name")` for `user.name`; empty if the expression does not start with a name."""
    names: list[str] = []
    inner: nodes.Node = node
    while isinstance(inner, nodes.Getattr):
        names.insert(0, inner.attr)
        inner = inner.node
    return (inner.name, *names) if isinstance(inner, nodes.Name) else ()


def _is_unknown(
    path: tuple[str, ...], full_payload: Mapping[str, Any], mail_sources: MailSources, tested: set[str]
) -> bool:
    root, name = path[0], path[1]
    if root == "words":
        return name not in mail_sources.translations and name not in tested
    if root in _FIELDS:
        return name not in _FIELDS[root]
    if root in PLACEHOLDERS and root not in full_payload:
        return False
    value: Any = full_payload.get(root)
    for key in path[1:]:
        if not isinstance(value, Mapping) or not value:  # null, a text, or an object with fields of the operator
            return False
        if key not in value:
            return True
        value = value[key]
    return False


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
