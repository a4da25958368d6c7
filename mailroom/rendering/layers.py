"""Stacks layers of templates (the bundled ones lowest) and finds the template for a message.

An upper layer overrides lower ones template by template and text by text. Within one layer a Logto template has
precedence over a Jinja template.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from string import Formatter
from typing import Any, Final

from mailroom.errors import Fault, RenderingError
from mailroom.logto import GENERIC
from mailroom.message import Message, Priority
from mailroom.rendering.engines.jinja_engine import BoundTemplate, Compiled, Engine, Source
from mailroom.rendering.engines.logto_engine import LogtoTemplate
from mailroom.rendering.engines.markup import is_styled
from mailroom.rendering.languages.negotiation import choose
from mailroom.rendering.languages.translations import Locale, Tables, compare
from mailroom.rendering.overlay import DEFAULT, Layer

BUNDLED: Final = "bundled/"
"""Prefix of a template name that selects the bundled template even if an overlay overrides it."""

_BUNDLED_DEFAULT: Final = ("en",)
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
    open: Mapping[str, str]
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


@dataclass(frozen=True, slots=True)
class TemplateParts:
    """Constants, default locale and compiled templates that stacks share."""

    constants: Mapping[str, Any]
    default_locale: str
    compiled: Compiled = field(default_factory=Compiled)

    def for_reload(self) -> "TemplateParts":
        """Return a kit for reloading that reuses compiled templates."""
        return replace(self, compiled=Compiled(self.compiled))


class Layers:
    """A layer on top of the layers below it, parsed."""

    def __init__(self, layer: Layer, kit: TemplateParts, below: "Layers | None" = None) -> None:
        """Add a layer. Raises RenderingError for faults in the lowest layer; in others they are in `faults`."""
        self._kit = kit
        self.below = below
        """The layers below."""
        self.faults: list[Fault] = []
        self.level: int = below.level + 1 if below else 0
        self.sources, self.levels, self.engine = self._merge_templates(layer)
        self.tables: dict[str, Tables] = dict(below.tables) if below else {}
        self.locales: dict[str, Locale] = dict(below.locales) if below else {}
        self._merge_translations(layer)
        if not self.locales:
            raise RenderingError("locales: there are no translations")
        tags = tuple(self.locales)
        # The default locale may exist in an overlay only.
        self.default: str = choose((kit.default_locale,), tags, "") or (
            below.default if below else choose(_BUNDLED_DEFAULT, tags, tags[0])
        )
        self.kinds = self._find_complete_kinds()
        self._kinds: dict[tuple[str, str], MailTemplate] = {}
        self._dependencies: dict[str, tuple[str, ...]] = {}
        self.logto = self._merge_logto_templates(layer)
        if not below:
            for kind, tags in self.kinds.items():
                for tag in tags:
                    self._build_kind(tag, kind)
        self._report_unused_templates(layer)

    @property
    def tags(self) -> tuple[str, ...]:
        """The languages that have translations."""
        return tuple(self.locales)

    @property
    def content(self) -> tuple[object, ...]:
        """All that the mails depend on; stacks with equal content render equal mails."""
        return self.sources, self.tables, self.logto

    def has_language(self, tag: str) -> bool:
        """Return whether there are translations in this language or a close one."""
        return bool(choose((tag,), self.tags, ""))

    def find(self, message: Message) -> MailTemplate | ImportedTemplate | None:
        """Return the template for a message, or None."""
        layers = self.logto.get(message.template)
        template = self._choose_imported(layers or (), message)
        if not template and layers is None and message.is_code:
            template = self._choose_imported(self.logto.get(GENERIC, ()), message)
        return template or self._find_kind(message)

    def _find_kind(self, message: Message) -> MailTemplate | None:
        for kind in (message.template, GENERIC) if message.priority is not Priority.EVENT else (message.template,):
            if tags := self.kinds.get(kind):
                return self._build_kind(choose(message.languages, tags, self._fallback_language(tags)), kind)
        return None

    def _fallback_language(self, tags: tuple[str, ...]) -> str:
        """Return the language of a kind for readers of other languages."""
        return next((tag for tag in (self.default, self.base_default) if tag in tags), tags[0])

    @property
    def base_default(self) -> str:
        """The default language of the lowest layer, which has all kinds."""
        return self.below.base_default if self.below else self.default

    def _choose_imported(
        self, layers: tuple[Mapping[str, LogtoTemplate], ...], message: Message
    ) -> ImportedTemplate | None:
        wanted = (*message.languages, self._kit.default_locale)
        for templates in layers:
            tags = tuple(tag for tag in templates if tag != DEFAULT)
            if tag := choose(wanted, tags, "") if tags else "":
                return ImportedTemplate(templates[tag], tag)
            if DEFAULT in templates:
                return ImportedTemplate(templates[DEFAULT], self.default)
        return None

    def languages_of_imported(self, kind: str) -> tuple[str, ...]:
        """Return the languages of a kind's Logto templates; `default` counts as the default language."""
        tags = dict.fromkeys(tag for templates in self.logto.get(kind, ()) for tag in sorted(templates))
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
        engine = Engine(sources, self._kit.constants, self._kit.compiled)
        for name, source in layer.templates.items() if below else ():
            for other in engine.references(name):
                if other not in sources:
                    self.faults.append(Fault(source.place, f"refers to {other}, which does not exist"))
        return sources, levels, engine

    def _report_unused_templates(self, layer: Layer) -> None:
        for name, source in layer.templates.items() if self.below else ():
            folder, _, rest = name.partition("/")
            tag, _, part = rest.partition("/")
            if part in _PARTS and tag not in self.locales and folder != "parts":
                self.faults.append(Fault(source.place, f"is not used: there are no translations in {tag}"))

    def _merge_translations(self, layer: Layer) -> None:
        for tag, tables in layer.tables.items():
            merged = tables.over(self.tables.get(tag))
            try:
                self.locales[tag] = merged.locale()
            except RenderingError as error:
                self._raise_or_collect(error)
            else:
                self.tables[tag] = merged

    def _find_complete_kinds(self) -> dict[str, tuple[str, ...]]:
        """Return kind -> languages that have all texts of the default language."""
        tags: dict[str, list[str]] = {}
        for tag, locale in self.locales.items():
            if not self.below:
                compare(locale, self.locales[self.default])
            for kind, texts in locale.kinds.items():
                try:
                    for key in _REQUIRED_KEYS:
                        if key not in texts:
                            raise RenderingError(f"{self.tables[tag].place}: [{kind}] lacks {key}")  # noqa: TRY301 - handled below like errors of compare
                    compare(locale, self.locales[self.default], kind)
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
        own: dict[str, dict[str, LogtoTemplate]] = {}
        for (kind, tag), template in sorted(layer.logto.items()):
            own.setdefault(kind, {})[tag] = template
        for kind, templates in own.items():
            templates_of[kind] = (templates, *templates_of.get(kind, ()))
        return templates_of

    def _build_kind(self, tag: str, name: str) -> MailTemplate:
        if cached := self._kinds.get((tag, name)):
            return cached
        locale = self.locales[tag]
        texts = locale.kinds[name]
        html, text = self._template_name(name, tag, "html.jinja"), self._template_name(name, tag, "text.jinja")
        has_own_html, has_own_text = html.startswith(f"{name}/"), text.startswith(f"{name}/")
        if html not in self._dependencies:  # takes 10 ms, and most kinds and languages share it
            self._dependencies[html] = tuple(self._find_dependencies(html))
        from_overlay = [one for one in self._dependencies[html] if self.levels.get(one)]
        fixed = {key: text.format() for key, text in texts.items() if not _has_placeholder(text)}
        constants = {"words": fixed, **locale.constants}
        # An overlay's HTML of a new kind may contain more than the bundled text template does.
        text_from_html = has_own_html and not has_own_text and not self.is_bundled(name)
        kind = self._kinds[tag, name] = MailTemplate(
            html=self.engine.page(html, constants),
            text=None if text_from_html else self.engine.page(text, constants),
            subject=texts["subject"],
            fixed=fixed,
            open={key: text for key, text in texts.items() if _has_placeholder(text)},
            locale=locale,
            uses_overlay=bool(from_overlay),
            is_styled=any(is_styled(self.sources[one].text) for one in from_overlay),
            place=self.sources[max(from_overlay or [html], key=lambda one: self.levels[one])].place,
        )
        return kind

    def is_bundled(self, kind: str) -> bool:
        """Return whether the lowest layer has translations for a kind."""
        return self.below.is_bundled(kind) if self.below else kind in self.kinds

    def _template_name(self, kind: str, tag: str, part: str) -> str:
        """Return the name of the template in the uppermost layer; within a layer, the language's own is preferred."""
        for folder in (kind, GENERIC):
            names = [name for name in (f"{folder}/{part}", f"{folder}/{tag}/{part}") if name in self.levels]
            if names:
                return max(names, key=lambda name: (self.levels[name], len(name)))
        raise RenderingError(f"{GENERIC}/{part} is missing")

    def _find_dependencies(self, name: str) -> Iterator[str]:
        """Yield the template and all that it extends or includes; nothing for the lowest layer."""
        if not self.level:
            return
        seen: set[str] = set()
        waiting = [name]
        while waiting:
            one = waiting.pop()
            if one in seen:
                continue
            seen.add(one)
            yield one
            waiting += self.engine.references(one)

    def _raise_or_collect(self, error: RenderingError) -> None:
        if not self.below:
            raise error
        place, _, problem = str(error).partition(": ")
        self.faults.append(Fault(place, problem))


def _has_placeholder(text: str) -> bool:
    return any(field is not None for _, field, _, _ in Formatter().parse(text))
