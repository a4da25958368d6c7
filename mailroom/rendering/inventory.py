"""Says which mails a stack of templates can write, and what each is made of; for `check` and `preview`."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mailroom.message import Message, Payload
from mailroom.rendering.engine import Source
from mailroom.rendering.stack import Imported, Stack


@dataclass(frozen=True, slots=True)
class Owner:
    """An application or an organization that has templates of its own."""

    what: str
    """`application` or `organization`, as in Logto's payloads."""
    id: str

    @property
    def folder(self) -> str:
        """Where its templates lie in the operator's folder: `applications/<id>`."""
        return f"{self.what}s/{self.id}"

    @property
    def payload(self) -> Payload:
        """The least that makes a mail its own."""
        return {self.what: {"id": self.id}}


@dataclass(frozen=True, slots=True)
class Ingredients:
    """What a kind of mail is made of in one language."""

    templates: tuple[str, ...]
    """The names of those that are rendered (what they extend and include comes with them), or Logto's own's place."""
    words: Mapping[str, str]
    """Key -> text, the placeholders still in it."""
    direction: str = ""
    """Of the words, `ltr` or `rtl`; a template of Logto's has none."""


@dataclass(frozen=True, slots=True)
class Inventory:
    """What one stack can write, and of what."""

    stack: Stack
    folders: tuple[tuple[str, Path], ...]
    """What stands before a name in a place, and where the words and templates lie; the ones that go first first."""

    @property
    def below(self) -> "Inventory | None":
        """What there would be without the uppermost layer."""
        return Inventory(self.stack.below, self.folders[1:]) if self.stack.below else None

    def is_same(self, other: "Inventory | None") -> bool:
        """Tell whether it writes the same mails as another one, read before or after."""
        return other is not None and self.stack.content == other.stack.content

    @property
    def kinds(self) -> Mapping[str, tuple[str, ...]]:
        """Every kind that there are words or a template of Logto's for, and its languages."""
        stack = self.stack
        imported = {kind: dict.fromkeys(stack.languages_of_imported(kind)) for kind in stack.logto}
        return dict(stack.kinds) | {
            kind: tuple(dict.fromkeys(stack.kinds.get(kind, ())) | tags) for kind, tags in imported.items() if tags
        }

    @property
    def sources(self) -> Mapping[str, Source]:
        """The Jinja templates by name, as they lie over each other."""
        return self.stack.sources

    def level(self, name: str) -> int:
        """Return how high the layer is that a Jinja template comes from; 0: it came with Mailroom."""
        return self.stack.levels.get(name, 0)

    def ingredients(self, message: Message) -> Ingredients:
        """Return what a message is made of; of nothing, if there is nothing for it."""
        found = self.stack.find(message)
        if found is None:
            return Ingredients((), {})
        if isinstance(found, Imported):
            return Ingredients((found.template.place,), {})
        fixed = {key: text.replace("{", "{{").replace("}", "}}") for key, text in found.fixed.items()}
        templates = tuple(page.name for page in (found.html, found.text) if page)
        return Ingredients(templates, {**fixed, **found.open}, found.locale.direction)
