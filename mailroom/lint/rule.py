"""A rendered mail as input of the rules, and their result."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

from mailroom.lint.samples import Sample
from mailroom.message import Email, Message
from mailroom.rendering.inventory import MailSources

if TYPE_CHECKING:
    from mailroom.lint.html import HtmlPage, QuickPage


@dataclass(frozen=True)
class RenderedMail:
    """A rendered mail and its sources. Not slotted, because it caches the parsed page."""

    kind: str
    language: str
    sample: Sample
    message: Message
    email: Email
    mail_sources: MailSources
    domains: frozenset[str]
    """Domains that mail may be sent from."""
    link_schemes: frozenset[str] = frozenset()
    """Schemes that links may have, in addition to https."""

    @cached_property
    def page(self) -> "HtmlPage":
        """The HTML, parsed as browsers do."""
        from mailroom.lint.html import HtmlPage  # noqa: PLC0415 - servers do not need the parser

        return HtmlPage(self.email.html)

    @cached_property
    def quick_page(self) -> "QuickPage":
        """The HTML, parsed quickly: for rules about texts, which are applied to every mail."""
        from mailroom.lint.html import QuickPage  # noqa: PLC0415 - likewise

        return QuickPage(self.email.html)


@dataclass(frozen=True, slots=True)
class Violation:
    """A violation in one mail; the linter adds the mail and the template's line."""

    check: int
    problem: str
    remedy: str
    """How to fix it in a Jinja template."""
    html: str = ""
    """The line of the rendered HTML or text that is concerned."""
    translation: str = ""
    """The key of the translation that is concerned."""
    is_warning: bool = False
    logto_remedy: str = ""
    """How to fix it in a Logto template, if that differs."""


Rule: TypeAlias = Callable[[RenderedMail], Iterator[Violation]]
