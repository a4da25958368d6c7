"""Finds what a message is written with where layers of templates lie on each other: the bundled ones lowest.

The upper layer wins, template by template and word by word. Within a layer a template of Logto's goes before Jinja's.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from string import Formatter
from typing import Any, Final

from mailroom.errors import Fault, RenderingError
from mailroom.message import Message, Priority
from mailroom.rendering.engine import Compiled, Engine, Page, Source
from mailroom.rendering.locales import choose
from mailroom.rendering.logto import LogtoTemplate
from mailroom.rendering.markup import is_styled
from mailroom.rendering.overlay import DEFAULT, Layer
from mailroom.rendering.words import Locale, Tables, compare

GENERIC: Final = "Generic"
BUNDLED: Final = "bundled/"
"""Before a name: the template that comes with Mailroom, also where an overlay has one of this name."""

_OWN: Final = ("en",)
_PARTS: Final = ("html.jinja", "text.jinja")
_NEEDED: Final = ("subject", "preheader", "title")


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of mail in one language, by Jinja."""

    html: Page
    text: Page | None
    """None: the text is taken from the HTML."""
    subject: str
    fixed: Mapping[str, str]
    """The words that say the same in every mail."""
    open: Mapping[str, str]
    """The words with placeholders."""
    locale: Locale
    is_foreign: bool
    """Whether some of the HTML is the operator's."""
    is_styled: bool
    """Whether that has a style sheet."""


@dataclass(frozen=True, slots=True)
class Imported:
    """A template of Logto's, and the language that it was chosen for."""

    template: LogtoTemplate
    language: str


@dataclass(frozen=True, slots=True)
class Kit:
    """What all stacks of one reading have in common."""

    constants: Mapping[str, Any]
    default_locale: str
    compiled: Compiled = field(default_factory=Compiled)

    def copy(self) -> "Kit":
        """Return one for another reading, which need not compile again what is compiled."""
        return replace(self, compiled=self.compiled.copy())


class Stack:
    """A layer on the layers below it; everything in it is parsed."""

    def __init__(self, layer: Layer, kit: Kit, below: "Stack | None" = None) -> None:
        """Lay it over. Raises RenderingError for the lowest layer; in others what is faulty stands back."""
        self._kit = kit
        self.below = below
        """The layers that this one lies on."""
        self.faults: list[Fault] = []
        self.level: int = below.level + 1 if below else 0
        self.sources, self.levels, self.engine = self._templates(layer)
        self.tables: dict[str, Tables] = dict(below.tables) if below else {}
        self.locales: dict[str, Locale] = dict(below.locales) if below else {}
        self._lay_words(layer)
        if not self.locales:
            raise RenderingError("locales: there are no words")
        tags = tuple(self.locales)
        # The lowest layer may lack the language that an overlay brings.
        self.default: str = choose((kit.default_locale,), tags, "") or (
            below.default if below else choose(_OWN, tags, tags[0])
        )
        self.kinds = self._complete()
        self._kinds: dict[tuple[str, str], Kind] = {}
        self._chains: dict[str, tuple[str, ...]] = {}
        self.logto = self._imported(layer)
        if not below:
            for kind, tags in self.kinds.items():
                for tag in tags:
                    self._kind(tag, kind)
        self._look_at_names(layer)

    @property
    def tags(self) -> tuple[str, ...]:
        """The languages that there are words in."""
        return tuple(self.locales)

    @property
    def content(self) -> tuple[object, ...]:
        """All that its mails depend on: equal contents, equal mails."""
        return self.sources, self.tables, self.logto

    def speaks(self, tag: str) -> bool:
        """Tell whether there are words in this language, or one that its readers read."""
        return bool(choose((tag,), self.tags, ""))

    def find(self, message: Message) -> Kind | Imported | None:
        """Return what a message is written with; None: nothing here fits its template."""
        layers = self.logto.get(message.template)
        found = self._choose_imported(layers or (), message)
        if not found and layers is None and message.is_code:
            found = self._choose_imported(self.logto.get(GENERIC, ()), message)
        return found or self._find_kind(message)

    def _find_kind(self, message: Message) -> Kind | None:
        for kind in (message.template, GENERIC) if message.priority is not Priority.EVENT else (message.template,):
            if tags := self.kinds.get(kind):
                return self._kind(choose(message.languages, tags, self._standing_in(tags)), kind)
        return None

    def _standing_in(self, tags: tuple[str, ...]) -> str:
        """Return the language of a kind for readers of none of its languages."""
        return next((tag for tag in (self.default, self.base_default) if tag in tags), tags[0])

    @property
    def base_default(self) -> str:
        """The default language of the lowest layer, which has all kinds."""
        return self.below.base_default if self.below else self.default

    def _choose_imported(self, layers: tuple[Mapping[str, LogtoTemplate], ...], message: Message) -> Imported | None:
        wanted = (*message.languages, self._kit.default_locale)
        for templates in layers:
            tags = tuple(tag for tag in templates if tag != DEFAULT)
            if tag := choose(wanted, tags, "") if tags else "":
                return Imported(templates[tag], tag)
            if DEFAULT in templates:
                return Imported(templates[DEFAULT], self.default)
        return None

    def languages_of_imported(self, kind: str) -> tuple[str, ...]:
        """Return the languages of a kind's templates of Logto's; the one for the rest counts for the default."""
        tags = dict.fromkeys(tag for templates in self.logto.get(kind, ()) for tag in sorted(templates))
        return tuple(dict.fromkeys(self.default if tag == DEFAULT else tag for tag in tags))

    def _templates(self, layer: Layer) -> tuple[dict[str, Source], dict[str, int], Engine]:
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

    def _look_at_names(self, layer: Layer) -> None:
        for name, source in layer.templates.items() if self.below else ():
            folder, _, rest = name.partition("/")
            tag, _, part = rest.partition("/")
            if part in _PARTS and tag not in self.locales and folder != "parts":
                self.faults.append(Fault(source.place, f"is not used: there are no words in {tag}"))

    def _lay_words(self, layer: Layer) -> None:
        for tag, tables in layer.words.items():
            merged = tables.over(self.tables.get(tag))
            try:
                self.locales[tag] = merged.locale()
            except RenderingError as error:
                self._refuse(error)
            else:
                self.tables[tag] = merged

    def _complete(self) -> dict[str, tuple[str, ...]]:
        """Return the languages of each kind: those that have all the words of the default one."""
        tags: dict[str, list[str]] = {}
        for tag, locale in self.locales.items():
            if not self.below:
                compare(locale, self.locales[self.default])
            for kind, words in locale.kinds.items():
                try:
                    for key in _NEEDED:
                        if key not in words:
                            raise RenderingError(f"{self.tables[tag].place}: [{kind}] lacks {key}")  # noqa: TRY301 - told or raised alike
                    compare(locale, self.locales[self.default], kind)
                except RenderingError as error:
                    if not self.below or tag not in self.below.kinds.get(kind, ()):
                        self._refuse(error)
                        continue
                tags.setdefault(kind, []).append(tag)
        return {kind: tuple(found) for kind, found in tags.items()}

    def _imported(self, layer: Layer) -> dict[str, tuple[Mapping[str, LogtoTemplate], ...]]:
        """Return each kind's imported templates, the upper layer's first; none below a layer that has it in Jinja."""
        found = dict(self.below.logto) if self.below else {}
        if self.below:
            for name in layer.templates:
                kind, _, rest = name.partition("/")
                if rest and kind != "parts":
                    found[kind] = ()
        own: dict[str, dict[str, LogtoTemplate]] = {}
        for (kind, tag), template in sorted(layer.logto.items()):
            own.setdefault(kind, {})[tag] = template
        for kind, templates in own.items():
            found[kind] = (templates, *found.get(kind, ()))
        return found

    def _kind(self, tag: str, name: str) -> Kind:
        if found := self._kinds.get((tag, name)):
            return found
        locale = self.locales[tag]
        words = locale.kinds[name]
        html, text = self._named(name, tag, "html.jinja"), self._named(name, tag, "text.jinja")
        has_own_html, has_own_text = html.startswith(f"{name}/"), text.startswith(f"{name}/")
        if html not in self._chains:  # of most kinds and languages it is the same, and 10 ms to find out
            self._chains[html] = tuple(self._chain(html))
        operators = [one for one in self._chains[html] if self.levels.get(one)]
        fixed = {key: text.format() for key, text in words.items() if not _has_placeholder(text)}
        constants = {"words": fixed, **locale.constants}
        # The bundled text says what the bundled words say, and no more.
        is_taken = has_own_html and not has_own_text and not self.is_bundled(name)
        kind = self._kinds[tag, name] = Kind(
            html=self.engine.page(html, constants),
            text=None if is_taken else self.engine.page(text, constants),
            subject=words["subject"],
            fixed=fixed,
            open={key: text for key, text in words.items() if _has_placeholder(text)},
            locale=locale,
            is_foreign=bool(operators),
            is_styled=any(is_styled(self.sources[one].text) for one in operators),
        )
        return kind

    def is_bundled(self, kind: str) -> bool:
        """Tell whether the lowest layer has words for a kind."""
        return self.below.is_bundled(kind) if self.below else kind in self.kinds

    def _named(self, kind: str, tag: str, part: str) -> str:
        """Return the name of the template: the upper layer's, and the language's own within a layer."""
        for folder in (kind, GENERIC):
            names = [name for name in (f"{folder}/{part}", f"{folder}/{tag}/{part}") if name in self.levels]
            if names:
                return max(names, key=lambda name: (self.levels[name], len(name)))
        raise RenderingError(f"{GENERIC}/{part} is missing")

    def _chain(self, name: str) -> Iterator[str]:
        """Yield the template and all that it extends or includes."""
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

    def _refuse(self, error: RenderingError) -> None:
        if not self.below:
            raise error
        place, _, problem = str(error).partition(": ")
        self.faults.append(Fault(place, problem))


def _has_placeholder(text: str) -> bool:
    return any(field is not None for _, field, _, _ in Formatter().parse(text))
