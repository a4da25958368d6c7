"""Checks 1 and 2: the mail can be rendered and shows its code or link. Needs no HTML parser."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from html import unescape
from typing import Final

from mailroom.errors import RenderingError
from mailroom.lint import Finding
from mailroom.lint.rule import RenderedMail, Violation
from mailroom.lint.samples import Sample, message
from mailroom.message import Address, Payload
from mailroom.rendering.inventory import Inventory, MailSources
from mailroom.rendering.links import address
from mailroom.rendering.overlay import Owner
from mailroom.rendering.renderer import TemplateRenderer
from mailroom.rendering.sanitize import code

_TAGS: Final = re.compile(r"<style.*?</style>|<[^>]*>", re.DOTALL | re.IGNORECASE)
_SPACE: Final = re.compile(r"\s+")
_PLACE: Final = re.compile(r"([\w./-]+\.(?:jinja|toml))(?:, line (\d+))?: (.*)", re.DOTALL)
_REMEDY: Final = "fix it; until then such messages are held, and their codes are not sent"


@dataclass(frozen=True, slots=True)
class LintContext:
    """The renderer under test, with sender and owner."""

    renderer: TemplateRenderer
    sender: Address
    reply_to: Address | None = None
    domains: frozenset[str] = frozenset()
    """Domains that mail may be sent from, in addition to the sender's."""
    owner: Owner | None = None
    """The application or organization whose templates are tested; None: those of all other mails."""

    @property
    def inventory(self) -> Inventory:
        """The mails that can be rendered."""
        return self.renderer.inventory(self.owner.payload if self.owner else {})

    def mail_sources(self, kind: str, language: str) -> MailSources:
        """Return the templates and translations of such a mail."""
        return self.inventory.mail_sources(message(kind, Sample.FULL, language, owner=self.owner))

    def render(
        self, kind: str, language: str, sample: Sample, changed_payload: Payload | None = None
    ) -> RenderedMail | Finding:
        """Render one mail, or return check 1's finding. `changed_payload` replaces the sample's payload."""
        request = message(kind, sample, language, changed_payload, self.owner)
        try:
            email = self.renderer.render(request, sender=self.sender, reply_to=self.reply_to)
        except RenderingError as error:
            return render_failure(error, (kind,), (language,), (sample.value,))
        sender_domain = self.sender.email.rpartition("@")[2].lower()
        mail_sources = self.renderer.inventory(request.payload).mail_sources(request)
        domains, schemes = self.domains | {sender_domain}, self.renderer.link_schemes
        return RenderedMail(kind, language, sample, request, email, mail_sources, domains, schemes)


def render_failure(
    error: RenderingError,
    kinds: tuple[str, ...] = (),
    languages: tuple[str, ...] = (),
    samples: tuple[str, ...] = (),
) -> Finding:
    """Return check 1's finding for an error of the renderer, with the file and line in its text."""
    text = str(error)
    place = _PLACE.match(text)
    file, line, problem = place.groups() if place else ("", None, text)
    return Finding(1, problem, _REMEDY, kinds, languages, samples, file, int(line) if line else None)


def check_code_and_link(mail: RenderedMail) -> Iterator[Violation]:
    """Check 2."""
    email, payload = mail.email, mail.message.payload
    if mail.sample is Sample.HOSTILE:
        return
    if secret := code(payload.get("code")):
        # Check 18 tests that it is not split by markup.
        if email.html and secret not in _SPACE.sub("", unescape(_TAGS.sub("", email.html))):
            yield _missing("code", "HTML")
        if email.text.strip() and secret not in _SPACE.sub("", email.text):
            yield _missing("code", "text")
    if href := address(payload.get("link")):
        if email.html and href not in unescape(email.html):
            yield _missing("link", "HTML")
        if email.text.strip() and href not in email.text:
            yield _missing("link", "text")


def _missing(name: str, part: str) -> Violation:
    remedy = f"print {{{{ {name} }}}} in {part.lower()}.jinja, or in a template that it includes"
    logto_remedy = f"write {{{{{name}}}}} into the {part}"
    problem = f"the payload has a {name}, and the {part} does not show it"
    return Violation(2, problem, remedy, logto_remedy=logto_remedy)
