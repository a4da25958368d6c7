"""A mail with a template at the provider, as each vendor's API takes it."""

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

import pytest
from msgspec.structs import replace

from mailroom.providers import module_of
from mailroom.providers.http.http_provider import HttpProvider
from tests.mails import CODE, email
from tests.providers.contract import context

VARIABLES = {"code": CODE, "application": {"name": "Riverside Web"}, "locale": "fr", "uiLocales": "fr-CA fr"}
KEYS: Mapping[str, Mapping[str, Any]] = {
    "sendgrid": {"api_key": "SG.0123456789"},
    "postmark": {"server_token": "0123456789abcdef"},
    "mailgun": {"api_key": "key-0123456789", "domain": "mg.acme.example"},
    "brevo": {"api_key": "xkeysib-0123456789"},
    "ses": {"region": "eu-central-1", "access_key_id": "AKIA0123456789ABCDEF", "access_key_secret": "s" * 40},
}


async def asked(kind: str, template: str) -> tuple[str, dict[str, Any]]:
    """Return the path and the fields of the request."""
    module = module_of(kind)
    settings = module.Settings.model_validate({"type": kind, "templates": {"default": template}, **KEYS[kind]})
    assert settings.template_for("SignIn") == template
    provider = module.connect(settings, context())
    assert isinstance(provider, HttpProvider)
    try:
        call = provider.build_request(replace(email(), template_at_provider=template, variables=VARIABLES))
    finally:
        await provider.aclose()
    text = call.body.decode()
    return call.path, json.loads(text) if text.startswith("{") else dict(parse_qsl(text))


async def test_sendgrid_is_given_a_dynamic_template() -> None:
    _, fields = await asked("sendgrid", "d-1234")
    assert fields["template_id"] == "d-1234"
    assert fields["personalizations"][0]["dynamic_template_data"] == VARIABLES
    assert not {"subject", "content"} & set(fields)


@pytest.mark.parametrize(("template", "named"), [("welcome", {"TemplateAlias": "welcome"}), ("12", {"TemplateId": 12})])
async def test_postmark_is_given_an_alias_or_a_number(template: str, named: dict[str, Any]) -> None:
    path, fields = await asked("postmark", template)
    assert path == "/email/withTemplate"
    assert named.items() <= fields.items()
    assert fields["TemplateModel"] == VARIABLES
    assert not {"Subject", "HtmlBody", "TextBody"} & set(fields)


async def test_mailgun_is_given_a_name() -> None:
    _, fields = await asked("mailgun", "sign-in")
    assert (fields["template"], json.loads(fields["t:variables"])) == ("sign-in", VARIABLES)
    assert not {"subject", "text", "html"} & set(fields)


async def test_brevo_is_given_a_number() -> None:
    _, fields = await asked("brevo", "12")
    assert (fields["templateId"], fields["params"]) == (12, VARIABLES)
    assert not {"subject", "htmlContent", "textContent"} & set(fields)


async def test_ses_is_given_a_name_and_the_headers() -> None:
    _, fields = await asked("ses", "sign-in")
    assert fields["FromEmailAddress"] == "Acme <no-reply@acme.example>"
    assert list(fields["Content"]) == ["Template"]
    template = fields["Content"]["Template"]
    assert (template["TemplateName"], json.loads(template["TemplateData"])) == ("sign-in", VARIABLES)
    assert template["Headers"] == [{"Name": "Auto-Submitted", "Value": "auto-generated"}]


@pytest.mark.parametrize("kind", ["brevo", "mailgun", "sendgrid"])
async def test_an_empty_html_body_is_left_out(kind: str) -> None:
    """A mail may be plain text only."""
    module = module_of(kind)
    provider = module.connect(module.Settings.model_validate({"type": kind, **KEYS[kind]}), context())
    assert isinstance(provider, HttpProvider)
    call = provider.build_request(replace(email(), html=""))
    await provider.aclose()
    assert b"html" not in call.body.lower()
    assert CODE.encode() in call.body
