"""A template of Logto's own making: subject and content with placeholders, HTML or plain text, imported as it was.

Two files: `<Kind>/logto/<tag>.toml` with `subject` and perhaps `content_type`, `reply_to`, `send_from` and `raw`;
beside it the content, `<tag>.html` or `<tag>.txt`. Values are escaped where the content is HTML, but for `raw` keys.
"""

import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from mailroom.errors import RenderingError
from mailroom.message import Payload
from mailroom.rendering.engine import LONGEST_PART, Source
from mailroom.rendering.inert import line, whole, written
from mailroom.rendering.markup import (
    MARK,
    Place,
    as_text,
    is_styled,
    places,
    with_harmless_links,
    with_inline_style,
)
from mailroom.rendering.placeholders import Placeholder, Template

HTML: Final = "text/html"
PLAIN: Final = "text/plain"
_TEXTS: Final = ("subject", "content_type", "reply_to", "send_from")


class Markup:
    """HTML with placeholders."""

    def __init__(self, source: str, raw: frozenset[str]) -> None:
        pieces = Template(source).pieces
        marked = "".join(MARK if isinstance(piece, Placeholder) else piece.replace(MARK, " ") for piece in pieces)
        found = places(marked)
        # What the scanner does not reach is text to it.
        self._pieces: list[str | tuple[Placeholder, Callable[[str], str]]] = [
            piece if isinstance(piece, str) else (piece, _plain if piece.key in raw else next(found, Place.TEXT).shown)
            for piece in pieces
        ]
        self._is_styled = is_styled(source)

    def misplaced(self) -> Iterator[str]:
        """Yield the placeholders that are never filled, for no value is harmless where they stand."""
        for piece in self._pieces:
            if not isinstance(piece, str) and piece[1] == Place.NOWHERE.shown:
                yield piece[0].source

    def fill(self, payload: Payload, schemes: frozenset[str] = frozenset()) -> str:
        """Return HTML with the values in it; links that a mail must not have lead nowhere."""
        made = []
        for piece in self._pieces:
            if isinstance(piece, str):
                made.append(piece)
                continue
            placeholder, shown = piece
            text = placeholder.text(payload)
            made.append(placeholder.source if text is None else shown(written(text)))
        html = with_harmless_links(_bounded("".join(made)), schemes)
        return with_inline_style(html) if self._is_styled else html


@dataclass(frozen=True, slots=True)
class LogtoTemplate:
    """One template in one language."""

    place: str
    """Its file, for errors."""
    subject: Template
    html: Markup | None
    """None: it is plain text."""
    text: Template
    reply_to: Template | None
    send_from: Template | None

    def filled_subject(self, payload: Payload) -> str:
        """Return the subject, one line."""
        return line(self.subject.fill(payload, written))

    def filled_html(self, payload: Payload, schemes: frozenset[str] = frozenset()) -> str:
        """Return the HTML part; empty for plain text. Raises RenderingError if it becomes too long."""
        return whole(self.html.fill(payload, schemes)) if self.html else ""

    def filled_text(self, payload: Payload) -> str:
        """Return the text part. Raises RenderingError if it becomes too long."""
        return whole(_bounded(self.text.fill(payload, written)))


def parse(tag: str, settings: Source, contents: dict[str, Source]) -> LogtoTemplate:
    """Return the template of these files; `contents` is by their endings, `html` and `txt`.

    Plain text beside HTML is its text part; without it the text is taken from the HTML. Raises RenderingError.
    """
    try:
        table = tomllib.loads(settings.text)
    except tomllib.TOMLDecodeError as error:
        raise RenderingError(f"{settings.place}: {error}") from error
    for key, value in table.items():
        if key not in (*_TEXTS, "raw"):
            raise RenderingError(f"{settings.place}: {key} is unknown; there are {', '.join((*_TEXTS, 'raw'))}")
        if key in _TEXTS and not isinstance(value, str):
            raise RenderingError(f"{settings.place}: {key} is no text")
    raw = table.get("raw", [])
    if not isinstance(raw, list) or not all(isinstance(key, str) for key in raw):
        raise RenderingError(f"{settings.place}: raw is no list of keys")
    if not table.get("subject"):
        raise RenderingError(f"{settings.place}: subject is missing")
    kind = table.get("content_type", HTML if "html" in contents or not contents else PLAIN)
    if kind not in (HTML, PLAIN):
        raise RenderingError(f'{settings.place}: content_type must be "{HTML}" or "{PLAIN}"')
    wanted = "html" if kind == HTML else "txt"
    if wanted not in contents:
        raise RenderingError(f"{settings.place}: {tag}.{wanted} is missing beside it")
    content = contents[wanted].text
    beside = contents.get("txt")
    text = content if kind == PLAIN else beside.text if beside else as_text(content)
    return LogtoTemplate(
        place=contents[wanted].place,
        subject=Template(table["subject"]),
        html=Markup(content, frozenset(raw)) if kind == HTML else None,
        text=Template(text),
        reply_to=_template(table.get("reply_to")),
        send_from=_template(table.get("send_from")),
    )


def _template(source: Any) -> Template | None:
    return Template(source) if source else None


def _plain(value: str) -> str:
    return value


def _bounded(text: str) -> str:
    if len(text) > LONGEST_PART:
        raise RenderingError(f"a template makes too much of the payload; {LONGEST_PART} characters are allowed")
    return text
