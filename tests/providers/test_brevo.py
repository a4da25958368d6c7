"""Brevo, by its recorded responses."""

import json
from email.header import decode_header, make_header

import pytest
from msgspec.structs import replace
from pydantic import ValidationError

from mailroom.errors import Misconfigured, Rejected, SendingError, Unavailable
from mailroom.message import Address
from mailroom.providers import Provider, connect
from mailroom.providers.brevo import KINDS, Settings
from tests.http_recorder import Answer, json_answer
from tests.mails import email, templated
from tests.providers.contract import context
from tests.providers.http_contract import HttpProviderContract
from tests.providers.http_service import HttpService, Vendor
from tests.providers.oracles import MAILS, anymail_request, differences, our_request
from tests.providers.templates_contract import TemplatesContract

KEY = "xkeysib-0123456789abcdef-AbCdEf"


def refusal(status: int, code: str, message: str = "It went wrong", **headers: str) -> Answer:
    return json_answer(status, {"code": code, "message": message}, headers)


VENDOR = Vendor(
    settings=Settings,
    options={"api_key": KEY},
    secrets=(KEY,),
    accepted=json_answer(201, {"messageId": "<202611211200.12345678901@smtp-relay.mailin.fr>"}),
    refusals={
        Rejected: refusal(400, "invalid_parameter", "email is not valid in to"),
        Misconfigured: refusal(401, "unauthorized", "Key not found"),
        Unavailable: refusal(429, "too_many_requests", "Too many requests"),
    },
    subject=lambda request: request.json["subject"],
    server_error=Unavailable,
    template="7",
    server_fault=refusal(500, "internal_error"),
)


@pytest.mark.parametrize("name", MAILS)
async def test_anymail_sends_the_same(name: str) -> None:
    """Except for the idempotency key, and Message-ID: Brevo takes no standard header, and sets its own."""
    mail = MAILS[name]
    theirs = await anymail_request("brevo", mail, VENDOR.accepted, path="/v3/", api_key=KEY)
    assert differences(theirs, await our_request(VENDOR, mail)) == {
        "HTTP idempotencykey": (None, mail.id),
        "headers.Message-ID": (mail.message_id, None),
        "headers.idempotencyKey": (None, mail.id),
    }


async def test_anymail_sends_the_same_by_a_template() -> None:
    """Except for the usual differences, and the template's number, which is an integer by Brevo's SDK."""
    mail = templated(VENDOR.template)
    theirs = await anymail_request("brevo", mail, VENDOR.accepted, path="/v3/", api_key=KEY)
    assert differences(theirs, await our_request(VENDOR, mail)) == {
        "HTTP idempotencykey": (None, mail.id),
        "headers.Message-ID": (mail.message_id, None),
        "headers.idempotencyKey": (None, mail.id),
        "templateId": ("7", 7),
    }


class TestBrevo(HttpProviderContract, TemplatesContract):
    vendor = VENDOR

    async def test_the_request_is_the_documented_one(self, provider: Provider, service: HttpService) -> None:
        mail = replace(email(), reply_to=Address("help@acme.example"))
        receipt = await provider.send(mail)
        assert receipt.provider_message_id == "<202611211200.12345678901@smtp-relay.mailin.fr>"
        [request] = service.recorder.requests
        assert (request.method, request.target) == ("POST", "/v3/smtp/email")
        assert request.header("api-key") == KEY
        assert request.header("idempotencykey") == mail.id
        assert request.json == {
            "sender": {"email": "no-reply@acme.example", "name": "Acme"},
            "to": [{"email": "ada@reader.example"}],
            "replyTo": {"email": "help@acme.example"},
            "subject": "Your code",
            "htmlContent": mail.html,
            "textContent": mail.text,
            "headers": {
                "Auto-Submitted": "auto-generated",
                "idempotencyKey": mail.id,
                "X-Mailin-custom": json.dumps({"mailroom_id": mail.id}),
            },
        }

    @pytest.mark.parametrize(("code", "kind"), KINDS.items())
    async def test_each_documented_error_has_its_kind(
        self, provider: Provider, service: HttpService, code: str, kind: type[SendingError]
    ) -> None:
        service.answer(refusal(400, code))
        with pytest.raises(kind) as refused:
            await provider.send(email())
        assert refused.value.code == code

    async def test_an_unknown_sender_is_misconfigured(self, provider: Provider, service: HttpService) -> None:
        service.answer(refusal(400, "invalid_parameter", "valid sender email required"))
        with pytest.raises(Misconfigured):
            await provider.send(email())

    async def test_a_repeated_mail_counts_as_accepted(self, provider: Provider, service: HttpService) -> None:
        """The response to the key of an earlier attempt: nothing is sent twice, and nothing failed."""
        service.answer(refusal(400, "duplicate_parameter", "Idempotency key already used"))
        receipt = await provider.send(email())
        assert receipt.provider_message_id == ""
        assert "already used" in receipt.diagnostic

    async def test_the_reset_of_the_rate_limit_is_honoured(self, provider: Provider, service: HttpService) -> None:
        service.answer(refusal(429, "too_many_requests", **{"x-sib-ratelimit-reset": "45"}))
        with pytest.raises(Unavailable) as refused:
            await provider.send(email())
        assert refused.value.retry_after == 45

    async def test_the_sandbox_is_a_header(self, service: HttpService) -> None:
        provider = connect(service.settings.model_copy(update={"sandbox": True}), context())
        await provider.send(email())
        await provider.aclose()
        assert service.recorder.requests[0].json["headers"]["X-Sib-Sandbox"] == "drop"

    async def test_a_name_that_brevo_would_drop_is_encoded(self, provider: Provider, service: HttpService) -> None:
        """It drops names beyond ASCII that hold a comma."""
        for name in ("Ærø & Søn, Inc.", "Ærø Søn", "Acme, Inc."):
            await provider.send(email(sender=Address("no-reply@acme.example", name)))
        names = [request.json["sender"]["name"] for request in service.recorder.requests]
        assert names[0].isascii()
        assert str(make_header(decode_header(names[0]))) == "Ærø & Søn, Inc."
        assert names[1:] == ["Ærø Søn", "Acme, Inc."]

    async def test_a_header_beyond_ascii_is_refused(self, provider: Provider, service: HttpService) -> None:
        """It would be sent in raw UTF-8."""
        with pytest.raises(Misconfigured, match="ASCII"):
            await provider.send(replace(email(), headers=(("X-Fine", "Grüße"),)))
        assert not service.recorder.requests

    async def test_an_unknown_template_is_misconfigured(self, provider: Provider, service: HttpService) -> None:
        service.answer(refusal(400, "invalid_parameter", "templateId is not valid"))
        with pytest.raises(Misconfigured):
            await provider.send(templated("8"))


def test_a_template_is_a_number() -> None:
    with pytest.raises(ValidationError, match="numbers"):
        Settings.model_validate({"api_key": KEY, "templates": {"SignIn": "sign-in"}})
