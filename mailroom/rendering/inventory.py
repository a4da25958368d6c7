"""Lists which mails the template layers can render, and from which files; for `check` and `preview`."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mailroom.message import Message
from mailroom.rendering.layers import ImportedTemplate, Layers


@dataclass(frozen=True, slots=True)
class MailSources:
    """The templates and translations of one kind of mail in one language."""

    templates: tuple[str, ...]
    """Names of the rendered templates, without those they extend or include; for a Logto template its file."""
    translations: Mapping[str, str]
    """Key -> text with its placeholders."""
    direction: str = ""
    """Writing direction, `ltr` or `rtl`; empty for a Logto template."""
    is_logto: bool = False
    """Whether the mail is rendered from a Logto template."""


@dataclass(frozen=True, slots=True)
class Inventory:
    """The mails that a template layer and those below it can render."""

    layers: Layers
    folders: tuple[tuple[str, Path], ...]
    """(prefix of file names in messages, folder) of each layer, the uppermost first."""

    @property
    def below(self) -> "Inventory | None":
        """The inventory without the uppermost layer."""
        return Inventory(self.layers.below, self.folders[1:]) if self.layers.below else None

    def is_same(self, other: "Inventory | None") -> bool:
        """Return whether both inventories render the same mails."""
        return other is not None and self.layers.content == other.layers.content

    @property
    def kinds(self) -> Mapping[str, tuple[str, ...]]:
        """Kind -> languages, for every kind that has translations or a Logto template."""
        kinds = dict(self.layers.kinds)
        for kind in self.layers.logto:
            if tags := self.layers.languages_of_imported(kind):
                kinds[kind] = tuple(dict.fromkeys((*kinds.get(kind, ()), *tags)))
        return kinds

    def mail_sources(self, message: Message) -> MailSources:
        """Return the templates and translations that a message is rendered from; empty if none match."""
        match = self.layers.find(message)
        if match is None:
            return MailSources((), {})
        if isinstance(match, ImportedTemplate):
            return MailSources((match.template.place,), {}, is_logto=True)
        fixed = {key: text.replace("{", "{{").replace("}", "}}") for key, text in match.fixed.items()}
        templates = tuple(template.name for template in (match.html, match.text) if template)
        return MailSources(templates, {**fixed, **match.patterns}, match.locale.direction)
