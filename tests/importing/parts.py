"""Logto's connectors, and providers to import them to, as far as the house may not have them yet."""

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from mailroom.importing import plan
from mailroom.importing.plan import OverlayFile, Plan
from mailroom.providers import ProviderSettings, module_of

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
"""Logto's package → the provider's type here."""


class Wide(ProviderSettings):
    """A provider with every setting that an HTTP provider takes over from Logto."""

    api_key: SecretStr | None = None
    server_token: SecretStr | None = None
    access_key_id: str | None = None
    access_key_secret: SecretStr | None = None
    region: str | None = None
    configuration_set_name: str | None = None
    endpoint: str | None = None
    domain: str | None = None
    templates: dict[str, str] = Field({})


class Grant(BaseModel):
    """An OAuth2 table."""

    model_config = ConfigDict(extra="forbid")

    client_id: str | None = None
    client_secret: SecretStr | None = None
    refresh_token: SecretStr | None = None
    service_client: str | None = None
    private_key: SecretStr | None = None
    passphrase: SecretStr | None = None
    access_token: SecretStr | None = None
    access_url: str | None = Field(None, pattern="^https://")
    scope: str | None = None


class ModernSmtp(ProviderSettings):
    """An SMTP provider that has OAuth2 and a name for the certificate."""

    host: str
    port: int = 587
    tls: str = "starttls"
    tls_min_version: str = "1.2"
    servername: str | None = None
    username: str | None = None
    oauth2: Grant | None = None


def wide(type_name: str) -> type[ProviderSettings] | None:
    """Return the house's own SMTP settings, and for all others those of `Wide`."""
    return module_of("smtp").Settings if type_name == "smtp" else Wide


def modern(_: str) -> type[ProviderSettings] | None:
    """Return the settings of a server that knows OAuth2."""
    return ModernSmtp


def row(name: str) -> dict[str, Any]:
    """Return a connector as the Management API has it, from Logto's own defaults."""
    found: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return found


def config(name: str) -> dict[str, Any]:
    """Return its configuration alone."""
    found: dict[str, Any] = row(name)["config"]
    return found


def planned(document: Any, **options: Any) -> Plan:
    """Plan the import of one document."""
    return plan([("given.json", document)], **{"schemas": wide, **options})


def contents(files: tuple[OverlayFile, ...]) -> dict[str, bytes]:
    """Return the files by where they go."""
    return {file.path: file.content for file in files}


def told(made: Plan) -> dict[str, str]:
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
