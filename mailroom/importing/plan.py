"""The result of an import as plain data: template files, providers, and what was left out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from mailroom.text import printable

_LONGEST: Final = 500
"""Characters of a text in the log."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Something that was not imported."""

    source: str
    """The file or URL that contains it."""
    what: str
    why: str
    remedy: str
    """What the operator can do."""


@dataclass(frozen=True, slots=True)
class Note:
    """A remark about something imported."""

    source: str
    text: str


@dataclass(frozen=True, slots=True)
class ImportLog:
    """Collects what is left out, and notes. Texts are escaped and bounded: they may quote the imported JSON."""

    left_out: list[LeftOut] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)

    def leave_out(self, source: str, what: str, why: str, remedy: str) -> None:
        """Record what is not imported. No argument may contain a secret."""
        self.left_out.append(LeftOut(*(printable(text[:_LONGEST]) for text in (source, what, why, remedy))))

    def note(self, source: str, text: str) -> None:
        """Record a note."""
        self.notes.append(Note(printable(source[:_LONGEST]), printable(text[:_LONGEST])))


@dataclass(frozen=True, slots=True)
class Connector:
    """One of Logto's email connectors."""

    source: str
    type: str
    """The type of our provider for it: `smtp`, `ses` …"""
    config: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class TemplateRow:
    """A row of Logto's `/api/email-templates`, not validated."""

    source: str
    columns: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class LogtoTemplate:
    """A validated template of Logto's."""

    source: str
    kind: str
    """One of `logto.MESSAGE_TYPES`."""
    tag: str
    """The language, as Logto writes it; `default` where it has none."""
    subject: str
    html: str | None = field(repr=False)
    text: str | None = field(repr=False)
    content_type: str | None = None
    """As Logto gave it; without one it is HTML."""
    reply_to: str | None = None
    send_from: str | None = None


OVERLAY: Final = "logto"
"""The subfolder of a mail's folder for templates with Logto's placeholders."""


@dataclass(frozen=True, slots=True)
class OverlayFile:
    """A file of the operator's templates folder."""

    kind: str
    name: str
    content: bytes = field(repr=False)

    @property
    def path(self) -> str:
        """Its path below the templates folder."""
        return f"{self.kind}/{OVERLAY}/{self.name}"


@dataclass(frozen=True, slots=True)
class ProviderPlan:
    """A provider to configure."""

    source: str
    name: str
    settings: Mapping[str, Any]
    """Its table in the TOML file, `type` first; neither `from` nor secrets."""
    secrets: Mapping[str, str] = field(repr=False)
    """Setting (`password`, `oauth2.refresh_token`) → value, for the environment file."""
    sender: str | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What an import would write."""

    files: tuple[OverlayFile, ...]
    providers: tuple[ProviderPlan, ...]
    reply_to: str | None
