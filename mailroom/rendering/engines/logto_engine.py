"""Logto's own templates: subject and content (HTML or plain text) with placeholders, imported unchanged.

A template is two files: `<Kind>/logto/<tag>.toml` with `subject` and optionally `content_type`, `reply_to`, `send_from`
and `raw`; and the content, `<tag>.html` or `<tag>.txt`. In HTML, values are escaped except those of `raw` keys.
"""

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Final

from mailroom.errors import RenderingError
from mailroom.message import Payload
from mailroom.rendering.engines.jinja_engine import LONGEST_PART, Source
from mailroom.rendering.engines.markup import (
    MARK,
    Position,
    find_positions,
    html_to_text,
    inline_css,
    is_styled,
    neutralize_links,
)
from mailroom.rendering.engines.placeholders import PLACEHOLDER, fill
from mailroom.rendering.sanitize import clean_text, line, replace_surrogates

HTML: Final = "text/html"
PLAIN: Final = "text/plain"
_STRING_KEYS: Final = ("subject", "content_type", "reply_to", "send_from")


class HtmlTemplate:
    """HTML with placeholders, each escaped by its position."""

    def __init__(self, source: str, raw: frozenset[str]) -> None:
        self._source = source
        literals, keys = PLACEHOLDER.split(source)[::2], PLACEHOLDER.split(source)[1::2]
        positions = find_positions(MARK.join(literal.replace(MARK, " ") for literal in literals))
        # Placeholders that the scanner does not reach count as text.
        self._escapes = [
            _unescaped if key in raw else place.escape_value
            for key, place in zip(keys, chain(positions, repeat(Position.TEXT)), strict=False)
        ]
        self._is_styled = is_styled(source)

    def unfilled_placeholders(self) -> Iterator[str]:
        """Yield the placeholders that are never filled, because no value is safe at their position."""
        for match, escape in zip(PLACEHOLDER.finditer(self._source), self._escapes, strict=True):
            if escape == Position.NOWHERE.escape_value:
                yield match[0]

    def fill(self, payload: Payload, schemes: frozenset[str] = frozenset()) -> str:
        """Return HTML with the values filled in; links with a scheme that is not allowed become `#`."""
        escapes = (lambda text, escape=escape: escape(clean_text(text)) for escape in self._escapes)
        html = neutralize_links(_check_length(fill(self._source, payload, escapes)), schemes)
        return inline_css(html) if self._is_styled else html


@dataclass(frozen=True, slots=True)
class LogtoTemplate:
    """One template in one language."""

    place: str
    """Its file, for error messages."""
    subject: str
    html: HtmlTemplate | None
    """None for plain text."""
    text: str
    reply_to: str
    """Empty: that of the settings."""
    send_from: str
    """Likewise."""

    def filled_subject(self, payload: Payload) -> str:
        """Return the subject on one line."""
        return line(fill(self.subject, payload, repeat(clean_text)))

    def filled_html(self, payload: Payload, schemes: frozenset[str] = frozenset()) -> str:
        """Return the HTML part; empty for plain text. Raises RenderingError if it is too long."""
        return replace_surrogates(self.html.fill(payload, schemes)) if self.html else ""

    def filled_text(self, payload: Payload) -> str:
        """Return the text part. Raises RenderingError if it is too long."""
        return replace_surrogates(_check_length(fill(self.text, payload, repeat(clean_text))))


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
    return LogtoTemplate(
        place=contents[suffix].place,
        subject=table["subject"],
        html=HtmlTemplate(content, frozenset(raw)) if content_type == HTML else None,
        text=contents["txt"].text if "txt" in contents else html_to_text(content),
        reply_to=table.get("reply_to", ""),
        send_from=table.get("send_from", ""),
    )


def _unescaped(value: str) -> str:
    return value


def _check_length(text: str) -> str:
    if len(text) > LONGEST_PART:
        raise RenderingError(f"the rendered text is too long; {LONGEST_PART} characters are allowed")
    return text
