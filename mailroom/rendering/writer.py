"""Writes a message with the templates of a folder: the words of the reader's language in the layout, as finished bytes.

A kind of mail is a table of words in `locales/<tag>.toml` and, where it looks like no other, a folder `<Kind>/` with
`html.jinja` and `text.jinja`. Without a folder it looks like `Generic`; a type of Logto's that has no words either is
written as `Generic`.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from string import Formatter
from typing import Any, Final

from mailroom.address import ascii_form
from mailroom.errors import MissingVariable, RenderingError
from mailroom.message import Address, Email, Message, Priority
from mailroom.rendering import Brand, mime
from mailroom.rendering.colors import palette
from mailroom.rendering.engine import Engine
from mailroom.rendering.identity import identify, person
from mailroom.rendering.inert import code, link
from mailroom.rendering.locales import choose
from mailroom.rendering.words import Locale, compare, load

BUNDLED: Final = Path(__file__).parents[2] / "templates" / "mails"

GENERIC: Final = "Generic"

_SANS: Final = "-apple-system,BlinkMacSystemFont,'Segoe UI',Roboto,Helvetica,Arial,sans-serif"
_MONO: Final = "ui-monospace,SFMono-Regular,Menlo,Consolas,'Liberation Mono',monospace"


@dataclass(frozen=True, slots=True)
class _Kind:
    """One kind of mail in one language."""

    html: str
    """The names of its templates."""
    text: str
    subject: str
    fixed: Mapping[str, str]
    """The words that say the same in every mail."""
    open: Mapping[str, str]
    """The words with placeholders."""
    locale: Locale


@dataclass(frozen=True, slots=True)
class Ingredients:
    """What a kind of mail is made of in one language; for `check`, which says where to mend."""

    templates: tuple[str, ...]
    """The names of those that are rendered; what they extend and include comes with them."""
    words: Mapping[str, str]
    """Key -> text, the placeholders still in it."""


class TemplateWriter:
    """Writes mails from a folder of templates; everything is parsed and checked when it is made. Safe in any thread."""

    def __init__(
        self,
        *,
        brand: Brand,
        code_lifetime: timedelta,
        message_id_domain: str,
        default_locale: str = "en",
        templates: Path = BUNDLED,
    ) -> None:
        """Raise RenderingError, with file and line, for templates or words that cannot be used."""
        self.folders = (templates,)
        """Where the templates lie, the ones that go first first."""
        self._brand = brand
        self._domain = message_id_domain
        self._engine = Engine(
            templates,
            {"brand": brand.model_dump(), "colors": asdict(palette(brand.color)), "sans": _SANS, "mono": _MONO},
        )
        locales = load(templates / "locales", minutes=max(1, int(code_lifetime.total_seconds() // 60)))
        self._default = choose((default_locale,), tuple(locales), "")
        if not self._default:
            known = ", ".join(locales)
            raise RenderingError(f"default_locale: there are no words in {default_locale!r}; there are {known}")
        for locale in locales.values():
            compare(locale, locales[self._default])
        self._kinds = {
            (tag, kind): self._kind(locale, kind) for tag, locale in locales.items() for kind in locale.kinds
        }
        self._tags = {
            kind: tuple(tag for tag, locale in locales.items() if kind in locale.kinds)
            for kind in locales[self._default].kinds
        }
        """Kind -> the languages that have words for it: one that an operator adds may be said in few."""

    @property
    def kinds(self) -> Mapping[str, tuple[str, ...]]:
        """Every kind that there are words for, and its languages."""
        return self._tags

    def ingredients(self, kind: str, tag: str) -> Ingredients:
        """Return what a kind is made of in one of its languages."""
        made = self._kinds[tag, kind]
        fixed = {key: text.replace("{", "{{").replace("}", "}}") for key, text in made.fixed.items()}
        return Ingredients((made.html, made.text), {**fixed, **made.open})

    def _kind(self, locale: Locale, kind: str) -> _Kind:
        html, text = self._template(kind, "html.jinja"), self._template(kind, "text.jinja")
        words = locale.kinds[kind]
        for key in ("subject", "preheader", "title"):
            if key not in words:
                raise RenderingError(f"locales/{locale.tag}.toml: [{kind}] lacks {key}")
        return _Kind(
            html=html,
            text=text,
            subject=words["subject"],
            fixed={key: text.format() for key, text in words.items() if not _has_placeholder(text)},
            open={key: text for key, text in words.items() if _has_placeholder(text)},
            locale=locale,
        )

    def _template(self, kind: str, part: str) -> str:
        names = [name for folder in (kind, GENERIC) if (name := f"{folder}/{part}") in self._engine.names]
        if not names:
            raise RenderingError(f"{GENERIC}/{part} is missing")
        return names[0]

    def write(self, message: Message, *, sender: Address, reply_to: Address | None) -> Email:
        """Write the mail; the same arguments always give the same bytes.

        Raises RenderingError (the operator can mend it) or MissingVariable (a code's request lacks the code).
        """
        kind = self._kind_of(message)
        locale = kind.locale
        try:
            recipient = ascii_form(message.recipient)
        except ValueError:
            raise RenderingError("the recipient is no address") from None
        payload = message.payload
        identity = identify(payload, self._brand, sender)
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
        if not values["code"] and (message.is_code or "{code}" in kind.subject):
            raise MissingVariable(f"{message.template[:60]}: the payload has no code that could be shown")
        shown = _isolated(values) if locale.direction == "rtl" else values
        words = {**kind.fixed, **{key: text.format_map(shown) for key, text in kind.open.items()}}
        variables: dict[str, Any] = {
            **payload,
            **values,
            "link": link(payload.get("link")),
            "logo": identity.logo,
            "words": words,
            "lang": locale.tag,
            "dir": locale.direction,
            "start": "right" if locale.direction == "rtl" else "left",
        }
        # Within a subject the code stays bare: phones look for it there, and digits begin no direction.
        subject = " ".join(kind.subject.format_map({**shown, "code": values["code"]}).split())
        html = self._engine.render(kind.html, variables)
        text = self._engine.render(kind.text, variables)
        message_id = f"<{message.id}@{self._domain}>"
        headers = (("Content-Language", locale.tag), *_AUTOMATIC, ("X-Entity-Ref-ID", message.id))
        raw = mime.serialize(
            sender=sender,
            recipient=recipient,
            reply_to=reply_to,
            subject=subject,
            date=message.created_at,
            message_id=message_id,
            headers=headers,
            text=text,
            html=html,
            boundary=message.id,
        )
        return Email(
            id=message.id,
            message_id=message_id,
            sender=sender,
            recipient=recipient,
            reply_to=reply_to,
            subject=subject,
            html=html,
            text=text,
            headers=headers,
            language=locale.tag,
            template=message.template,
            raw=raw,
        )

    def _kind_of(self, message: Message) -> _Kind:
        kind = message.template
        if kind not in self._tags and message.priority is not Priority.EVENT:
            kind = GENERIC
        if kind not in self._tags:
            raise RenderingError(f"locales/{self._default}.toml has no words for [{kind[:60]}]")
        return self._kinds[choose(message.languages, self._tags[kind], self._default), kind]


_AUTOMATIC: Final = (
    # RFC 3834; and Exchange's own word for it: no out-of-office answers.
    ("Auto-Submitted", "auto-generated"),
    ("X-Auto-Response-Suppress", "OOF, AutoReply"),
)


def _has_placeholder(text: str) -> bool:
    return any(field is not None for _, field, _, _ in Formatter().parse(text))


def _isolated(values: Mapping[str, str]) -> Mapping[str, str]:
    """Return the values as words of their own direction within a sentence that runs from right to left (UAX 9)."""
    return {key: f"\u2068{value}\u2069" if value else value for key, value in values.items()}
