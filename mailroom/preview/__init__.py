"""Shows a mail as its reader will see it, before there is one: in light and dark, inverted, without pictures."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from email import message_from_bytes, policy
from typing import Any, Final

from mailroom.lint import Finding
from mailroom.lint.rule import RenderedMail
from mailroom.lint.rules.inbox import preheader
from mailroom.lint.rules.rendered import LintContext
from mailroom.lint.runner import Linter
from mailroom.lint.samples import DARK_LOGO, LOGO, Sample, payload
from mailroom.lint.source_lines import SourceLines
from mailroom.message import Payload

LOOKS: Final = ("light", "dark", "inverted")
"""`inverted`: what a client makes of a mail that it believes to know no dark mode."""


@dataclass(frozen=True, slots=True)
class View:
    """One mail, ready to be looked at."""

    mail: RenderedMail
    findings: list[Finding]

    @property
    def preheader(self) -> str:
        """What the inbox shows beside the subject."""
        return preheader(self.mail)

    @property
    def headers(self) -> str:
        """The message's headers as they go over the wire, decoded."""
        parsed = message_from_bytes(self.mail.email.raw, policy=policy.default)
        return "\n".join(f"{name}: {value}" for name, value in parsed.items())

    def seen(self, look: str, *, pictures: bool = True) -> str:
        """Return the HTML as it is seen in one of `LOOKS`. Only for looking at: it is not the mail any more."""
        return seen(self.mail.email.html, look, pictures=pictures)

    def as_json(self) -> dict[str, Any]:
        """Return what the page shows."""
        email = self.mail.email
        return {
            "from": email.sender.name or email.sender.email,
            "address": email.sender.email,
            "subject": email.subject,
            "preheader": self.preheader,
            "looks": {look: [self.seen(look), self.seen(look, pictures=False)] for look in LOOKS},
            "text": email.text,
            "source": email.html,
            "headers": self.headers,
            "raw": email.raw.decode("utf-8", "replace"),
            "size": {"html": len(email.html.encode()), "message": len(email.raw)},
            "findings": [{**finding.told(), "is_warning": finding.is_warning} for finding in self.findings],
        }


def view(desk: LintContext, kind: str, language: str, sample: Sample, given: Payload | None = None) -> View | Finding:
    """Write one mail and check it; a finding where it cannot be written. `given` overrules the sample's payload."""
    made = desk.mail(kind, language, sample, given)
    if isinstance(made, Finding):
        return made
    inventory = desk.writer.inventory(made.message.payload)
    return View(made, Linter(SourceLines(inventory)).findings(made))


def sample_payload(desk: LintContext, kind: str, language: str, sample: Sample) -> str:
    """Return a sample's payload as JSON, for a person to change."""
    return json.dumps(payload(kind, sample, language, desk.owner), indent=2, ensure_ascii=False)


_DARK: Final = re.compile(r"@media\s*\(\s*prefers-color-scheme\s*:\s*dark\s*\)", re.IGNORECASE)
_SCHEMES: Final = re.compile(r"(color-scheme:)\s*light dark")
_SOURCE: Final = re.compile(r"(<img\b[^>]*?)\ssrc=(\"[^\"]*\"|'[^']*')", re.IGNORECASE)
_INVERTED: Final = (
    "<style>html{filter:invert(1) hue-rotate(180deg);background:#fff}"
    "img[src]{filter:invert(1) hue-rotate(180deg)}</style>"
)
_STAND_INS: Final[Mapping[str, str]] = {
    DARK_LOGO: "f2f2f5",
    LOGO: "1a1a22",
}
"""The samples' logos -> the colour of a drawing that stands for them: they exist nowhere."""


def seen(html: str, look: str, *, pictures: bool = True) -> str:
    """Return a copy of a mail's HTML that looks so whatever the browser prefers."""
    dark = look == "dark"
    html = _DARK.sub("@media all" if dark else "@media not all", html)
    html = _SCHEMES.sub(rf"\1{'dark' if dark else 'light'}", html)
    if look == "inverted":
        html = html.replace("</head>", f"{_INVERTED}</head>", 1)
    if not pictures:
        return _SOURCE.sub(r"\1", html)
    for address, ink in _STAND_INS.items():
        html = html.replace(f'src="{address}"', f'src="{_drawing(ink)}"')
    return html


def _drawing(ink: str) -> str:
    disc = f"<circle cx='18' cy='18' r='15' fill='%23{ink}'/>"
    bar = f"<rect x='44' y='11' width='96' height='14' rx='7' fill='%23{ink}'/>"
    return f"data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' width='144' height='36'>{disc}{bar}</svg>"
