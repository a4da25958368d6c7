"""Computes readable colours from a brand colour, in light and dark mode, by the contrast ratio of WCAG 2."""

from dataclasses import dataclass
from typing import Final

READABLE: Final = 4.5
"""Minimum contrast ratio of text and its background, WCAG 2.2 §1.4.3."""

WHITE: Final = "#FFFFFF"
BLACK: Final = "#000000"
"""Against any colour, white or black has a contrast ratio of at least 4.58 (the square root of 21)."""
LIGHT_BACKGROUND: Final = "#F4F4F6"
DARK_BACKGROUND: Final = "#1D1D24"
"""The layout has two backgrounds, page and card; this is the one with less contrast to text."""

_TINT: Final = 0.08
_DARK_TINT: Final = 0.12
_TINT_BORDER: Final = 0.3
"""Shares of the brand colour in the code's box and its border."""


@dataclass(frozen=True, slots=True)
class Palette:
    """The layout's colours that depend on the brand colour."""

    button: str
    on_button: str
    """Colour of the button's text."""
    link: str
    dark_link: str
    tint: str
    """Background of the code."""
    tint_border: str
    dark_tint: str
    dark_tint_border: str


def palette(color: str) -> Palette:
    """Return the layout's colours for a brand colour (`#RRGGBB`): the colour itself, or the nearest readable one."""
    return Palette(
        button=color,
        on_button=max((WHITE, BLACK), key=lambda text: contrast(text, color)),
        link=_mix_until_readable(BLACK, color, LIGHT_BACKGROUND),
        dark_link=_mix_until_readable(WHITE, color, DARK_BACKGROUND),
        tint=_mix(WHITE, color, _TINT),
        tint_border=_mix(WHITE, color, _TINT_BORDER),
        dark_tint=_mix(DARK_BACKGROUND, color, _DARK_TINT),
        dark_tint_border=_mix(DARK_BACKGROUND, color, _TINT_BORDER),
    )


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio of two colours, 1 to 21."""
    darker, lighter = sorted((_luminance(one), _luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


_MIX_STEPS: Final = 20


def _mix_until_readable(target: str, color: str, background: str) -> str:
    """Mix in the least amount of `target` that makes the colour readable on the background."""
    mixed = (_mix(color, target, step / _MIX_STEPS) for step in range(_MIX_STEPS))
    return next((shade for shade in mixed if contrast(shade, background) >= READABLE), target)


def _mix(color: str, target: str, share: float) -> str:
    pairs = zip(_channels(color), _channels(target), strict=True)
    return "#" + "".join(f"{round(a + (b - a) * share):02X}" for a, b in pairs)


def _luminance(color: str) -> float:
    red, green, blue = (_linear(channel / 255) for channel in _channels(color))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _linear(channel: float) -> float:
    is_dark = channel <= 0.04045  # noqa: PLR2004 - from the definition of sRGB
    return channel / 12.92 if is_dark else ((channel + 0.055) / 1.055) ** 2.4


def _channels(color: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(color.removeprefix("#")))
