"""Writes a message with templates: the words of the reader's language in the layout, as finished bytes.

A kind of mail is a table of words in `locales/<tag>.toml` and, where it looks like no other, a folder `<Kind>/` with
`html.jinja` and `text.jinja`. Without a folder it looks like `Generic`; a type of Logto's that has no words either is
written as `Generic`. Over all of it lies what the operator has (`overlay`).
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
from mailroom.message import Address, Email, Message, Payload
from mailroom.rendering import Brand, mime
from mailroom.rendering.colors import palette
from mailroom.rendering.draft import Draft, House, by_jinja, by_logto
from mailroom.rendering.edition import Edition
from mailroom.rendering.inert import code
from mailroom.rendering.inventory import Inventory, Owner
from mailroom.rendering.locales import choose
from mailroom.rendering.overlay import Overlay, Stamp, bundled, read, stamp
from mailroom.rendering.stack import Imported, Kind, Kit, Stack

BUNDLED: Final = Path(__file__).parents[2] / "templates" / "mails"

_SANS: Final = "-apple-system,BlinkMacSystemFont,'Segoe UI',Roboto,Helvetica,Arial,sans-serif"
_MONO: Final = "ui-monospace,SFMono-Regular,Menlo,Consolas,'Liberation Mono',monospace"


_LOOK_SECONDS: Final = 0.5
"""How often to look whether the overlay has changed. It is read at the second look, so within a second."""

log = structlog.get_logger()


def log_fault(fault: Fault) -> None:
    """Say in the log what is wrong with an operator's template."""
    log.error("template.faulty", place=fault.path, problem=fault.problem)


class TemplateWriter:
    """Writes mails with the bundled templates and an operator's over them; all is parsed before. Safe in any thread."""

    def __init__(
        self,
        *,
        brand: Brand,
        code_lifetime: timedelta,
        message_id_domain: str,
        default_locale: str = "en",
        sender_domains: Collection[str] = (),
        overlay: Path | None = None,
        tell: Callable[[Fault], None] = log_fault,
        templates: Path = BUNDLED,
    ) -> None:
        """Read everything; a fault in the overlay is told, and what lies below stands in.

        `sender_domains` are those that a template may send from, beside its sender's own. Raises RenderingError, with
        file and line, for bundled templates or a default locale that cannot be used.
        """
        self._domain = message_id_domain
        self._house = House(brand, frozenset(domain.lower() for domain in sender_domains), self._tell)
        self._folder = overlay
        self._templates = templates
        self._complain = tell
        self._minutes = max(1, int(code_lifetime.total_seconds() // 60))
        constants = {
            "brand": brand.model_dump(),
            "colors": asdict(palette(brand.color)),
            "sans": _SANS,
            "mono": _MONO,
        }
        self._kit = Kit(constants, default_locale)
        self._base = Stack(bundled(templates, minutes=self._minutes), self._kit)
        self._known: Collection[Fault] = ()
        """What was told of the overlay as it was before."""
        self._told: dict[Fault, None] = {}
        self._changing: Stamp | None = None
        self._edition = self._read(None)

    @property
    def faults(self) -> tuple[Fault, ...]:
        """What is wrong with the overlay: found when it was read, and by mails that could not be written with it."""
        return tuple(self._told)

    @property
    def owners(self) -> tuple[Owner, ...]:
        """The applications and organizations that have templates of their own."""
        return self._edition.owners

    def inventory(self, payload: Payload) -> Inventory:
        """Return what mails with such a payload are made of: `{}` for those of nobody with templates of their own."""
        edition = self._edition
        stack = edition.stacks(payload)[0]
        folders = [("", self._templates)]
        if top := self._folder:
            owners = edition.owners_of(payload)
            own = [(f"{top.name}/{owner.folder}/", top / owner.folder) for owner in owners]
            folders = [*own, (f"{top.name}/", top), *folders]
        return Inventory(stack, tuple(folders[-stack.level - 1 :]))

    async def wait_for_change(self, clock: Clock) -> None:
        """Return after the overlay has changed and was read anew, in a thread."""
        while not await asyncio.to_thread(self.refresh):
            await clock.sleep(_LOOK_SECONDS)

    def refresh(self) -> bool:
        """Read the overlay anew if it has changed, and has not since the last look; tell whether it was read.

        So a file that is being written is not read by half. What has a fault stays as it last was.
        """
        before = self._edition.overlay
        if not self._folder or before is None:
            return False
        now = stamp(self._folder)
        settled, self._changing = now == self._changing, now
        if now == before.stamp or not settled:
            return False
        try:
            self._edition = self._read(before)
        except RenderingError as error:
            self._tell(error)
            return False
        log.info("templates.read", folder=str(self._folder), faults=len(self._edition.faults))
        return True

    def _read(self, before: Overlay | None) -> Edition:
        overlay = read(self._folder, minutes=self._minutes, before=before) if self._folder else None
        edition = Edition(self._base, overlay, self._kit.copy())
        self._known, self._told = self._told, dict.fromkeys(edition.faults)
        for fault in edition.faults:
            if fault not in self._known:
                self._complain(fault)
        return edition

    def _tell(self, error: RenderingError) -> None:
        """Tell a fault once."""
        place, _, problem = str(error).partition(": ")
        fault = Fault(place, problem)
        if fault not in self._told and len(self._told) < _MOST_TOLD:
            self._told[fault] = None
            if fault not in self._known:
                self._complain(fault)

    def write(
        self, message: Message, *, sender: Address, reply_to: Address | None, template_at_provider: str = ""
    ) -> Email:
        """Write the mail; the same arguments always give the same bytes.

        Raises RenderingError (the operator can mend it) or MissingVariable (a code's request lacks the code).
        """
        try:
            recipient = ascii_form(message.recipient)
        except ValueError:
            raise RenderingError("the recipient is no address") from None
        if message.is_code and not code(message.payload.get("code")):
            raise MissingVariable(f"{message.template[:60]}: the payload has no code that could be shown")
        if not template_at_provider:
            return self._email(message, recipient, self._drafted(message, sender, reply_to))
        try:
            draft = self._drafted(message, sender, reply_to)
        except RenderingError:  # the provider has the words
            language = choose(message.languages, self._edition.root.tags, self._edition.root.default)
            draft = Draft("", "", "", language, sender, reply_to)
        variables = {"locale": draft.language, **message.payload}
        email = self._email(message, recipient, draft)
        return replace(email, template_at_provider=template_at_provider, variables=variables)

    def _drafted(self, message: Message, sender: Address, reply_to: Address | None) -> Draft:
        """Return what the mail says, by the best templates that work."""
        edition = self._edition
        first: RenderingError | None = None
        for stack in edition.stacks(message.payload):
            try:
                return self._draft(stack, message, sender, reply_to)
            except MissingVariable:
                raise
            except RenderingError as error:
                first = first or error
                if stack is not edition.base:
                    self._tell(error)
        assert first  # there is always a stack
        raise first

    def _draft(self, stack: Stack, message: Message, sender: Address, reply_to: Address | None) -> Draft:
        found = self._found(stack, message)
        if isinstance(found, Imported):
            return by_logto(found, message, house=self._house, sender=sender, reply_to=reply_to)
        return by_jinja(found, message, house=self._house, sender=sender, reply_to=reply_to)

    def _found(self, stack: Stack, message: Message) -> Kind | Imported:
        if found := stack.find(message):
            return found
        raise RenderingError(f"locales/{stack.default}.toml has no words for [{message.template[:60]}]")

    def _email(self, message: Message, recipient: str, draft: Draft) -> Email:
        message_id = f"<{message.id}@{self._domain}>"
        headers = (("Content-Language", draft.language), *_AUTOMATIC, ("X-Entity-Ref-ID", message.id))
        raw = mime.serialize(
            sender=draft.sender,
            recipient=recipient,
            reply_to=draft.reply_to,
            subject=draft.subject,
            date=message.created_at,
            message_id=message_id,
            headers=headers,
            text=draft.text,
            html=draft.html,
            boundary=message.id,
        )
        return Email(
            id=message.id,
            message_id=message_id,
            sender=draft.sender,
            recipient=recipient,
            reply_to=draft.reply_to,
            subject=draft.subject,
            html=draft.html,
            text=draft.text,
            headers=headers,
            language=draft.language,
            template=message.template,
            raw=raw,
        )


_AUTOMATIC: Final = (
    # RFC 3834; and Exchange's own word for it: no out-of-office answers.
    ("Auto-Submitted", "auto-generated"),
    ("X-Auto-Response-Suppress", "OOF, AutoReply"),
)

_MOST_TOLD: Final = 200
