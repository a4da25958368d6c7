"""SMTP2GO, by its recorded responses."""

from dataclasses import replace
from typing import Any

import pytest
from msgspec import structs

from mailroom.errors import Declined, Misconfigured, Rejected, SendingError, Unavailable, Uncertain
from mailroom.message import Address
from mailroom.providers import Provider
from mailroom.providers.refusals import QUOTA_WAIT_SECONDS
from mailroom.providers.smtp2go import KINDS, Settings, Smtp2go
from tests.http_recorder import Answer, json_answer
from tests.mails import email
from tests.providers.contract import context
from tests.providers.http_contract import HttpProviderContract
from tests.providers.http_service import HttpService, Vendor

KEY = "api-0123456789ABCDEF0123456789ABCDEF"
REQUEST = "aa253464-0bd0-467a-b24b-6159dcd7be60"


def refusal(status: int, code: str, message: str = "It went wrong", field: str = "") -> Answer:
    data: dict[str, Any] = {"error": message, "error_code": f"E_ApiResponseCodes.{code}"}
    if field:
        data["field_validation_errors"] = {
            "fieldname": field,
            "message": f"The field '{field}' was expecting a valid RFC-822 formatted email field but found 'ada'",
        }
    return json_answer(status, {"request_id": REQUEST, "data": data})


def counted(succeeded: int, failed: int, *failures: Any) -> Answer:
    data = {"succeeded": succeeded, "failed": failed, "failures": list(failures), "email_id": "1er8bV-6Tw0Mi-7h"}
    return json_answer(200, {"request_id": REQUEST, "data": data})


VENDOR = Vendor(
    settings=Settings,
    options={"api_key": KEY},
    secrets=(KEY,),
    accepted=counted(1, 0),
    refusals={
        Rejected: refusal(400, "NON_VALIDATING_IN_PAYLOAD", field="to"),
        Misconfigured: refusal(
            400, "ENDPOINT_PERMISSION_DENIED", "You do not have permission to access this API endpoint"
        ),
        Unavailable: refusal(429, "RATE_LIMIT_EXCEEDED", "Too many requests"),
    },
    subject=lambda request: request.json["subject"],
    server_error=Uncertain,
    server_fault=refusal(500, "API_EXCEPTION", "Something went wrong on our end"),
)


class TestSmtp2go(HttpProviderContract):
    vendor = VENDOR

    async def test_the_request_is_the_documented_one(self, provider: Provider, service: HttpService) -> None:
        mail = structs.replace(
            email(sender=Address("no-reply@acme.example", "Acme, Inc.")), reply_to=Address("help@acme.example")
        )
        receipt = await provider.send(mail)
        assert receipt.provider_message_id == "1er8bV-6Tw0Mi-7h"
        assert receipt.diagnostic == REQUEST
        [request] = service.recorder.requests
        assert (request.method, request.target) == ("POST", "/v3/email/send")
        assert request.header("x-smtp2go-api-key") == KEY
        assert request.json == {
            "sender": '"Acme, Inc." <no-reply@acme.example>',
            "to": ["ada@reader.example"],
            "subject": "Your code",
            "text_body": mail.text,
            "html_body": mail.html,
            "custom_headers": [
                {"header": "Auto-Submitted", "value": "auto-generated"},
                {"header": "Reply-To", "value": "help@acme.example"},
                {"header": "Message-ID", "value": mail.message_id},
                {"header": "X-Mailroom-ID", "value": mail.id},
            ],
        }

    @pytest.mark.parametrize(
        ("answer", "kind"),
        [
            (counted(0, 1, "ada@reader.example: recipient is suppressed"), Rejected),
            (counted(0, 1, {"email": "ada@reader.example", "error": "recipient is suppressed"}), Rejected),
            (counted(0, 1), Declined),
            (counted(1, 1), Declined),
            (counted(0, 0, "unable to verify sender address"), Misconfigured),
            (refusal(200, "API_EXCEPTION"), Misconfigured),
            (refusal(200, "NON_VALIDATING_IN_PAYLOAD", field="to"), Rejected),
            (counted(0, 0), Uncertain),
        ],
    )
    async def test_a_200_with_failures_is_a_refusal(
        self, provider: Provider, service: HttpService, answer: Answer, kind: type[SendingError]
    ) -> None:
        service.answer(answer)
        with pytest.raises(kind) as refused:
            await provider.send(email())
        assert refused.value.diagnostic

    @pytest.mark.parametrize(("code", "kind"), [*KINDS.items(), ("SOMETHING_NEW", Misconfigured)])
    @pytest.mark.parametrize("nested", [True, False])
    async def test_each_error_has_its_kind_in_data_and_at_the_root(
        self,
        provider: Provider,
        service: HttpService,
        code: str,
        kind: type[SendingError],
        nested: bool,  # noqa: FBT001  # a parameter of the test
    ) -> None:
        fields = {"error": "It went wrong", "error_code": f"E_ApiResponseCodes.{code}"}
        service.answer(json_answer(400, {"request_id": REQUEST, "data": fields} if nested else fields))
        with pytest.raises(kind, match="It went wrong") as refused:
            await provider.send(email())
        assert refused.value.code == code

    @pytest.mark.parametrize(("field", "kind"), [("to", Rejected), ("to[0]", Rejected), ("sender", Misconfigured)])
    async def test_an_invalid_field_is_classified_by_its_name(
        self, provider: Provider, service: HttpService, field: str, kind: type[SendingError]
    ) -> None:
        service.answer(refusal(400, "NON_VALIDATING_IN_PAYLOAD", "An error occurred processing the json", field))
        with pytest.raises(kind, match="was expecting"):
            await provider.send(email())

    async def test_the_reset_of_the_rate_limit_is_honoured(self, provider: Provider, service: HttpService) -> None:
        throttled = VENDOR.refusals[Unavailable]
        service.answer(replace(throttled, headers={**throttled.headers, "X-RateLimit-Reset": "30"}))
        with pytest.raises(Unavailable) as refused:
            await provider.send(email())
        assert refused.value.retry_after == 30

    async def test_a_used_up_plan_is_a_quota(self, provider: Provider, service: HttpService) -> None:
        """As by SMTP: the provider rests, and is asked again."""
        service.answer(refusal(402, "API_EXCEPTION", "You have reached your monthly limit"))
        with pytest.raises(Unavailable, match="monthly limit") as refused:
            await provider.send(email())
        assert refused.value.retry_after == QUOTA_WAIT_SECONDS

    @pytest.mark.parametrize(("name", "value"), [("X-SMTP2GO-Tag", "a"), ("X-Fine", " a"), ("X-Fine", "a ")])
    async def test_a_blocked_header_is_refused(
        self, provider: Provider, service: HttpService, name: str, value: str
    ) -> None:
        with pytest.raises(Misconfigured, match=name):
            await provider.send(structs.replace(email(), headers=((name, value),)))
        assert not service.recorder.requests

    async def test_an_empty_part_is_left_out(self, provider: Provider, service: HttpService) -> None:
        await provider.send(email(html=""))
        assert "html_body" not in service.recorder.requests[0].json


@pytest.mark.parametrize(
    ("region", "host"),
    [
        ("global", "https://api.smtp2go.com"),
        ("us", "https://us-api.smtp2go.com"),
        ("eu", "https://eu-api.smtp2go.com"),
        ("au", "https://au-api.smtp2go.com"),
    ],
)
async def test_the_region_decides_the_host(region: str, host: str) -> None:
    provider = Smtp2go(Settings.model_validate({"api_key": KEY, "region": region}), context())
    assert provider.base == host
    await provider.aclose()
