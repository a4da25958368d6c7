"""One written mail under the eyes of the checks, and what they say of it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

from mailroom.checking.samples import Sample
from mailroom.message import Email, Message
from mailroom.rendering.inventory import Ingredients

if TYPE_CHECKING:
    from mailroom.checking.page import Page


@dataclass(frozen=True)
class Mail:
    """A mail and what it was made of. Not slotted: it keeps its parsed page."""

    kind: str
    language: str
    sample: Sample
    message: Message
    email: Email
    ingredients: Ingredients
    domains: frozenset[str]
    """From which mail may be sent."""

    @cached_property
    def page(self) -> "Page":
        """The HTML, parsed once for all checks."""
        from mailroom.checking.page import Page  # noqa: PLC0415 - a server's start needs no parser

        return Page(self.email.html)


@dataclass(frozen=True, slots=True)
class Complaint:
    """What a check says of a mail; `running` adds which mail it was, and finds the template's line."""

    check: int
    problem: str
    remedy: str
    html: str = ""
    """A line of the rendered HTML (or text) in which it shows."""
    word: str = ""
    """The key of the words in which it shows."""
    is_warning: bool = False


Check: TypeAlias = Callable[[Mail], Iterator[Complaint]]


def excerpt(text: str, longest: int = 40) -> str:
    """Return the beginning of a text on one line, for a finding."""
    line = " ".join(text.split())
    return line if len(line) <= longest else line[: longest - 1].rstrip() + "…"
