"""Check 16: whether text can be read, computed from the colours that the styles give it, in light and in dark.

Judged: inline styles, `bgcolor` and `<font color>`, style sheets, `@media (prefers-color-scheme: …)`, by the cascade.
Not judged: text on a picture or a gradient, rules that depend on the screen's width, and what a mail client makes of
the colours by itself (forced inversion): the preview shows that.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import tinycss2
from cssselect2 import ElementWrapper
from tinycss2.color3 import parse_color

from mailroom.checking.css import DARK, SCHEMES, Sheets, sheets, value
from mailroom.checking.mail import Complaint, Mail, excerpt
from mailroom.checking.page import inline
from mailroom.rendering.colors import READABLE, contrast

LARGE: Final = 3.0
"""The contrast that large text needs: 24 px, or 18.66 px and bold (WCAG 2.2 §1.4.3)."""

Rgb: TypeAlias = tuple[float, float, float]

_BLACK: Final[Rgb] = (0, 0, 0)
_WHITE: Final[Rgb] = (1, 1, 1)
_CANVAS: Final[Rgb] = (0.071, 0.071, 0.071)
"""Of a page that says it can be dark, in Blink: #121212."""
_LINK: Final[Rgb] = (0, 0, 0.933)
_DARK_LINK: Final[Rgb] = (0.62, 0.62, 1)


@dataclass(frozen=True, slots=True)
class _Look:
    """How text looks within an element."""

    ink: Rgb
    ground: Rgb | None
    """None: a picture, which is not judged."""
    size: float
    """Pixels."""
    is_bold: bool


def text_stands_out(mail: Mail) -> Iterator[Complaint]:
    """Check 16."""
    body = mail.page.first("body")
    if body is None:
        return
    for scheme in SCHEMES:
        style = sheets(mail.page.style_sheets, scheme)
        goes_dark = scheme == DARK and _knows_dark(mail)
        start = _Look(_WHITE if goes_dark else _BLACK, _CANVAS if goes_dark else _WHITE, 16, is_bold=False)
        for element, look, text in _looks(body, style, start, dark=goes_dark):
            if look.ground is None:
                continue
            ratio = contrast(_hex(look.ink), _hex(look.ground))
            needed = LARGE if look.size >= 24 or (look.size >= 18.66 and look.is_bold) else READABLE  # noqa: PLR2004 - WCAG's own
            if ratio < needed:
                colors = f"{_hex(look.ink)} on {_hex(look.ground)}"
                problem = f"in {scheme} mode “{excerpt(text, 30)}” is {colors}: a contrast of {ratio:.1f}"
                remedy = f"choose colours with at least {needed}" + (", by a class in the dark style" * goes_dark)
                yield Complaint(16, problem, remedy, html=mail.page.tag_of(element))


def is_hidden(element: ElementWrapper) -> bool:
    """Tell whether an element's own style, or that of one around it, keeps it from being seen."""
    return any(_hides(one) for one in (element, *element.ancestors))


def _hides(element: ElementWrapper) -> bool:
    declared = {name: _words(tokens) for name, (tokens, _) in inline(element).items()}
    return (
        declared.get("display") == "none"
        or declared.get("visibility") == "hidden"
        or declared.get("max-height") in ("0", "0px")
        or declared.get("font-size") in ("0", "0px", "1px")
        or declared.get("opacity") == "0"
    )


def _knows_dark(mail: Mail) -> bool:
    names = {meta.etree_element.get("name"): meta.etree_element.get("content", "") for meta in mail.page.all("meta")}
    return "dark" in names.get("color-scheme", "") or any(
        "color-scheme:light dark" in one for one in mail.page.style_sheets
    )


def _looks(
    element: ElementWrapper, style: Sheets, outer: _Look, *, dark: bool
) -> Iterator[tuple[ElementWrapper, _Look, str]]:
    """Yield every run of text that is seen, and how."""
    display = value(element, style, "display")
    shown = _words(display) if display else ""
    if (
        element.local_name in ("style", "script", "template", "title")
        or shown == "none"
        or (not shown and _hides(element))
    ):
        return
    look = _within(element, style, outer, dark=dark)
    node = element.etree_element
    own = [node.text, *(child.etree_element.tail for child in element.iter_children())]
    if element.local_name == "img":
        own.append(node.get("alt"))
    text = " ".join(part for part in own if part and part.strip())
    if text:
        yield element, look, text
    for child in element.iter_children():
        yield from _looks(child, style, look, dark=dark)


def _within(element: ElementWrapper, style: Sheets, outer: _Look, *, dark: bool) -> _Look:
    node = element.etree_element
    ground = outer.ground
    colored = _declared_ground(element, style)
    if isinstance(colored, str):
        ground = None
    elif colored is not None:
        ground = colored[:3] if colored[3] >= 1 else _over(colored, ground)
    ink = outer.ink
    if element.local_name == "a" and "href" in node.attrib:
        ink = _DARK_LINK if dark else _LINK
    tokens = value(element, style, "color")
    painted = _color(tokens) if tokens else _attribute(node.get("color")) if element.local_name == "font" else None
    if painted is not None:
        ink = painted[:3] if painted[3] >= 1 or ground is None else _over(painted, ground) or painted[:3]
    return _Look(ink, ground, _size(element, style, outer.size), _is_bold(element, style, outer.is_bold))


def _declared_ground(element: ElementWrapper, style: Sheets) -> tuple[float, float, float, float] | str | None:
    """Return an element's background colour; a text for a picture; None where it has none of its own."""
    tokens = value(element, style, "background-color") or value(element, style, "background")
    picture = value(element, style, "background-image")
    for found in (tokens, picture):
        if found and any(token.type in ("url", "function") and _paints(token) for token in found):
            return "picture"
    if tokens:
        return _color(tokens)
    return _attribute(element.etree_element.get("bgcolor"))


def _paints(token: Any) -> bool:
    return token.type == "url" or "gradient" in token.lower_name or token.lower_name == "url"


def _color(tokens: list[Any]) -> tuple[float, float, float, float] | None:
    """Return the first colour among tokens; of `inherit` and `currentColor` nothing."""
    for token in tokens:
        found = parse_color(token)
        if found is not None and not isinstance(found, str):
            return found.red, found.green, found.blue, found.alpha
    return None


def _attribute(written: str | None) -> tuple[float, float, float, float] | None:
    return _color(tinycss2.parse_component_value_list(written)) if written else None


def _over(color: tuple[float, float, float, float], ground: Rgb | None) -> Rgb | None:
    if ground is None:
        return None
    red, green, blue, alpha = color
    mixed = [part * alpha + below * (1 - alpha) for part, below in zip((red, green, blue), ground, strict=True)]
    return mixed[0], mixed[1], mixed[2]


def _size(element: ElementWrapper, style: Sheets, outer: float) -> float:
    for tokens in (value(element, style, "font-size"), value(element, style, "font")):
        for token in tokens or ():
            if token.type == "dimension" and token.lower_unit == "px":
                return float(token.value)
            if token.type == "dimension" and token.lower_unit in ("em", "rem"):
                return float(token.value) * (outer if token.lower_unit == "em" else 16)
            if token.type == "percentage":
                return outer * float(token.value) / 100
    return {"h1": 32, "h2": 24, "h3": 18.72}.get(element.local_name, outer)


def _is_bold(element: ElementWrapper, style: Sheets, outer: bool) -> bool:  # noqa: FBT001 - inherited
    for tokens in (value(element, style, "font-weight"), value(element, style, "font")):
        for token in tokens or ():
            if token.type == "number" and token.is_integer and token.int_value >= 100:  # noqa: PLR2004 - a weight
                return bool(token.int_value >= 700)  # noqa: PLR2004 - bold
            if token.type == "ident" and token.lower_value in ("bold", "bolder", "normal"):
                return bool(token.lower_value != "normal")
    return outer or element.local_name in ("b", "strong", "h1", "h2", "h3", "th")


def _words(tokens: list[Any]) -> str:
    return str(tinycss2.serialize(tokens)).strip().lower()


def _hex(color: Rgb) -> str:
    return "#" + "".join(f"{round(max(0.0, min(1.0, part)) * 255):02X}" for part in color)
