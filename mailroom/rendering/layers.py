"""Merges layers of templates (the bundled ones lowest) and finds the template for a message.

An upper layer overrides lower ones template by template and text by text. Within one layer a Logto template has
precedence over a Jinja template.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from string import Formatter
from typing import Any, Final

from mailroom.errors import Fault, RenderingError
from mailroom.logto import GENERIC
from mailroom.message import Message, Priority
from mailroom.rendering.engines.jinja_engine import BoundTemplate, Compiled, Engine, Source, dependencies, references
from mailroom.rendering.engines.logto_engine import LogtoTemplate
from mailroom.rendering.engines.markup import is_styled
from mailroom.rendering.languages.dates import DateFormat
from mailroom.rendering.languages.negotiation import choose
from mailroom.rendering.languages.translations import Locale, Tables, compare
from mailroom.rendering.overlay import DEFAULT, Layer, to_fault

BUNDLED: Final = "bundled/"
"""Prefix of a template name that selects the bundled template even if an overlay overrides it."""

_PARTS: Final = ("html.jinja", "text.jinja")
_REQUIRED_KEYS: Final = ("subject", "preheader", "title")


@dataclass(frozen=True, slots=True)
class MailTemplate:
    """The Jinja templates and translations of one kind of mail in one language."""

    html: BoundTemplate
    text: BoundTemplate | None
    """None: the text part is made from the HTML."""
    subject: str
    fixed: Mapping[str, str]
    """Texts without placeholders, by key."""
    patterns: Mapping[str, str]
    """Texts with placeholders, by key."""
    locale: Locale
    uses_overlay: bool
    """Whether a template of the operator takes part in the HTML."""
    is_styled: bool
    """Whether one of those has a style sheet."""
    place: str
    """Among the files that make the HTML, the one of the uppermost layer; for error messages."""


@dataclass(frozen=True, slots=True)
class ImportedTemplate:
    """A Logto template and the language of the mail."""

    template: LogtoTemplate
    language: str
    dates: DateFormat


@dataclass(frozen=True, slots=True)
class TemplateParts:
    """Constants, default locale and compiled templates that layers share."""

    constants: Mapping[str, Any]
    default_locale: str
    compiled: Compiled = field(default_factory=Compiled)

    def for_reload(self) -> "TemplateParts":
        """Return parts for reloading that reuse compiled templates."""
        return replace(self, compiled=Compiled(self.compiled))


class Layers:
    """A layer on top of the layers below it, parsed."""

    def __init__(self, layer: Layer, parts: TemplateParts, below: "Layers | None" = None) -> None:
        """Add a layer. Raises RenderingError for faults in the lowest layer; in others they are in `faults`."""
        self._parts = parts
        self.below = below
        """The layers below."""
        self.faults: list[Fault] = []
        self.base: Layers = below.base if below else self
        """The lowest layer, which has all kinds."""
        self.level: int = below.level + 1 if below else 0
        self.tables: dict[str, Tables] = dict(below.tables) if below else {}
        self.locales: dict[str, Locale] = dict(below.locales) if below else {}
        self._merge_translations(layer)
        if not self.locales:
            raise RenderingError("locales: there are no translations")
        self.sources, self.levels, self.engine = self._merge_templates(layer)
        tags = tuple(self.locales)
        # The default locale may exist in an overlay only.
        self.default: str = choose((parts.default_locale,), tags, "") or (
            below.default if below else choose(("en",), tags, tags[0])
        )
        self.kinds = self._find_complete_kinds()
        self._kinds: dict[tuple[str, str], MailTemplate] = {}
        self.logto = self._merge_logto_templates(layer)
        if not below:
            for kind, tags in self.kinds.items():
                for tag in tags:
                    self._build_kind(tag, kind)

    @property
    def content(self) -> tuple[object, ...]:
        """All that the mails depend on; layers with equal content render equal mails."""
        return self.sources, self.tables, self.logto

    def find(self, message: Message) -> MailTemplate | ImportedTemplate | None:
        """Return the template for a message, or None."""
        imported = self.logto.get(message.template)
        if imported is None and message.is_code:
            imported = self.logto.get(GENERIC)
        if template := self._choose_imported(imported or (), message):
            return template
        for kind in (message.template,) if message.priority is Priority.EVENT else (message.template, GENERIC):
            if tags := self.kinds.get(kind):
                fallback = next((tag for tag in (self.default, self.base.default) if tag in tags), tags[0])
                return self._build_kind(choose(message.languages, tags, fallback), kind)
        return None

    def _choose_imported(
        self, layers: tuple[Mapping[str, LogtoTemplate], ...], message: Message
    ) -> ImportedTemplate | None:
        wanted = (*message.languages, self._parts.default_locale)
        for templates in layers:
            tags = tuple(tag for tag in templates if tag != DEFAULT)
            if tag := choose(wanted, tags, "") if tags else "":
                return ImportedTemplate(templates[tag], tag, self._dates(tag))
            if DEFAULT in templates:
                return ImportedTemplate(templates[DEFAULT], self.default, self._dates(self.default))
        return None

    def _dates(self, tag: str) -> DateFormat:
        return self.locales[tag].dates if tag in self.locales else DateFormat()

    def languages_of_imported(self, kind: str) -> tuple[str, ...]:
        """Return the languages of a kind's Logto templates; `default` counts as the default language."""
        tags = (tag for templates in self.logto.get(kind, ()) for tag in templates)
        return tuple(dict.fromkeys(self.default if tag == DEFAULT else tag for tag in tags))

    def _merge_templates(self, layer: Layer) -> tuple[dict[str, Source], dict[str, int], Engine]:
        below = self.below
        if below and not layer.templates:
            return below.sources, below.levels, below.engine
        sources: dict[str, Source] = dict(below.sources) if below else {}
        levels: dict[str, int] = dict(below.levels) if below else {}
        if self.level == 1:
            sources |= {BUNDLED + name: source for name, source in sources.items()}
        sources |= layer.templates
        levels |= dict.fromkeys(layer.templates, self.level)
        engine = Engine(sources, self._parts.constants, self._parts.compiled)
        for name, source in layer.templates.items() if below else ():
            for other in references(source.text):
                if other and other not in sources:
                    self.faults.append(Fault(source.place, f"refers to {other}, which does not exist"))
            folder, _, rest = name.partition("/")
            tag, _, part = rest.partition("/")
            if part in _PARTS and tag not in self.locales and folder != "parts":
                self.faults.append(Fault(source.place, f"is not used: there are no translations in {tag}"))
        return sources, levels, engine

    def _merge_translations(self, layer: Layer) -> None:
        for tag, tables in layer.tables.items():
            merged = tables.merge_over(self.tables.get(tag))
            try:
                self.locales[tag] = merged.locale()
            except RenderingError as error:
                self._raise_or_collect(error)
            else:
                self.tables[tag] = merged

    def _find_complete_kinds(self) -> dict[str, tuple[str, ...]]:
        """Return kind -> languages that have all texts of the default language."""
        default = self.locales[self.default]
        tags: dict[str, list[str]] = {}
        for tag, locale in self.locales.items():
            for kind, texts in locale.kinds.items():
                lacking = next((key for key in _REQUIRED_KEYS if key not in texts), "")
                try:
                    if lacking and kind in default.kinds:
                        raise RenderingError(f"{self.tables[tag].place}: [{kind}] lacks {lacking}")  # noqa: TRY301 - handled below like errors of compare
                    compare(locale, default, kind)
                except RenderingError as error:
                    if not self.below or tag not in self.below.kinds.get(kind, ()):
                        self._raise_or_collect(error)
                        continue
                tags.setdefault(kind, []).append(tag)
        return {kind: tuple(languages) for kind, languages in tags.items()}

    def _merge_logto_templates(self, layer: Layer) -> dict[str, tuple[Mapping[str, LogtoTemplate], ...]]:
        """Return kind -> Logto templates, the upper layer's first; a Jinja template hides those of lower layers."""
        templates_of = dict(self.below.logto) if self.below else {}
        if self.below:
            for name in layer.templates:
                kind, _, rest = name.partition("/")
                if rest and kind != "parts":
                    templates_of[kind] = ()
        for kind, templates in layer.logto.items():
            templates_of[kind] = (dict(sorted(templates.items())), *templates_of.get(kind, ()))
        return templates_of

    def _build_kind(self, tag: str, name: str) -> MailTemplate:
        if cached := self._kinds.get((tag, name)):
            return cached
        locale = self.locales[tag]
        texts = locale.kinds[name]
        html, text = self._template_name(name, tag, "html.jinja"), self._template_name(name, tag, "text.jinja")
        has_own_html, has_own_text = html.startswith(f"{name}/"), text.startswith(f"{name}/")
        # The lowest layer skips this: parsing its templates takes 10 ms.
        from_overlay = [one for one in dependencies(self.sources, html) if self.levels.get(one)] if self.below else []
        fixed = {key: text.format() for key, text in texts.items() if not _has_placeholder(text)}
        absent = dict.fromkeys(set().union(*locale.kinds.values()) - texts.keys(), "")  # texts of other kinds
        constants = {"words": {**absent, **fixed}, **locale.constants}
        # An overlay's HTML of a new kind may contain more than the bundled text template does.
        text_from_html = has_own_html and not has_own_text and name not in self.base.kinds
        kind = self._kinds[tag, name] = MailTemplate(
            html=BoundTemplate(self.engine, html, constants, ascii_only=locale.is_latin),
            text=None if text_from_html else BoundTemplate(self.engine, text, constants),
            subject=texts["subject"],
            fixed=fixed,
            patterns={key: text for key, text in texts.items() if _has_placeholder(text)},
            locale=locale,
            uses_overlay=bool(from_overlay),
            is_styled=any(is_styled(self.sources[one].text) for one in from_overlay),
            place=self.sources[max(from_overlay or [html], key=lambda one: self.levels[one])].place,
        )
        return kind

    def _template_name(self, kind: str, tag: str, part: str) -> str:
        """Return the name of the template in the uppermost layer; within a layer, the language's own is preferred."""
        for folder in (kind, GENERIC):
            names = [name for name in (f"{folder}/{part}", f"{folder}/{tag}/{part}") if name in self.levels]
            if names:
                return max(names, key=lambda name: (self.levels[name], len(name)))
        raise RenderingError(f"{GENERIC}/{part} is missing")

    def _raise_or_collect(self, error: RenderingError) -> None:
        if not self.below:
            raise error
        self.faults.append(to_fault(error))


def _has_placeholder(text: str) -> bool:
    return "{" in text and any(field is not None for _, field, _, _ in Formatter().parse(text))
