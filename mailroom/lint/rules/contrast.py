"""Check 16: computes the contrast of all text, in light and dark mode, by the CSS cascade.

Considers inline styles, `bgcolor`, `<font color>`, style sheets and `@media (prefers-color-scheme: …)`. Ignores text
on images and gradients, rules that depend on the screen's width, and colour inversion by mail clients, which the
preview shows.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import tinycss2
from cssselect2 import ElementWrapper
from tinycss2.color3 import parse_color

from mailroom.lint.html import inline
from mailroom.lint.rule import RenderedMail, Violation
from mailroom.lint.rules.css import DARK, SCHEMES, Sheets, sheets, value
from mailroom.rendering.colors import READABLE, contrast
from mailroom.text import bounded

LARGE: Final = 3.0
"""Minimum contrast ratio of large text: 24 px, or 18.66 px and bold (WCAG 2.2 §1.4.3)."""

Rgb: TypeAlias = tuple[float, float, float]
Rgba: TypeAlias = tuple[float, float, float, float]

_BLACK: Final[Rgb] = (0, 0, 0)
_WHITE: Final[Rgb] = (1, 1, 1)
_CANVAS: Final[Rgb] = (0.071, 0.071, 0.071)
"""Blink's background for pages that declare a dark colour scheme: #121212."""
_LINK: Final[Rgb] = (0, 0, 0.933)
_DARK_LINK: Final[Rgb] = (0.62, 0.62, 1)

_HIDING: Final[Mapping[str, tuple[str, ...]]] = {
    "display": ("none",),
    "visibility": ("hidden",),
    "max-height": ("0", "0px"),
    "font-size": ("0", "0px", "1px"),
    "opacity": ("0",),
}
"""Declarations that hide an element."""


@dataclass(frozen=True, slots=True)
class _TextStyle:
    """The computed style of text in an element."""

    color: Rgb
    background: Rgb | None
    """None if it is an image."""
    size: float
    """Pixels."""
    is_bold: bool


def check_contrast(mail: RenderedMail) -> Iterator[Violation]:
    """Check 16."""
    body = mail.page.first("body")
    if body is None:
        return
    for scheme in SCHEMES:
        style = sheets(mail.page.style_sheets, scheme)
        is_dark = scheme == DARK and _supports_dark_mode(mail)
        start = _TextStyle(_WHITE if is_dark else _BLACK, _CANVAS if is_dark else _WHITE, 16, is_bold=False)
        for element, text_style, text in _visible_texts(body, style, start, dark=is_dark):
            if text_style.background is None:
                continue
            ratio = contrast(_hex(text_style.color), _hex(text_style.background))
            needed = LARGE if text_style.size >= 24 or (text_style.size >= 18.66 and text_style.is_bold) else READABLE  # noqa: PLR2004 - from WCAG
            if ratio < needed:
                colors = f"{_hex(text_style.color)} on {_hex(text_style.background)}"
                problem = f"in {scheme} mode “{bounded(text, 30)}” is {colors}: a contrast of {ratio:.1f}"
                remedy = f"choose colours with at least {needed}" + (", by a class in the dark style" * is_dark)
                yield Violation(16, problem, remedy, html=mail.page.tag_of(element))


def is_hidden(element: ElementWrapper) -> bool:
    """Return whether inline styles hide the element or one of its ancestors."""
    return any(_has_hiding_style(one) for one in (element, *element.ancestors))


def _has_hiding_style(element: ElementWrapper) -> bool:
    return any(_css_text(tokens) in _HIDING.get(name, ()) for name, (tokens, _) in inline(element).items())


def _supports_dark_mode(mail: RenderedMail) -> bool:
    names = {meta.etree_element.get("name"): meta.etree_element.get("content", "") for meta in mail.page.all("meta")}
    return "dark" in names.get("color-scheme", "") or "color-scheme:light dark" in "".join(mail.page.style_sheets)


def _visible_texts(
    element: ElementWrapper, style: Sheets, outer: _TextStyle, *, dark: bool
) -> Iterator[tuple[ElementWrapper, _TextStyle, str]]:
    """Yield element, style and text for each visible text."""
    display = value(element, style, "display")
    display_value = _css_text(display) if display else ""
    if (
        element.local_name in ("style", "script", "template", "title")
        or display_value == "none"
        or (not display_value and _has_hiding_style(element))
    ):
        return
    text_style = _compute_style(element, style, outer, dark=dark)
    node = element.etree_element
    own = [node.text, *(child.etree_element.tail for child in element.iter_children())]
    if element.local_name == "img":
        own.append(node.get("alt"))
    text = " ".join(part for part in own if part and part.strip())
    if text:
        yield element, text_style, text
    for child in element.iter_children():
        yield from _visible_texts(child, style, text_style, dark=dark)


def _compute_style(element: ElementWrapper, style: Sheets, outer: _TextStyle, *, dark: bool) -> _TextStyle:
    node = element.etree_element
    background = outer.background
    declared = _declared_background(element, style)
    if isinstance(declared, str):
        background = None
    elif declared is not None:
        background = _blend(declared, background)
    color = outer.color
    if element.local_name == "a" and "href" in node.attrib:
        color = _DARK_LINK if dark else _LINK
    tokens = value(element, style, "color")
    declared_color = _parse_color(tokens) if tokens else None
    if not tokens and element.local_name == "font":
        declared_color = _parse_color_attribute(node.get("color"))
    if declared_color is not None:
        color = _blend(declared_color, background) or declared_color[:3]
    size, is_bold = _font_size(element, style, outer.size), _is_bold(element, style, outer.is_bold)
    return _TextStyle(color, background, size, is_bold)


def _declared_background(element: ElementWrapper, style: Sheets) -> Rgba | str | None:
    """Return the element's own background colour, a string for an image, or None."""
    tokens = value(element, style, "background-color") or value(element, style, "background") or []
    if any(map(_is_image, [*tokens, *(value(element, style, "background-image") or ())])):
        return "image"
    return _parse_color(tokens) if tokens else _parse_color_attribute(element.etree_element.get("bgcolor"))


def _is_image(token: Any) -> bool:
    is_function = token.type == "function" and ("gradient" in token.lower_name or token.lower_name == "url")
    return token.type == "url" or is_function


def _parse_color(tokens: list[Any]) -> Rgba | None:
    """Return the first colour among tokens, or None; `inherit` and `currentColor` are ignored."""
    for token in tokens:
        color = parse_color(token)
        if color is not None and not isinstance(color, str):
            return color.red, color.green, color.blue, color.alpha
    return None


def _parse_color_attribute(color: str | None) -> Rgba | None:
    return _parse_color(tinycss2.parse_component_value_list(color)) if color else None


def _blend(color: Rgba, background: Rgb | None) -> Rgb | None:
    """Return a colour on its background; None for a translucent one on an image."""
    red, green, blue, alpha = color
    if alpha >= 1:
        return red, green, blue
    if background is None:
        return None
    red, green, blue = (part * alpha + below * (1 - alpha) for part, below in zip(color[:3], background, strict=True))
    return red, green, blue


def _font_size(element: ElementWrapper, style: Sheets, outer: float) -> float:
    for tokens in (value(element, style, "font-size"), value(element, style, "font")):
        for token in tokens or ():
            if token.type == "dimension" and token.lower_unit == "px":
                return float(token.value)
            if token.type == "dimension" and token.lower_unit in ("em", "rem"):
                return float(token.value) * (outer if token.lower_unit == "em" else 16)
            if token.type == "percentage":
                return outer * float(token.value) / 100
    return {"h1": 32, "h2": 24, "h3": 18.72}.get(element.local_name, outer)


def _is_bold(element: ElementWrapper, style: Sheets, outer: bool) -> bool:  # noqa: FBT001 - the inherited value
    for tokens in (value(element, style, "font-weight"), value(element, style, "font")):
        for token in tokens or ():
            if token.type == "number" and token.is_integer and token.int_value >= 100:  # noqa: PLR2004 - a weight
                return bool(token.int_value >= 700)  # noqa: PLR2004 - bold
            if token.type == "ident" and token.lower_value in ("bold", "bolder", "normal"):
                return bool(token.lower_value != "normal")
    return outer or element.local_name in ("b", "strong", "h1", "h2", "h3", "th")


def _css_text(tokens: list[Any]) -> str:
    return str(tinycss2.serialize(tokens)).strip().lower()


def _hex(color: Rgb) -> str:
    return "#" + "".join(f"{round(max(0.0, min(1.0, part)) * 255):02X}" for part in color)
