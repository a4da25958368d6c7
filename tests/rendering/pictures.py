"""Photographs every kind of mail, to be looked at: `python -m tests.rendering.pictures` writes to build/previews/.

Needs Chromium. Phone and desktop width, light and dark, and one language that runs from right to left.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from mailroom.message import Message
from mailroom.rendering.writer import BUNDLED, TemplateWriter
from tests.rendering.samples import KINDS, SENDER, full, message, writer

FOLDER: Final = Path("build/previews")
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
    for kind in KINDS:
        _photograph(browser, kind, writer(), message(kind, full(kind)))
    bare = {"organization": {"name": "Lighthouse GmbH", "branding": {"logoUrl": _LOGO}}}
    _photograph(browser, "invitation-without-link", writer(), message("OrganizationInvitation", bare))
    with tempfile.TemporaryDirectory() as folder:
        mirrored = writer(templates=_right_to_left(Path(folder)))
        for kind in ("SignIn", "OrganizationInvitation"):
            _photograph(browser, f"{kind}-rtl", mirrored, message(kind, full(kind)))
    return 0


_LOGO: Final = "https://logo.example/logo.png"


def _photograph(browser: str, name: str, author: TemplateWriter, subject: Message) -> None:
    page = FOLDER / f"{name}.html"
    page.write_text(author.write(subject, sender=SENDER, reply_to=None).html, encoding="utf-8")
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


def _right_to_left(folder: Path) -> Path:
    """Return the bundled templates with English said from right to left."""
    mirrored = folder / "mails"
    shutil.copytree(BUNDLED, mirrored)
    words = mirrored / "locales" / "en.toml"
    words.write_text(words.read_text(encoding="utf-8").replace('"ltr"', '"rtl"'), encoding="utf-8")
    return mirrored


if __name__ == "__main__":
    sys.exit(main())
