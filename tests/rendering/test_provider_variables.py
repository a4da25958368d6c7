"""The variables of templates that are stored at a provider: complete, because SES drops a mail that lacks one."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from msgspec.structs import replace

from mailroom.lint.samples import Sample, payload
from mailroom.logto import CODE_TYPES, CODE_VARIABLES, EVENT_VARIABLES, INVITATION, INVITATION_VARIABLES, complete
from mailroom.message import Email
from mailroom.providers import module_of, types
from mailroom.providers.base import TemplatesAtProvider
from mailroom.providers.http.http_provider import HttpProvider
from mailroom.providers.http.template_variables import flat
from tests.mails import email
from tests.providers.contract import context
from tests.providers.templates_contract import written
from tests.rendering.samples import CAPTURES, KINDS, SENDER, make_renderer, message

RENDERER = make_renderer()
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "aliyun": {"access_key_id": "LTAI0123456789", "access_key_secret": "s" * 30},
    "brevo": {"api_key": "xkeysib-0123456789"},
    "mailgun": {"api_key": "key-0123456789", "domain": "mg.acme.example"},
    "postmark": {"server_token": "0123456789abcdef"},
    "resend": {"api_key": "re_0123456789"},
    "sendgrid": {"api_key": "SG.0123456789"},
    "ses": {"region": "eu-central-1", "access_key_id": "AKIA0123456789ABCDEF", "access_key_secret": "s" * 40},
}


def known_variables(kind: str) -> Mapping[str, Any]:
    """Return the variables that the page promises for a kind."""
    return CODE_VARIABLES if kind in CODE_TYPES else INVITATION_VARIABLES if kind == INVITATION else EVENT_VARIABLES


def leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield all values that are no objects, by their dotted names."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from leaves(inner, f"{name}.{key}" if name else key)
    else:
        yield name, value


def templated(kind: str, fields: Mapping[str, Any]) -> Email:
    """Return the mail of a kind, with a template at the provider."""
    return RENDERER.render(message(kind, fields), sender=SENDER, reply_to=None, template_at_provider="12")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sample", [Sample.MINIMAL, Sample.NULL, Sample.FULL])
def test_every_variable_of_the_kind_is_there_and_none_is_null(kind: str, sample: Sample) -> None:
    variables = dict(leaves(templated(kind, payload(kind, sample, "en")).variables))
    assert {name for name, _ in leaves(known_variables(kind))} <= set(variables)
    assert None not in variables.values()


@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: path.stem)
def test_what_logto_sends_is_a_known_variable(path: Any) -> None:
    """But for what the caller of the Management API adds to an invitation."""
    request = json.loads(path.read_bytes().split(b"\r\n\r\n", 1)[1])
    if request["type"] == INVITATION and "own" in path.stem:
        return
    known = {name for name, _ in leaves(known_variables(request["type"]))}
    sent = {name for name, value in leaves(request["payload"]) if value != {}}
    assert sent <= known, sent - known


def test_what_is_sent_replaces_the_empty_value_whatever_it_is() -> None:
    """An invitation's `organization` may be a text."""
    given = {"organization": "Acme", "inviter": None, "list": [None, {"a": None}], "code": 5, "own": {"x": None}}
    completed = complete(given, INVITATION_VARIABLES)
    assert completed["organization"] == "Acme"
    assert completed["inviter"] == INVITATION_VARIABLES["inviter"]
    assert (completed["list"], completed["code"], completed["own"]) == (["", {"a": ""}], 5, {"x": ""})
    assert given["inviter"] is None


def test_every_vendor_with_templates_is_tested() -> None:
    assert {kind for kind in types() if issubclass(module_of(kind).Settings, TemplatesAtProvider)} == set(SETTINGS)


@pytest.mark.parametrize("kind", SETTINGS)
async def test_each_vendor_is_given_all_variables_and_no_null(kind: str) -> None:
    """Of a code, to which Logto attached nothing else."""
    module = module_of(kind)
    provider = module.connect(module.Settings.model_validate({"type": kind, **SETTINGS[kind]}), context())
    assert isinstance(provider, HttpProvider)
    mail = templated("SignIn", {"code": "314159", "user": {"name": None}})
    try:
        body = written(provider, replace(email(), template_at_provider="12", variables=mail.variables))
    finally:
        await provider.aclose()
    nested, joined = "displayName" in body and "givenName" in body, "organization_displayName" in body
    assert nested or joined
    assert "null" not in body
    assert set(flat(mail.variables)) >= {"code", "user_name", "application_branding_logoUrl", "uiLocales"}
