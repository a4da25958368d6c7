"""Photographs every kind of mail, to be looked at: `python -m tests.rendering.pictures` writes to build/previews/.

Needs Chromium, and fonts for all scripts. Phone and desktop width, light and dark, in five languages; or in those
whose tags are given: `python -m tests.rendering.pictures ko th`.
"""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from mailroom.lint.samples import DARK_LOGO, LOGO
from mailroom.message import Message
from mailroom.rendering.renderer import TemplateRenderer
from tests.rendering.samples import KINDS, SENDER, full, make_renderer, message

FOLDER: Final = Path("build/previews")
LANGUAGES: Final = ("en", "de", "ar", "ja", "zh-TW")
SIZES: Final = ((390, 844), (1024, 900))
SCHEMES: Final = {"light": 1, "dark": 0}
"""Blink's `preferredColorScheme`."""


def main() -> int:
    """Write a page and its pictures for each kind."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if not browser:
        print("Chromium is not installed", file=sys.stderr)  # noqa: T201 - a command's answer
        return 1
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    renderer = make_renderer()
    for tag in sys.argv[1:] or LANGUAGES:
        for kind in KINDS:
            _photograph(browser, f"{kind}-{tag}", renderer, message(kind, full(kind) | {"locale": tag}))
        bare = {"organization": {"name": "Lighthouse GmbH", "branding": {"logoUrl": LOGO}}, "locale": tag}
        _photograph(browser, f"invitation-without-link-{tag}", renderer, message("OrganizationInvitation", bare))
        both = {"name": "Riverside Web", "branding": {"logoUrl": LOGO, "darkLogoUrl": DARK_LOGO}}
        branded = full("SignIn") | {"application": both, "locale": tag}
        _photograph(browser, f"two-logos-{tag}", renderer, message("SignIn", branded))
    return 0


_STAND_INS: Final = {LOGO: "%231a1a22", DARK_LOGO: "%23f2f2f5"}
"""Logos that exist nowhere -> the colour of the drawing that is photographed instead."""


def _photograph(browser: str, name: str, renderer: TemplateRenderer, subject: Message) -> None:
    page = FOLDER / f"{name}.html"
    html = renderer.render(subject, sender=SENDER, reply_to=None).html
    for address, ink in _STAND_INS.items():
        html = html.replace(address, _drawing(ink))
    page.write_text(html, encoding="utf-8")
    for width, height in SIZES:
        for scheme, number in SCHEMES.items():
            subprocess.run(
                [
                    browser,
                    "--headless",
                    "--no-sandbox",
                    "--hide-scrollbars",
                    "--host-resolver-rules=MAP * ~NOTFOUND",
                    f"--blink-settings=preferredColorScheme={number}",
                    f"--window-size={width},{height}",
                    f"--screenshot={page.with_name(f'{name}-{width}-{scheme}.png')}",
                    page.resolve().as_uri(),
                ],
                check=True,
                stderr=subprocess.DEVNULL,
            )


def _drawing(ink: str) -> str:
    shapes = f"<circle cx='18' cy='18' r='15' fill='{ink}'/><rect x='44' y='11' width='96' height='14' fill='{ink}'/>"
    return f"data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' width='144' height='36'>{shapes}</svg>"


if __name__ == "__main__":
    sys.exit(main())
