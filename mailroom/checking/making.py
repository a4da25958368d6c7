"""Checks 1 and 2: whether a mail can be written at all, and says what it exists for. Needs no parser."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from html import unescape
from typing import Final

from mailroom.checking import Finding
from mailroom.checking.mail import Complaint, Mail
from mailroom.checking.samples import Sample, message
from mailroom.errors import RenderingError
from mailroom.message import Address, Payload
from mailroom.rendering.inert import code, link
from mailroom.rendering.inventory import Ingredients, Inventory, Owner
from mailroom.rendering.writer import TemplateWriter

_TAGS: Final = re.compile(r"<style.*?</style>|<[^>]*>", re.DOTALL | re.IGNORECASE)
_SPACE: Final = re.compile(r"\s+")
_PLACE: Final = re.compile(r"(?P<file>[\w./-]+\.(?:jinja|toml))(?:, line (?P<line>\d+))?: (?P<problem>.*)", re.DOTALL)
_CANNOT: Final = "mend it; until then such a message is held, and nobody gets its code"


@dataclass(frozen=True, slots=True)
class Desk:
    """Who writes, from where, and for whom."""

    writer: TemplateWriter
    sender: Address
    reply_to: Address | None = None
    domains: frozenset[str] = frozenset()
    """From which mail may be sent, beside the sender's own."""
    owner: Owner | None = None
    """The application or organization whose templates are tried; None: everybody's."""

    @property
    def inventory(self) -> Inventory:
        """What it can write."""
        return self.writer.inventory(self.owner.payload if self.owner else {})

    def ingredients(self, kind: str, language: str) -> Ingredients:
        """Return what it would write such a mail of."""
        return self.inventory.ingredients(message(kind, Sample.FULL, language, owner=self.owner))

    def mail(self, kind: str, language: str, sample: Sample, given: Payload | None = None) -> Mail | Finding:
        """Write one mail; check 1 where that fails. `given` overrules the sample's payload."""
        asked = message(kind, sample, language, given, self.owner)
        try:
            email = self.writer.write(asked, sender=self.sender, reply_to=self.reply_to)
        except RenderingError as error:
            return unwritable(error, (kind,), (language,), (sample.value,))
        own = self.sender.email.rpartition("@")[2].lower()
        ingredients = self.writer.inventory(asked.payload).ingredients(asked)
        return Mail(kind, language, sample, asked, email, ingredients, self.domains | {own})


def unwritable(
    error: RenderingError,
    kinds: tuple[str, ...] = (),
    languages: tuple[str, ...] = (),
    samples: tuple[str, ...] = (),
) -> Finding:
    """Return check 1's finding for what the writer raised, with the file and line that it names."""
    told = str(error)
    place = _PLACE.match(told)
    if not place:
        return Finding(1, told, _CANNOT, kinds, languages, samples)
    line = int(place["line"]) if place["line"] else None
    return Finding(1, place["problem"], _CANNOT, kinds, languages, samples, place["file"], line)


def has_what_it_is_for(mail: Mail) -> Iterator[Complaint]:
    """Check 2."""
    email, payload = mail.email, mail.message.payload
    if mail.sample is Sample.HOSTILE:
        return
    if secret := code(payload.get("code")):
        # Whether it can be copied in one piece is for check 18.
        if secret not in _SPACE.sub("", unescape(_TAGS.sub("", email.html))):
            yield _lacks("code", "HTML")
        if email.text.strip() and secret not in _SPACE.sub("", email.text):
            yield _lacks("code", "text")
    if address := link(payload.get("link")):
        if address not in unescape(email.html):
            yield _lacks("link", "HTML")
        if email.text.strip() and address not in email.text:
            yield _lacks("link", "text")


def _lacks(name: str, part: str) -> Complaint:
    remedy = f"print {{{{ {name} }}}} in {part.lower()}.jinja, or in a part that it includes"
    return Complaint(2, f"the payload has a {name}, and the {part} does not show it", remedy)
