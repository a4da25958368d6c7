"""Writes previews to files: HTML, text and .eml of each mail, and an index of them all."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from mailroom.lint import Finding
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
    """Of its files, without their endings."""
    subject: str
    preheader: str
    findings: list[Finding]


def write(
    desk: LintContext,
    folder: Path,
    wanted: Iterable[tuple[str, str, Sample]],
    *,
    progress: Callable[[], None] = lambda: None,
) -> list[Row]:
    """Write these mails and an index.html below a folder; what lay there under the same names is written over."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for kind, language, sample in wanted:
        name = f"{kind}.{language}.{sample.value}"
        found = view(desk, kind, language, sample)
        rows.append(_row(kind, language, sample, name, found))
        if isinstance(found, View):
            email = found.mail.email
            (folder / f"{name}.html").write_text(email.html, encoding="utf-8")
            (folder / f"{name}.txt").write_text(email.text, encoding="utf-8")
            (folder / f"{name}.eml").write_bytes(email.raw)
        progress()
    page = environment().get_template("index.html").render(rows=rows)
    (folder / "index.html").write_text(page, encoding="utf-8")
    return rows


def _row(kind: str, language: str, sample: Sample, name: str, found: View | Finding) -> Row:
    if isinstance(found, Finding):
        return Row(kind, language, sample.value, "", "", "", [found])
    return Row(kind, language, sample.value, name, found.mail.email.subject, found.preheader, found.findings)


def environment() -> Environment:
    """Return what the preview's own pages are made with."""
    return Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined)
