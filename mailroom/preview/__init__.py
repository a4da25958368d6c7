"""Shows a mail as its reader will see it: in light and dark, inverted, without images.

result = view(context, "SignIn", "en", Sample.FULL)  # a View, or a Finding if it cannot be rendered
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from email import message_from_bytes, policy
from pathlib import PurePosixPath
from typing import Any, Final

from mailroom.lint import Finding, merge_findings
from mailroom.lint.rule import RenderedMail
from mailroom.lint.rules.inbox import preheader
from mailroom.lint.rules.rendered import LintContext
from mailroom.lint.runner import Linter
from mailroom.lint.samples import DARK_LOGO, LOGO, Sample, payload
from mailroom.lint.source_lines import SourceLines
from mailroom.lint.template_faults import find_template_faults
from mailroom.message import Payload

LOOKS: Final = ("light", "dark", "inverted")
"""`inverted`: how a client shows a mail that it assumes to have no dark mode."""


@dataclass(frozen=True, slots=True)
class View:
    """A rendered mail with its findings."""

    mail: RenderedMail
    findings: list[Finding]

    def as_json(self) -> dict[str, Any]:
        """Return what the page shows."""
        email = self.mail.email
        headers = message_from_bytes(email.raw, policy=policy.default).items()
        return {
            "from": email.sender.name or email.sender.email,
            "address": email.sender.email,
            "subject": email.subject,
            "preheader": preheader(self.mail),
            "looks": {look: [with_look(email.html, look, images=images) for images in (True, False)] for look in LOOKS},
            "text": email.text,
            "source": email.html,
            "headers": "\n".join(f"{name}: {value}" for name, value in headers),
            "raw": email.raw.decode("utf-8", "replace"),
            "size": {"html": len(email.html.encode()), "message": len(email.raw)},
            "findings": [{**finding.as_log_fields(), "is_warning": finding.is_warning} for finding in self.findings],
        }


def view(
    context: LintContext, kind: str, language: str, sample: Sample, changed_payload: Payload | None = None
) -> View | Finding:
    """Render and check one mail; return a finding if it cannot be rendered. A changed payload replaces the sample's."""
    mail = context.render(kind, language, sample, changed_payload)
    if isinstance(mail, Finding):
        return mail
    linter = Linter(SourceLines(context.renderer.inventory(mail.message.payload)))
    faults = find_template_faults(list(context.renderer.faults), context)
    findings = [
        *(fault for fault in faults if _concerns(fault, kind, language, context)),
        *linter.variables(kind, language, mail.mail_sources),
        *linter.findings(mail),
    ]
    return View(mail, merge_findings(findings))


def _concerns(fault: Finding, kind: str, language: str, context: LintContext) -> bool:
    """Return whether a file may be meant for this mail: its path names no other kind and no other language."""
    kinds = context.inventory.kinds
    path = PurePosixPath(fault.file)
    others = {name for one, tags in kinds.items() for name in (one, *tags)} - {kind, language}
    return others.isdisjoint((*path.parts, path.stem))


def sample_payload(context: LintContext, kind: str, language: str, sample: Sample) -> str:
    """Return a sample's payload as JSON, for a person to change."""
    return json.dumps(payload(kind, sample, language, context.owner), indent=2, ensure_ascii=False)


_DARK: Final = re.compile(r"@media\s*\(\s*prefers-color-scheme\s*:\s*dark\s*\)", re.IGNORECASE)
_SCHEMES: Final = re.compile(r"(color-scheme:)\s*light dark")
_SOURCE: Final = re.compile(r"(<img\b[^>]*?)\ssrc=(\"[^\"]*\"|'[^']*')", re.IGNORECASE)
_INVERTED: Final = (
    "<style>html{filter:invert(1) hue-rotate(180deg);background:#fff}"
    "img[src],[style*='gradient(']{filter:invert(1) hue-rotate(180deg)}"
    "[style*='gradient('] img[src]{filter:none}</style>"
)
"""Such clients change colours, and leave images as they are, gradients among them."""
_LOGO_COLORS: Final[Mapping[str, str]] = {DARK_LOGO: "f2f2f5", LOGO: "1a1a22"}
"""The samples' logos, which do not exist -> the colour of the drawing that replaces them."""


def with_look(html: str, look: str, *, images: bool = True) -> str:
    """Return a copy of a mail's HTML that has one of `LOOKS`, whatever the browser prefers."""
    is_dark = look == "dark"
    html = _DARK.sub("@media all" if is_dark else "@media not all", html)
    html = _SCHEMES.sub(rf"\1{'dark' if is_dark else 'light'}", html)
    if look == "inverted":
        html = html.replace("</head>", f"{_INVERTED}</head>", 1)
    if not images:
        return _SOURCE.sub(r"\1", html)
    for address, color in _LOGO_COLORS.items():
        html = html.replace(f'src="{address}"', f'src="{_draw_logo(color)}"')
    return html


def _draw_logo(color: str) -> str:
    disc = f"<circle cx='18' cy='18' r='15' fill='%23{color}'/>"
    bar = f"<rect x='44' y='11' width='96' height='14' rx='7' fill='%23{color}'/>"
    return f"data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' width='144' height='36'>{disc}{bar}</svg>"
