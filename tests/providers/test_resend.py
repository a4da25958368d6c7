"""Resend, by its recorded responses."""

import json

import pytest
from msgspec.structs import replace

from mailroom.errors import Misconfigured, Rejected, SendingError, Unavailable, Uncertain
from mailroom.message import Address
from mailroom.providers import Provider
from mailroom.providers.refusals import QUOTA_WAIT_SECONDS
from mailroom.providers.resend import KINDS, Settings
from tests.http_recorder import Answer, json_answer
from tests.mails import email, templated
from tests.providers.http_contract import HttpProviderContract
from tests.providers.http_service import HttpService, Vendor
from tests.providers.oracles import MAILS, anymail_request, differences, our_request
from tests.providers.templates_contract import TemplatesContract

KEY = "re_AbCdEfGh_0123456789"


def refusal(status: int, name: str, message: str = "It went wrong", **headers: str) -> Answer:
    return json_answer(status, {"statusCode": status, "name": name, "message": message}, headers)


VENDOR = Vendor(
    settings=Settings,
    options={"api_key": KEY},
    secrets=(KEY,),
    accepted=json_answer(200, {"id": "49a3999c-0ce1-4ea6-ab68-afcd6dc2e794"}),
    refusals={
        Rejected: refusal(422, "validation_error", "Invalid `to` field."),
        Misconfigured: refusal(403, "invalid_api_key", "API key is invalid."),
        Unavailable: refusal(429, "rate_limit_exceeded", "Too many requests."),
    },
    subject=lambda request: request.json["subject"],
    server_error=Unavailable,
    server_fault=refusal(500, "internal_server_error", "An unexpected error occurred."),
)


@pytest.mark.parametrize("name", MAILS)
async def test_anymail_sends_the_same(name: str) -> None:
    """Except for our id, which is a tag, as events need it, and a header there; and anymail has no idempotency key."""
    mail = MAILS[name]
    theirs = await anymail_request("resend", mail, VENDOR.accepted, api_key=KEY)
    assert differences(theirs, await our_request(VENDOR, mail)) == {
        "HTTP idempotency-key": (None, mail.id),
        "headers.X-Metadata": (json.dumps({"mailroom_id": mail.id}), None),
        "tags[0].name": (None, "mailroom_id"),
        "tags[0].value": (None, mail.id),
    }


class TestResend(HttpProviderContract, TemplatesContract):
    vendor = VENDOR

    async def test_the_request_is_the_documented_one(self, provider: Provider, service: HttpService) -> None:
        mail = email(sender=Address("no-reply@acme.example", "Acme, Inc."))
        receipt = await provider.send(mail)
        assert receipt.provider_message_id == "49a3999c-0ce1-4ea6-ab68-afcd6dc2e794"
        [request] = service.recorder.requests
        assert (request.method, request.target) == ("POST", "/emails")
        assert request.header("authorization") == f"Bearer {KEY}"
        assert request.header("idempotency-key") == mail.id
        assert request.json == {
            "from": '"Acme, Inc." <no-reply@acme.example>',
            "to": ["ada@reader.example"],
            "subject": "Your code",
            "html": mail.html,
            "text": mail.text,
            "headers": {"Auto-Submitted": "auto-generated", "Message-ID": mail.message_id},
            "tags": [{"name": "mailroom_id", "value": mail.id}],
        }

    @pytest.mark.parametrize(("name", "kind"), KINDS.items())
    async def test_each_documented_error_has_its_kind(
        self, provider: Provider, service: HttpService, name: str, kind: type[SendingError]
    ) -> None:
        service.answer(refusal(400, name))
        with pytest.raises(kind) as refused:
            await provider.send(email())
        assert refused.value.code == name

    async def test_an_unverified_domain_is_misconfigured(self, provider: Provider, service: HttpService) -> None:
        """Its code is that of an error in the mail."""
        service.answer(refusal(403, "validation_error", "The acme.example domain is not verified."))
        with pytest.raises(Misconfigured, match="not verified"):
            await provider.send(email())

    async def test_a_used_up_quota_has_a_longer_wait(self, provider: Provider, service: HttpService) -> None:
        service.answer(refusal(429, "monthly_quota_exceeded", **{"ratelimit-reset": "3"}))
        with pytest.raises(Unavailable) as refused:
            await provider.send(email())
        assert refused.value.retry_after == QUOTA_WAIT_SECONDS

    async def test_the_reset_of_the_rate_limit_is_honoured(self, provider: Provider, service: HttpService) -> None:
        service.answer(refusal(429, "rate_limit_exceeded", **{"ratelimit-reset": "3"}))
        with pytest.raises(Unavailable) as refused:
            await provider.send(email())
        assert refused.value.retry_after == 3

    async def test_an_idempotency_key_used_with_another_body_is_uncertain(
        self, provider: Provider, service: HttpService
    ) -> None:
        service.answer(refusal(409, "invalid_idempotent_request"))
        with pytest.raises(Uncertain):
            await provider.send(email())

    async def test_a_template_gets_the_variables_that_resend_accepts(
        self, provider: Provider, service: HttpService
    ) -> None:
        """Names without dots; texts escaped, because Resend inserts them into HTML unescaped."""
        mail = templated("sign-in")
        odd = {"email": "ada@reader.example", "EMAIL": "x", "this": "x", "n": 2**53, "long": "x" * 2001, "ok": True}
        await provider.send(replace(mail, variables={**mail.variables, **odd}))
        request = service.recorder.requests[0].json
        assert request["template"] == {
            "id": "sign-in",
            "variables": {
                "code": "482913",
                "locale": "de",
                "uiLocales": "de-AT de",
                "application_name": "Ærø &lt;b&gt;&amp; Søn",
                "application_branding_logoUrl": "https://acme.example/logo.png",
                "email": "ada@reader.example",
                "ok": "true",
            },
        }
        assert not {"subject", "html", "text"} & request.keys()

    async def test_an_unknown_template_is_misconfigured(self, provider: Provider, service: HttpService) -> None:
        service.answer(refusal(422, "validation_error", "Template not found"))
        with pytest.raises(Misconfigured):
            await provider.send(templated("sign-out"))
