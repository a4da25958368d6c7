"""Renders a mail's content with Jinja or Logto templates: subject, HTML, text, and sender if the template sets one."""

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import Any, Final

import msgspec

from mailroom.address import LONGEST_NAME, ascii_form, mailbox
from mailroom.errors import MissingVariable, RenderingError
from mailroom.message import Address, Message, Payload, Priority
from mailroom.rendering import Brand
from mailroom.rendering.device import device
from mailroom.rendering.engines.logto_engine import LogtoTemplate
from mailroom.rendering.engines.markup import html_to_text, inline_css, neutralize_links
from mailroom.rendering.engines.placeholders import PLACEHOLDER, fill
from mailroom.rendering.identity import given_name, identify, person
from mailroom.rendering.languages.dates import DateFormat
from mailroom.rendering.layers import ImportedTemplate, MailTemplate
from mailroom.rendering.links import Link
from mailroom.rendering.sanitize import code, line, name


class Content(msgspec.Struct, frozen=True):
    """The content of a mail."""

    subject: str
    html: str
    """Empty if the mail is plain text."""
    text: str
    language: str
    sender: Address
    reply_to: Address | None


@dataclass(frozen=True, slots=True)
class SenderRules:
    """The brand, and which senders and links templates may use."""

    brand: Brand
    sender_domains: frozenset[str]
    """Domains that a template may send from, in addition to the sender's."""
    link_schemes: frozenset[str]
    """Schemes that links may have, in addition to http and https."""
    on_fault: Callable[[RenderingError], None]
    """Called with each instruction of a template that is not followed."""


def render_jinja(
    kind: MailTemplate, message: Message, link: Link, *, rules: SenderRules, sender: Address, reply_to: Address | None
) -> Content:
    """Render a kind of mail with Jinja. Raises RenderingError or MissingVariable."""
    locale = kind.locale
    payload = message.payload
    identity = identify(payload, rules.brand, sender)
    # These values are sanitized here; other payload fields are escaped and bounded when they are printed.
    values = {
        "app": identity.app,
        "organization": identity.app,
        "platform": identity.platform,
        "inviter": person(payload.get("inviter")),
        "name": (locale.greets_by_given_name and given_name(payload.get("user"))) or person(payload.get("user")),
        "code": code(payload.get("code")),
        **request_values(message, locale.dates),
    }
    if not values["code"] and "{code}" in kind.subject:
        raise MissingVariable(f"{message.template[:60]}: the payload has no code that could be shown")
    isolated = _isolate(values, locale.direction)
    translations = {**kind.fixed, **{key: text.format_map(isolated) for key, text in kind.patterns.items()}}
    variables: dict[str, Any] = {
        **payload,
        **values,
        "link": link.href,
        "link_text": link.text,
        "logo": identity.logo,
        "contact": rules.brand.support_email or (reply_to.email if reply_to else ""),
        "words": translations,
        **locale.constants,
    }
    html = kind.html.render(variables)
    if kind.uses_overlay:
        html = neutralize_links(html, rules.link_schemes)
    text = kind.text.render(variables) if kind.text else html_to_text(html)
    if kind.is_styled:
        html = _restore_references(inline_css(html), before=html)
    return Content(
        # No isolates around the code in a subject: phones search for it, and digits have no direction of their own.
        subject=" ".join(kind.subject.format_map({**isolated, "code": values["code"]}).split()) or identity.app,
        html=html,
        text=text,
        language=locale.tag,
        sender=sender,
        reply_to=reply_to,
    )


def request_values(message: Message, dates: DateFormat) -> dict[str, str]:
    """Return the variables of every template that tell who asked for the mail, when, from where and with what."""
    # An event without an ip comes from the operator's own program, whose name would tell the reader nothing.
    is_invitation = message.priority is Priority.INVITATION
    return {
        "recipient": message.recipient,
        "requested_at": dates.format_time(message.created_at),
        "ip": ip_address_text(message.ip),
        "device": device(message.payload.get("userAgent")) if message.ip else "",
        "valid_until": dates.format_date(message.expires_at) if is_invitation else "",
    }


def ip_address_text(value: object) -> str:
    """Return an IP address in its usual form; empty for other text, which callers can send behind some proxies."""
    if isinstance(value, str):
        for family in (AF_INET, AF_INET6):
            with suppress(OSError, ValueError):
                return inet_ntop(family, inet_pton(family, value))
    return ""


def render_logto(
    imported: ImportedTemplate,
    message: Message,
    link: Link,
    *,
    rules: SenderRules,
    sender: Address,
    reply_to: Address | None,
) -> Content:
    """Fill a Logto template; `sendFrom` and `replyTo` work as in Logto's SMTP connector. Raises RenderingError."""
    template = imported.template
    payload: Payload = {**request_values(message, imported.dates), **message.payload}
    payload = {**payload, **{name: ip_address_text(payload[name]) for name in ("ip", "userIp") if name in payload}}
    if link.shown:
        payload = {**payload, "link": link.shown}
    if template.send_from:
        sender = _template_sender(template, payload, rules, sender)
    if template.reply_to:
        reply_to = _template_reply_to(template, payload, rules) or reply_to
    try:
        return Content(
            subject=template.filled_subject(payload) or identify(payload, rules.brand, sender).app,
            html=template.filled_html(payload, rules.link_schemes),
            text=template.filled_text(payload),
            language=imported.language,
            sender=sender,
            reply_to=reply_to,
        )
    except RecursionError:
        raise RenderingError(f"{template.place}: the payload is nested too deeply") from None


def _template_sender(template: LogtoTemplate, payload: Payload, rules: SenderRules, sender: Address) -> Address:
    """Return a template's From; one without "@" is a display name only, as in Logto's SendGrid connector."""
    filled = line(fill(template.send_from, payload))
    if filled and "@" not in filled:
        return Address(sender.email, _display_name(filled, template.send_from))
    try:
        address = mailbox(filled)
        domain = _domain(address)
    except ValueError:
        rules.on_fault(RenderingError(f"{template.place}: send_from is not a mailbox; `from` is used"))
        return sender
    if domain not in rules.sender_domains and domain != _domain(sender):
        rules.on_fault(
            RenderingError(f"{template.place}: the domain of send_from is not in sender_domains; `from` is used")
        )
        return sender
    return Address(address.email, _display_name(address.name, template.send_from))


def _template_reply_to(template: LogtoTemplate, payload: Payload, rules: SenderRules) -> Address | None:
    try:
        address = mailbox(line(fill(template.reply_to, payload)))
        _domain(address)
    except ValueError:
        rules.on_fault(RenderingError(f"{template.place}: reply_to is not a mailbox; that of the settings is used"))
        return None
    return Address(address.email, _display_name(address.name, template.reply_to))


def _domain(address: Address) -> str:
    """Return the domain in ASCII. Raises ValueError for an address that cannot be in a header."""
    ascii_address = ascii_form(address.email)
    if not ascii_address.isascii():
        raise ValueError("a non-ASCII local part needs SMTPUTF8")
    return ascii_address.rpartition("@")[2].lower()


def _display_name(text: str, source: str) -> str:
    """Return a display name for a header, sanitized if it contains payload values."""
    return (name(text) if PLACEHOLDER.search(source) else text)[:LONGEST_NAME].strip()


def _restore_references(html: str, *, before: str) -> str:
    """Restore the character references that css-inline decoded, if the HTML was ASCII before."""
    return html.encode("ascii", "xmlcharrefreplace").decode() if before.isascii() else html


def _isolate(values: Mapping[str, str], direction: str) -> Mapping[str, str]:
    """Wrap values in isolates (UAX 9: U+2068, U+2069) where their direction may differ from the sentence's."""
    isolated = dict(values)
    for key, value in values.items():
        if value and (direction == "rtl" or (not value.isascii() and _RIGHT_TO_LEFT.search(value))):
            isolated[key] = f"\u2068{value}\u2069"
    return isolated


_RIGHT_TO_LEFT: Final = re.compile(
    "[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefe\U00010800-\U00010fff\U0001e800-\U0001efff]"
)
"""Characters of right-to-left scripts (DerivedBidiClass.txt: R, AL)."""
