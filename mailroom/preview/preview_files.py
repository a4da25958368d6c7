"""Writes previews to files: HTML, text and .eml of each mail, and an index of them all."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from mailroom.lint import Finding
from mailroom.lint.rules.inbox import preheader
from mailroom.lint.rules.rendered import LintContext
from mailroom.lint.samples import Sample
from mailroom.preview import View, view

TEMPLATES: Final = Path(__file__).parents[2] / "templates" / "preview"


@dataclass(frozen=True, slots=True)
class Row:
    """One mail in the index."""

    kind: str
    language: str
    sample: str
    name: str
    """Of its files, without their suffixes; empty if the mail could not be rendered."""
    is_plain: bool
    """Whether the mail is plain text."""
    subject: str
    preheader: str
    findings: list[Finding]


def write(
    context: LintContext,
    folder: Path,
    mails: Iterable[tuple[str, str, Sample]],
    *,
    progress: Callable[[], None] = lambda: None,
) -> list[Row]:
    """Write these mails and an index.html into a folder; files of the same names are overwritten."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for kind, language, sample in mails:
        result = view(context, kind, language, sample)
        if isinstance(result, View):
            name = f"{kind}.{language}.{sample.value}"
            email = result.mail.email
            (folder / f"{name}.html").write_text(email.html, encoding="utf-8")
            (folder / f"{name}.txt").write_text(email.text, encoding="utf-8")
            (folder / f"{name}.eml").write_bytes(email.raw)
            row = Row(
                kind,
                language,
                sample.value,
                name,
                not email.html,
                email.subject,
                preheader(result.mail),
                result.findings,
            )
        else:
            row = Row(kind, language, sample.value, "", False, "", "", [result])
        rows.append(row)
        progress()
    page = environment().get_template("index.html").render(rows=rows)
    (folder / "index.html").write_text(page, encoding="utf-8")
    return rows


def environment() -> Environment:
    """Return the environment of the preview's own pages."""
    return Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined)
