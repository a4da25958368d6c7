"""Logto's own templates: subject and content (HTML or plain text) with placeholders, imported unchanged.

A template is two files: `<Kind>/logto/<tag>.toml` with `subject` and optionally `content_type`, `reply_to`, `send_from`
and `raw`; and the content, `<tag>.html` or `<tag>.txt`. In HTML, values are escaped except those of `raw` keys.
"""

import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from mailroom.errors import RenderingError
from mailroom.message import Payload
from mailroom.rendering.engines.jinja_engine import LONGEST_PART, Source
from mailroom.rendering.engines.markup import (
    MARK,
    Place,
    html_to_text,
    inline_css,
    is_styled,
    neutralize_links,
    places,
)
from mailroom.rendering.engines.placeholders import Placeholder, PlaceholderTemplate
from mailroom.rendering.sanitize import clean_text, line, replace_surrogates

HTML: Final = "text/html"
PLAIN: Final = "text/plain"
_STRING_KEYS: Final = ("subject", "content_type", "reply_to", "send_from")


class HtmlTemplate:
    """HTML with placeholders, each escaped by its position."""

    def __init__(self, source: str, raw: frozenset[str]) -> None:
        pieces = PlaceholderTemplate(source).pieces
        marked = "".join(MARK if isinstance(piece, Placeholder) else piece.replace(MARK, " ") for piece in pieces)
        positions = places(marked)
        # Placeholders that the scanner does not reach count as text.
        self._pieces: list[str | tuple[Placeholder, Callable[[str], str]]] = [
            piece
            if isinstance(piece, str)
            else (piece, _unescaped if piece.key in raw else next(positions, Place.TEXT).escape_value)
            for piece in pieces
        ]
        self._is_styled = is_styled(source)

    def unfilled_placeholders(self) -> Iterator[str]:
        """Yield the placeholders that are never filled, because no value is safe at their position."""
        for piece in self._pieces:
            if not isinstance(piece, str) and piece[1] == Place.NOWHERE.escape_value:
                yield piece[0].source

    def fill(self, payload: Payload, schemes: frozenset[str] = frozenset()) -> str:
        """Return HTML with the values filled in; links with a scheme that is not allowed become `#`."""
        output = []
        for piece in self._pieces:
            if isinstance(piece, str):
                output.append(piece)
                continue
            placeholder, escape = piece
            text = placeholder.text(payload)
            output.append(placeholder.source if text is None else escape(clean_text(text)))
        html = neutralize_links(_check_length("".join(output)), schemes)
        return inline_css(html) if self._is_styled else html


@dataclass(frozen=True, slots=True)
class LogtoTemplate:
    """One template in one language."""

    place: str
    """Its file, for error messages."""
    subject: PlaceholderTemplate
    html: HtmlTemplate | None
    """None for plain text."""
    text: PlaceholderTemplate
    reply_to: PlaceholderTemplate | None
    send_from: PlaceholderTemplate | None

    def filled_subject(self, payload: Payload) -> str:
        """Return the subject on one line."""
        return line(self.subject.fill(payload, clean_text))

    def filled_html(self, payload: Payload, schemes: frozenset[str] = frozenset()) -> str:
        """Return the HTML part; empty for plain text. Raises RenderingError if it is too long."""
        return replace_surrogates(self.html.fill(payload, schemes)) if self.html else ""

    def filled_text(self, payload: Payload) -> str:
        """Return the text part. Raises RenderingError if it is too long."""
        return replace_surrogates(_check_length(self.text.fill(payload, clean_text)))


def parse(tag: str, settings: Source, contents: dict[str, Source]) -> LogtoTemplate:
    """Return the template of these files; the keys of `contents` are `html` and `txt`.

    With both, the plain text is the text part; else the text part is made from the HTML. Raises RenderingError.
    """
    try:
        table = tomllib.loads(settings.text)
    except tomllib.TOMLDecodeError as error:
        raise RenderingError(f"{settings.place}: {error}") from error
    for key, value in table.items():
        if key not in (*_STRING_KEYS, "raw"):
            raise RenderingError(
                f"{settings.place}: {key} is unknown; the keys are {', '.join((*_STRING_KEYS, 'raw'))}"
            )
        if key in _STRING_KEYS and not isinstance(value, str):
            raise RenderingError(f"{settings.place}: {key} is not a string")
    raw = table.get("raw", [])
    if not isinstance(raw, list) or not all(isinstance(key, str) for key in raw):
        raise RenderingError(f"{settings.place}: raw is not a list of keys")
    if not table.get("subject"):
        raise RenderingError(f"{settings.place}: subject is missing")
    content_type = table.get("content_type", HTML if "html" in contents or not contents else PLAIN)
    if content_type not in (HTML, PLAIN):
        raise RenderingError(f'{settings.place}: content_type must be "{HTML}" or "{PLAIN}"')
    suffix = "html" if content_type == HTML else "txt"
    if suffix not in contents:
        raise RenderingError(f"{settings.place}: the file {tag}.{suffix} is missing")
    content = contents[suffix].text
    plain_text = contents.get("txt")
    text = content if content_type == PLAIN else plain_text.text if plain_text else html_to_text(content)
    return LogtoTemplate(
        place=contents[suffix].place,
        subject=PlaceholderTemplate(table["subject"]),
        html=HtmlTemplate(content, frozenset(raw)) if content_type == HTML else None,
        text=PlaceholderTemplate(text),
        reply_to=_template(table.get("reply_to")),
        send_from=_template(table.get("send_from")),
    )


def _template(source: Any) -> PlaceholderTemplate | None:
    return PlaceholderTemplate(source) if source else None


def _unescaped(value: str) -> str:
    return value


def _check_length(text: str) -> str:
    if len(text) > LONGEST_PART:
        raise RenderingError(f"the rendered text is too long; {LONGEST_PART} characters are allowed")
    return text
