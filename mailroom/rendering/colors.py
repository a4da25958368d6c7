"""Makes any brand colour readable: contrast as WCAG 2 defines it, in light and dark."""

from dataclasses import dataclass
from typing import Final

READABLE: Final = 4.5
"""The contrast of text on its ground, WCAG 2.2 §1.4.3."""

WHITE: Final = "#FFFFFF"
BLACK: Final = "#000000"
"""On any colour at least one of the two has a contrast of 4.58, the root of 21."""
LIGHT_GROUND: Final = "#F4F4F6"
DARK_GROUND: Final = "#1D1D24"
"""Of the layout's page and card the one on which text is harder to read."""


@dataclass(frozen=True, slots=True)
class Palette:
    """What the layout takes from the brand's colour; the greys are its own."""

    button: str
    on_button: str
    """The button's text."""
    link: str
    dark_link: str


def palette(color: str) -> Palette:
    """Return the colours that go with a brand's (`#RRGGBB`): its own, or the nearest that can be read."""
    return Palette(
        button=color,
        on_button=max((WHITE, BLACK), key=lambda text: contrast(text, color)),
        link=_towards(BLACK, color, LIGHT_GROUND),
        dark_link=_towards(WHITE, color, DARK_GROUND),
    )


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio of two colours, 1 to 21."""
    darker, lighter = sorted((_luminance(one), _luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


_STEPS: Final = 20


def _towards(goal: str, color: str, ground: str) -> str:
    """Mix in as little of `goal` as makes the colour readable on the ground."""
    mixed = (_mix(color, goal, step / _STEPS) for step in range(_STEPS))
    return next((shade for shade in mixed if contrast(shade, ground) >= READABLE), goal)


def _mix(color: str, goal: str, share: float) -> str:
    pairs = zip(_channels(color), _channels(goal), strict=True)
    return "#" + "".join(f"{round(a + (b - a) * share):02X}" for a, b in pairs)


def _luminance(color: str) -> float:
    red, green, blue = (_linear(channel / 255) for channel in _channels(color))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _linear(channel: float) -> float:
    is_dark = channel <= 0.04045  # noqa: PLR2004 - sRGB's own
    return channel / 12.92 if is_dark else ((channel + 0.055) / 1.055) ** 2.4


def _channels(color: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(color.removeprefix("#")))
