"""Renders messages with the bundled templates and the operator's overlay.

A kind of mail is a table of translations in `locales/<tag>.toml` and, optionally, a folder `<Kind>/` with `html.jinja`
and `text.jinja`; without one `Generic`'s templates are used. Logto types without translations become `Generic`.

    renderer = TemplateRenderer(brand=brand, code_lifetime=timedelta(minutes=10), message_id_domain="acme.example")
    email = renderer.render(message, sender=sender, reply_to=None)
"""

import asyncio
from collections.abc import Callable, Collection
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Final

import structlog
from msgspec.structs import replace

from mailroom.address import ascii_form
from mailroom.clock import Clock
from mailroom.errors import Fault, MissingVariable, RenderingError
from mailroom.logto import CODE_VARIABLES, EVENT_VARIABLES, INVITATION_VARIABLES, complete
from mailroom.message import Address, Email, Message, Payload, Priority
from mailroom.rendering import Brand, mime
from mailroom.rendering.background import submit
from mailroom.rendering.colors import palette
from mailroom.rendering.content import Content, SenderRules, render_jinja, render_logto
from mailroom.rendering.inventory import Inventory
from mailroom.rendering.languages.negotiation import choose
from mailroom.rendering.layers import ImportedTemplate, Layers, TemplateParts
from mailroom.rendering.links import LONGEST_LINK, Link, is_given, link
from mailroom.rendering.overlay import FileStamp, Overlay, Owner, bundled, read, stamp, to_fault
from mailroom.rendering.purpose import shows_code, shows_link
from mailroom.rendering.sanitize import code
from mailroom.rendering.template_set import TemplateSet

BUNDLED: Final = Path(__file__).parents[2] / "templates" / "mails"

_SANS: Final = "-apple-system,BlinkMacSystemFont,'Segoe UI',Roboto,Helvetica,Arial,sans-serif"
_MONO: Final = "ui-monospace,SFMono-Regular,Menlo,Consolas,'Liberation Mono',monospace"

_POLL_SECONDS: Final = 0.5
"""Interval of checks for a changed overlay. It is read at the second check, so within a second."""
_MAX_REPORTED: Final = 200
_AUTOMATIC_HEADERS: Final = (
    # RFC 3834, and Exchange's equivalent: suppress out-of-office replies.
    ("Auto-Submitted", "auto-generated"),
    ("X-Auto-Response-Suppress", "OOF, AutoReply"),
)

_VARIABLES: Final = {
    Priority.CODE: CODE_VARIABLES,
    Priority.INVITATION: INVITATION_VARIABLES,
    Priority.EVENT: EVENT_VARIABLES,
}
"""The variables that a template at the provider always has."""

log = structlog.get_logger()


def log_fault(fault: Fault) -> None:
    """Log a fault in an operator's template."""
    log.error("template.faulty", place=fault.path, problem=fault.problem)


class TemplateRenderer:
    """Renders mails with preloaded templates. Thread-safe."""

    def __init__(
        self,
        *,
        brand: Brand,
        code_lifetime: timedelta,
        message_id_domain: str,
        default_locale: str = "en",
        sender_domains: Collection[str] = (),
        link_schemes: Collection[str] = (),
        overlay: Path | None = None,
        on_fault: Callable[[Fault], None] = log_fault,
        templates: Path = BUNDLED,
    ) -> None:
        """Load all templates. Each fault in the overlay is passed to `on_fault`, and the layer below is used instead.

        `sender_domains`: domains that templates may send from, in addition to the sender's. `link_schemes`: allowed in
        links in addition to http and https. Raises RenderingError for faulty bundled templates or an unknown locale.
        """
        self._message_id_domain = message_id_domain
        domains = frozenset(domain.lower() for domain in sender_domains)
        self._rules = SenderRules(brand, domains, frozenset(link_schemes), self._report)
        self._reply_to = Address(brand.support_email) if brand.support_email else None
        """Used for mails without another Reply-To."""
        self._folder = overlay
        self._templates = templates
        self._on_fault = on_fault
        self._minutes = max(1, int(code_lifetime.total_seconds() // 60))
        constants = {
            "brand": brand.model_dump(),
            "colors": asdict(palette(brand.color)),
            "sans": _SANS,
            "mono": _MONO,
        }
        self._parts = TemplateParts(constants, default_locale)
        self._base = Layers(bundled(templates, minutes=self._minutes), self._parts)
        self._reported_before: Collection[Fault] = ()
        """Faults reported before the last reload, in files that it did not change: they are not reported again."""
        self._reported: dict[Fault, None] = {}
        self._unsettled_stamp: FileStamp | None = None
        self.version = 0
        """Incremented each time the overlay was reloaded."""
        self._template_set = self._load(None)

    @property
    def faults(self) -> tuple[Fault, ...]:
        """Faults of the overlay, found on loading and on rendering."""
        return tuple(self._reported)

    @property
    def link_schemes(self) -> frozenset[str]:
        """The schemes that links may have, in addition to http and https."""
        return self._rules.link_schemes

    @property
    def file_faults(self) -> frozenset[Fault]:
        """Those of the faults that were found on loading; such a file is replaced by its last valid version."""
        return frozenset(self._template_set.faults)

    @property
    def owners(self) -> tuple[Owner, ...]:
        """The applications and organizations that have templates of their own."""
        return self._template_set.owners

    def inventory(self, payload: Payload) -> Inventory:
        """Return the kinds and templates for mails with this payload; `{}` selects no owner's templates."""
        template_set = self._template_set
        layers = template_set.candidates(payload)[0]
        folders = [("", self._templates)]
        if top := self._folder:
            owners = template_set.owners_of(payload)
            own = [(f"{top.name}/{owner.folder}/", top / owner.folder) for owner in owners]
            folders = [*own, (f"{top.name}/", top), *folders]
        return Inventory(layers, tuple(folders[-layers.level - 1 :]))

    async def wait_for_change(self, clock: Clock) -> None:
        """Return after the overlay has changed and was reloaded (in a thread)."""
        while not await asyncio.wrap_future(submit(self.refresh)):
            await clock.sleep(_POLL_SECONDS)

    def refresh(self) -> bool:
        """Reload the overlay if it has changed, but not since the last call; return whether it was reloaded.

        Waiting for a second call avoids reading half-written files. Faulty files keep their last valid version.
        """
        previous = self._template_set.overlay
        if not self._folder or previous is None:
            return False
        now = stamp(self._folder)
        settled, self._unsettled_stamp = now == self._unsettled_stamp, now
        if now == previous.stamp or not settled:
            return False
        try:
            self._template_set = self._load(previous)
        except RenderingError as error:
            self._report(error)
            return False
        self.version += 1
        log.info("templates.read", folder=str(self._folder), faults=len(self._template_set.faults))
        return True

    def _load(self, previous: Overlay | None) -> TemplateSet:
        overlay = read(self._folder, minutes=self._minutes, before=previous) if self._folder else None
        parts = self._parts.for_reload()
        template_set = TemplateSet(self._base, overlay, parts)
        self._parts = parts
        changed = overlay.stamp ^ previous.stamp if overlay and previous else frozenset()
        places = {f"{self._folder.name}/{name}" for name, *_ in changed} if self._folder else set()
        self._reported_before = [one for one in self._reported if one.path.partition(", line ")[0] not in places]
        self._reported = dict.fromkeys(template_set.faults)
        for fault in template_set.faults:
            if fault not in self._reported_before:
                self._on_fault(fault)
        return template_set

    def _report(self, error: RenderingError) -> None:
        """Report a fault once."""
        fault = to_fault(error)
        if fault not in self._reported and len(self._reported) < _MAX_REPORTED:
            self._reported[fault] = None
            if fault not in self._reported_before:
                self._on_fault(fault)

    def render(
        self,
        message: Message,
        *,
        sender: Address,
        reply_to: Address | None,
        template_at_provider: str = "",
        auto_submitted: bool = True,
    ) -> Email:
        """Render the mail; equal arguments give equal bytes.

        Raises RenderingError (the operator can fix it) or MissingVariable (a code mail's payload lacks the code, or an
        invitation's link cannot be shown).
        """
        try:
            recipient = ascii_form(message.recipient)
        except ValueError:
            raise RenderingError("the recipient is not a valid address") from None
        if message.is_code and not code(message.payload.get("code")):
            raise MissingVariable(f"{message.template[:60]}: the payload has no code that could be shown")
        link = self._sanitize_link(message)
        reply_to = reply_to or self._reply_to
        try:
            content = self._render_content(message, link, sender, reply_to)
        except RenderingError:
            if not template_at_provider:
                raise
            # The content comes from the provider's template.
            root = self._template_set.root
            language = choose(message.languages, tuple(root.locales), root.default)
            content = Content("", "", "", language, sender, reply_to)
        email = self._build_email(message, recipient, content, auto_submitted=auto_submitted)
        if not template_at_provider:
            return email
        variables = {**message.payload, "locale": message.payload.get("locale") or content.language}
        if link.shown:
            variables["link"] = link.shown
        return replace(
            email,
            template_at_provider=template_at_provider,
            variables=complete(variables, _VARIABLES[message.priority]),
        )

    def _sanitize_link(self, message: Message) -> Link:
        """Return the sanitized link. Raises MissingVariable for an invitation's link that cannot be shown."""
        value = message.payload.get("link")
        sanitized = link(value, self._rules.link_schemes)
        if not sanitized.shown and message.priority is Priority.INVITATION and is_given(value):
            raise MissingVariable(
                f"{message.template[:60]}: the link cannot be shown: it is not a text, is longer than {LONGEST_LINK} "
                "characters, or has a scheme like javascript:"
            )
        return sanitized

    def _render_content(self, message: Message, link: Link, sender: Address, reply_to: Address | None) -> Content:
        """Render with the first layers that succeed."""
        template_set = self._template_set
        first: RenderingError | None = None
        for layers in template_set.candidates(message.payload):
            try:
                return self._render_with_layers(layers, message, link, sender, reply_to)
            except MissingVariable:
                raise
            except RenderingError as error:
                first = first or error
                if layers is not template_set.base:
                    self._report(error)
        assert first  # there is always at least one candidate
        raise first

    def _render_with_layers(
        self, layers: Layers, message: Message, link: Link, sender: Address, reply_to: Address | None
    ) -> Content:
        """Render with these layers. Raises RenderingError also if an operator's template does not show code or link."""
        template = layers.find(message)
        if template is None:
            raise RenderingError(f"locales/{layers.default}.toml has no translations for [{message.template[:60]}]")
        if isinstance(template, ImportedTemplate):
            place = template.template.place
            content = render_logto(template, message, link, rules=self._rules, sender=sender, reply_to=reply_to)
        else:
            place = template.place
            content = render_jinja(template, message, link, rules=self._rules, sender=sender, reply_to=reply_to)
            if not template.uses_overlay:
                return content
        if missing := _missing_variable(content, message, link):
            raise RenderingError(f"{place}: the mail does not show its {missing}, so another template is used")
        return content

    def _build_email(self, message: Message, recipient: str, content: Content, *, auto_submitted: bool) -> Email:
        automatic = _AUTOMATIC_HEADERS if auto_submitted else ()
        headers = (("Content-Language", content.language), *automatic, ("X-Entity-Ref-ID", message.id))
        email = Email(
            id=message.id,
            message_id=f"<{message.id}@{self._message_id_domain}>",
            sender=content.sender,
            recipient=recipient,
            reply_to=content.reply_to,
            subject=content.subject,
            html=content.html,
            text=self._with_code_line(content.text, message),
            headers=headers,
            language=content.language,
            template=message.template,
            raw=b"",
            is_code=message.is_code,
        )
        return replace(email, raw=mime.serialize(email, message.created_at))

    def _with_code_line(self, text: str, message: Message) -> str:
        """Return the text with a code that is bound to `code_domain`, if there is one, as its last line.

        The code is one word. Sources: https://wicg.github.io/sms-one-time-codes/, and
        https://developer.apple.com/documentation/security/enabling-autofill-for-domain-bound-sms-codes.
        """
        domain, shown = self._rules.brand.code_domain, code(message.payload.get("code"))
        if not domain or not message.is_code or " " in shown:
            return text
        return f"{text.rstrip()}\n\n@{domain} #{shown}\n"


def _missing_variable(content: Content, message: Message, link: Link) -> str:
    """Return the required variable (code or link) that the mail does not show, or an empty string."""
    if message.is_code:
        return "" if shows_code(content, code(message.payload.get("code"))) else "code"
    if message.priority is Priority.EVENT or not link.shown or shows_link(content, link.shown):
        return ""
    return "link" if link.href else "link_text (the payload's link is not a valid URL)"
