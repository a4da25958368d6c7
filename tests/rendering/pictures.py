"""Photographs mails, to be looked at: `python -m tests.rendering.pictures` writes to build/previews/.

Needs Chromium, and fonts for all scripts. Kinds, languages, widths, looks (light, dark, forced inversion) and shapes of
the logo in every combination; or in the languages whose tags are given: `python -m tests.rendering.pictures ko th`.
`index.html` shows them side by side.
"""

import shutil
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from mailroom.lint.samples import DARK_LOGO, LOGO
from mailroom.message import Message
from mailroom.preview import LOOKS, with_look
from mailroom.rendering import Brand
from tests.chromium import PROGRAM, Chromium
from tests.rendering.samples import SENDER, full, make_renderer, message

FOLDER: Final = Path("build/previews")
KINDS: Final = ("SignIn", "BindMfa", "OrganizationInvitation", "Welcome")
LANGUAGES: Final = ("en", "de", "ar", "ja", "zh-CN")
WIDTHS: Final = {"phone": 390, "desktop": 1024}
SHAPES: Final = {"square": (144, 144), "wide": (1000, 90), "tall": (90, 200)}
"""Widths and heights of logos."""
BRAND: Final = Brand(
    name="Northwind",
    company="Northwind Traders GmbH, Musterstraße 12, 10115 Berlin",
    support_email="help@northwind.example",
    color="#E4572E",
    url="https://northwind.example",
    account_url="https://northwind.example/account",
)
INK: Final = "#1a1a22"
DARK_INK: Final = "#f2f2f5"
"""Colours of the logos for light and for dark backgrounds."""


def main() -> int:
    """Write the pictures, and a page with all of them."""
    if not PROGRAM:
        print("Chromium is not installed", file=sys.stderr)  # noqa: T201 - a command's answer
        return 1
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    names: list[str] = []
    with Chromium() as browser:
        for kind, tag, shape in product(KINDS, sys.argv[1:] or LANGUAGES, ("square", "wide", "")):
            html = mail(kind, tag, shape)
            for (width_name, width), look in product(WIDTHS.items(), LOOKS):
                browser.show(with_look(html, look), width=width, dark=look == "dark")
                names.append(f"{kind}-{tag}-{shape or 'no'}-logo-{width_name}-{look}.png")
                (FOLDER / names[-1]).write_bytes(browser.picture())
    (FOLDER / "index.html").write_text("".join(_index(names)), encoding="utf-8")
    return 0


def mail(kind: str, tag: str, shape: str, *, dark_logo: bool = False) -> str:
    """Return a mail's HTML; the logo, if it has a shape, is a drawing within the page."""
    logos = {LOGO: drawing(INK, shape), DARK_LOGO: drawing(DARK_INK, shape)} if shape else {}
    used = {"logo_url": LOGO, "dark_logo_url": DARK_LOGO if dark_logo else ""} if shape else {}
    renderer = make_renderer(brand=BRAND.model_copy(update=used))
    html = renderer.render(_message(kind, tag), sender=SENDER, reply_to=None).html
    for address, image in logos.items():
        html = html.replace(address, image)
    return html


def _message(kind: str, tag: str) -> Message:
    payload = {key: value for key, value in full(kind).items() if key not in ("application", "link")}
    if kind == "OrganizationInvitation":
        payload["link"] = full(kind)["link"]
    payload["user"] = {**payload["user"], "profile": {"givenName": "Grace"}}
    made = message(kind, payload | {"locale": tag})
    return replace(made, ip="203.0.113.7", expires_at=made.created_at + (7 * 86400 if kind.startswith("Org") else 600))


def drawing(ink: str, shape: str) -> str:
    """Return the address of a logo of this colour and shape, on a transparent ground."""
    width, height = SHAPES[shape]
    side = min(width, height)
    disc = f"<circle cx='{side / 2}' cy='{side / 2}' r='{side / 2}'/>"
    bar = f"<rect x='{side * 1.2}' y='{side * 0.3}' width='{width - side * 1.2}' height='{side * 0.4}'/>"
    size = f"width='{width}' height='{height}'"
    shapes = disc + (bar if width > height else "")
    fill = f"fill='{ink.replace('#', '%23')}'"
    return f"data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' {size} {fill}>{shapes}</svg>"


def _index(names: list[str]) -> Iterator[str]:
    yield "<!doctype html><title>Mails</title>"
    yield "<style>img{max-height:520px;vertical-align:top}figure{display:inline-block}</style>"
    for name in names:
        yield f'<figure><a href="{name}"><img src="{name}" alt=""></a><figcaption>{name}</figcaption></figure>'


if __name__ == "__main__":
    sys.exit(main())
