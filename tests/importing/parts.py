"""Logto's connectors, and their import."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mailroom.importing import make_plan
from mailroom.importing.plan import ImportLog, LeftOut, Note, OverlayFile, Plan, ProviderPlan

FOLDER = Path(__file__).parent / "logto"
OWN = {
    "smtp": "smtp",
    "sendgrid-email": "sendgrid",
    "aws-ses": "ses",
    "mailgun": "mailgun",
    "aliyun-dm": "aliyun",
    "postmark": "postmark",
    "smtp2go-email": "smtp2go",
    "mailjunky": "mailjunky",
}
"""Logto's package → our provider's type."""


def row(name: str) -> dict[str, Any]:
    """Return a connector as the Management API has it, from Logto's own defaults."""
    found: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return found


def config(name: str) -> dict[str, Any]:
    """Return its configuration alone."""
    found: dict[str, Any] = row(name)["config"]
    return found


@dataclass
class Imported:
    """An import: its plan and its log."""

    plan: Plan
    log: ImportLog

    @property
    def files(self) -> tuple[OverlayFile, ...]:
        return self.plan.files

    @property
    def providers(self) -> tuple[ProviderPlan, ...]:
        return self.plan.providers

    @property
    def left_out(self) -> list[LeftOut]:
        return self.log.left_out

    @property
    def notes(self) -> list[Note]:
        return self.log.notes


def plan_all(documents: Iterable[tuple[str, Any]], **options: Any) -> Imported:
    """Import documents: pairs of a source and its JSON."""
    log = ImportLog()
    return Imported(make_plan(documents, log, **options), log)


def planned(document: Any, **options: Any) -> Imported:
    """Import one document."""
    return plan_all([("given.json", document)], **options)


def contents(files: tuple[OverlayFile, ...]) -> dict[str, bytes]:
    """Return the files by their paths."""
    return {file.path: file.content for file in files}


def reasons(made: Imported) -> dict[str, str]:
    """Return what was left out, and why."""
    return {left.what: left.why for left in made.left_out}


def template_row(**over: Any) -> dict[str, Any]:
    """Return a row of `/api/email-templates`."""
    return {
        "tenantId": "default",
        "id": "m4kx2n0qk1ci9dyf8rk0r",
        "languageTag": "fr-CA",
        "templateType": "SignIn",
        "details": {"subject": "Votre code : {{code}}", "content": "<p>{{code}}</p>"},
        "createdAt": 1763712000000,
    } | over
