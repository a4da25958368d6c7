"""Makes what a mail says, by either engine: subject, HTML, text, and whom it is from if the template tells."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from mailroom.address import LONGEST_NAME, ascii_form, mailbox
from mailroom.errors import MissingVariable, RenderingError
from mailroom.message import Address, Message
from mailroom.rendering import Brand
from mailroom.rendering.identity import identify, person
from mailroom.rendering.inert import code, line, name
from mailroom.rendering.links import Link
from mailroom.rendering.logto import LogtoTemplate
from mailroom.rendering.markup import as_text, with_harmless_links, with_inline_style
from mailroom.rendering.placeholders import Template
from mailroom.rendering.stack import Imported, Kind

_BEYOND_ASCII: Final = "xmlcharrefreplace"


class Draft(msgspec.Struct, frozen=True):
    """What a mail says."""

    subject: str
    html: str
    """Empty: the mail is plain text."""
    text: str
    language: str
    sender: Address
    reply_to: Address | None


@dataclass(frozen=True, slots=True)
class House:
    """What all drafts need to know of the sender's side."""

    brand: Brand
    sender_domains: frozenset[str]
    """Which a template may send from, beside its sender's own."""
    link_schemes: frozenset[str]
    """Which links may have, beside http and https."""
    tell: Callable[[RenderingError], None]
    """Told of what in a template is not followed."""


def by_jinja(
    kind: Kind, message: Message, link: Link, *, house: House, sender: Address, reply_to: Address | None
) -> Draft:
    """Render a kind of mail. Raises RenderingError or MissingVariable."""
    locale = kind.locale
    payload = message.payload
    identity = identify(payload, house.brand, sender)
    # What has a meaning for us is inert before a template sees it; the rest of the payload is escaped and bounded.
    values = {
        "app": identity.app,
        "organization": identity.organization,
        "platform": identity.platform,
        "inviter": person(payload.get("inviter")),
        "name": person(payload.get("user")),
        "code": code(payload.get("code")),
        "recipient": message.recipient,
    }
    if not values["code"] and "{code}" in kind.subject:
        raise MissingVariable(f"{message.template[:60]}: the payload has no code that could be shown")
    shown = _isolated(values, locale.direction)
    words = {**kind.fixed, **{key: text.format_map(shown) for key, text in kind.open.items()}}
    variables: dict[str, Any] = {
        **payload,
        **values,
        "link": link.href,
        "link_text": link.text,
        "logo": identity.logo,
        "words": words,
        **locale.constants,
    }
    html = kind.html.render(variables)
    if kind.is_foreign:
        html = with_harmless_links(html, house.link_schemes)
    text = kind.text.render(variables) if kind.text else as_text(html)
    if kind.is_styled:
        html = _in_ascii(with_inline_style(html), like=html)
    return Draft(
        # Within a subject the code stays bare: phones look for it there, and digits begin no direction.
        subject=" ".join(kind.subject.format_map({**shown, "code": values["code"]}).split()) or identity.app,
        html=html,
        text=text,
        language=locale.tag,
        sender=sender,
        reply_to=reply_to,
    )


def by_logto(
    imported: Imported, message: Message, link: Link, *, house: House, sender: Address, reply_to: Address | None
) -> Draft:
    """Fill a template of Logto's, `sendFrom` and `replyTo` as Logto's SMTP connector does. Raises RenderingError."""
    template, payload = imported.template, message.payload
    if link.shown:
        payload = {**payload, "link": link.shown}
    if template.send_from:
        sender = _sender(template, template.send_from, message, house, sender)
    if template.reply_to:
        reply_to = _reply_to(template, template.reply_to, message, house) or reply_to
    try:
        return Draft(
            subject=template.filled_subject(payload) or identify(payload, house.brand, sender).app,
            html=template.filled_html(payload, house.link_schemes),
            text=template.filled_text(payload),
            language=imported.language,
            sender=sender,
            reply_to=reply_to,
        )
    except RecursionError:
        raise RenderingError(f"{template.place}: the payload is nested too deeply") from None


def _sender(template: LogtoTemplate, source: Template, message: Message, house: House, sender: Address) -> Address:
    """Return whom a template sends from: the whole From, or with an address of ours a name only, as SendGrid has it."""
    filled = line(source.fill(message.payload))
    if filled and "@" not in filled:
        return Address(sender.email, _display_name(filled, source))
    try:
        found = mailbox(filled)
        domain = _domain(found)
    except ValueError:
        house.tell(RenderingError(f"{template.place}: send_from is no mailbox; the provider's own `from` is used"))
        return sender
    if domain not in house.sender_domains and domain != _domain(sender):
        house.tell(
            RenderingError(f"{template.place}: send_from is of a domain that is not in sender_domains; `from` is used")
        )
        return sender
    return Address(found.email, _display_name(found.name, source))


def _reply_to(template: LogtoTemplate, source: Template, message: Message, house: House) -> Address | None:
    try:
        found = mailbox(line(source.fill(message.payload)))
        _domain(found)
    except ValueError:
        house.tell(RenderingError(f"{template.place}: reply_to is no mailbox; the general one is used"))
        return None
    return Address(found.email, _display_name(found.name, source))


def _domain(address: Address) -> str:
    """Return the domain in ASCII. Raises ValueError where it is no address for a header."""
    written = ascii_form(address.email)
    if not written.isascii():
        raise ValueError("a sender's local part beyond ASCII goes only where SMTPUTF8 is spoken")
    return written.rpartition("@")[2].lower()


def _display_name(text: str, source: Template) -> str:
    """Return a name for a header; one that a stranger has a part in is made harmless first."""
    return (name(text) if source.placeholders else text)[:LONGEST_NAME].strip()


def _in_ascii(html: str, *, like: str) -> str:
    """Return HTML with the character references that css-inline has read, if there were nothing else before."""
    return html.encode("ascii", _BEYOND_ASCII).decode() if like.isascii() else html


def _isolated(values: Mapping[str, str], direction: str) -> Mapping[str, str]:
    """Return the values as words of their own direction (UAX 9) wherever it may not be that of the sentence."""
    if direction == "rtl":
        return {key: f"\u2068{value}\u2069" if value else value for key, value in values.items()}
    return {
        key: value if value.isascii() or not _RIGHT_TO_LEFT.search(value) else f"\u2068{value}\u2069"
        for key, value in values.items()
    }


_RIGHT_TO_LEFT: Final = re.compile(
    "[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefe\U00010800-\U00010fff\U0001e800-\U0001efff]"
)
"""The blocks of Hebrew, Arabic, Syriac, Thaana, Adlam and the rest (DerivedBidiClass.txt: R, AL)."""
