"""Mailjet, by its recorded responses."""

from dataclasses import replace
from typing import Any

import pytest
from msgspec import structs

from mailroom.errors import Declined, Misconfigured, Rejected, SendingError, Unavailable, Uncertain
from mailroom.message import Address
from mailroom.providers import Provider, connect
from mailroom.providers.http.mail_fields import basic
from mailroom.providers.mailjet import KINDS, Settings
from tests.http_recorder import Answer, Request, json_answer
from tests.mails import email
from tests.providers.contract import context
from tests.providers.http_contract import HttpProviderContract
from tests.providers.http_service import HttpService, Vendor
from tests.providers.oracles import MAILS, anymail_request, differences, our_request

KEY = "0123456789abcdef0123456789abcdef"
SECRET = "fedcba9876543210fedcba9876543210"


def failure(code: str, *about: str, message: str = "It went wrong", status: int = 400) -> dict[str, Any]:
    return {
        "ErrorIdentifier": "f987008f-251a-4dff-8ffc-40f1583ad7bc",
        "ErrorCode": code,
        "StatusCode": status,
        "ErrorMessage": message,
        "ErrorRelatedTo": list(about),
    }


def refusal(*failures: dict[str, Any], status: int = 400) -> Answer:
    return json_answer(status, {"Messages": [{"Status": "error", "Errors": list(failures)}]})


def accepted(number: int) -> Answer:
    to = {
        "Email": "ada@reader.example",
        "MessageUUID": "123",
        "MessageID": number,
        "MessageHref": f"https://api.mailjet.com/v3/message/{number}",
    }
    return json_answer(200, {"Messages": [{"Status": "success", "CustomID": "", "To": [to], "Cc": [], "Bcc": []}]})


def _subject(request: Request) -> str:
    subject: str = request.json["Messages"][0]["Subject"]
    return subject


VENDOR = Vendor(
    settings=Settings,
    options={"api_key": KEY, "secret_key": SECRET},
    secrets=(KEY, SECRET, basic(KEY, Settings(api_key=KEY, secret_key=SECRET).secret_key)),
    accepted=accepted(576460752303423500),
    refusals={
        Rejected: refusal(failure("mj-0013", "To[0].Email", message='"ada" is an invalid email address.')),
        Misconfigured: json_answer(
            401,
            {
                "ErrorIdentifier": "06df1144-c6f3-4ca7-8885-7ec5d4344113",
                "ErrorCode": "mj-0015",
                "ErrorMessage": "API key authentication/authorization failure.",
                "StatusCode": 401,
            },
        ),
        Unavailable: json_answer(429, {"ErrorMessage": "Too Many Requests", "StatusCode": 429}),
    },
    subject=_subject,
    server_error=Uncertain,
    server_fault=json_answer(500, {"ErrorCode": "mj-9999", "ErrorMessage": "Internal Server Error", "StatusCode": 500}),
)


@pytest.mark.parametrize("name", MAILS)
async def test_anymail_sends_the_same(name: str) -> None:
    """It has all but the recipient in Globals, which Mailjet lays under each message, and our id in EventPayload.

    Message-ID it sends along, which Mailjet refuses (send-0011).
    """
    mail = MAILS[name]
    theirs = await anymail_request("mailjet", mail, VENDOR.accepted, path="/v3.1/", api_key=KEY, secret_key=SECRET)
    ours = await our_request(VENDOR, mail)
    body = theirs.json
    [message] = body["Messages"]
    laid_over = replace(theirs, body=json_answer(200, {"Messages": [{**body["Globals"], **message}]}).body)
    assert differences(laid_over, ours) == {
        "Messages[0].Headers.Message-ID": (mail.message_id, None),
        "Messages[0].EventPayload": (f'{{"mailroom_id": "{mail.id}"}}', None),
        "Messages[0].CustomID": (None, mail.id),
    }


class TestMailjet(HttpProviderContract):
    vendor = VENDOR

    async def test_the_request_is_the_documented_one(self, provider: Provider, service: HttpService) -> None:
        mail = structs.replace(email(), reply_to=Address("help@acme.example", "Help"))
        receipt = await provider.send(mail)
        assert receipt.provider_message_id == "576460752303423500"
        [request] = service.recorder.requests
        assert (request.method, request.target) == ("POST", "/v3.1/send")
        assert request.header("authorization") == VENDOR.secrets[2]
        assert request.json == {
            "Messages": [
                {
                    "From": {"Email": "no-reply@acme.example", "Name": "Acme"},
                    "To": [{"Email": "ada@reader.example"}],
                    "ReplyTo": {"Email": "help@acme.example", "Name": "Help"},
                    "Subject": "Your code",
                    "TextPart": mail.text,
                    "HTMLPart": mail.html,
                    "CustomID": mail.id,
                    "Headers": {"Auto-Submitted": "auto-generated"},
                }
            ]
        }

    @pytest.mark.parametrize(("code", "kind"), KINDS.items())
    async def test_each_documented_error_has_its_kind(
        self, provider: Provider, service: HttpService, code: str, kind: type[SendingError]
    ) -> None:
        service.answer(refusal(failure(code)))
        with pytest.raises(kind) as refused:
            await provider.send(email())
        assert refused.value.code == code

    @pytest.mark.parametrize("status", [200, 201, 400])
    async def test_a_success_with_an_error_is_a_refusal(
        self, provider: Provider, service: HttpService, status: int
    ) -> None:
        service.answer(refusal(failure("mj-0013", "To[0].Email"), status=status))
        with pytest.raises(Rejected, match=r"To\[0\]"):
            await provider.send(email())

    @pytest.mark.parametrize("about", ["From", "From.Email", "ReplyTo.Email", 'Headers["X-Fine"]'])
    async def test_an_error_about_the_sender_is_misconfigured(
        self, provider: Provider, service: HttpService, about: str
    ) -> None:
        service.answer(refusal(failure("mj-0013", about)))
        with pytest.raises(Misconfigured):
            await provider.send(email())

    async def test_of_several_errors_misconfigured_comes_first(self, provider: Provider, service: HttpService) -> None:
        service.answer(refusal(failure("mj-0013", "To[0].Email"), failure("send-0008", "From", status=403)))
        with pytest.raises(Misconfigured) as refused:
            await provider.send(email())
        assert refused.value.code == "send-0008"

    @pytest.mark.parametrize(
        ("status", "kind"), [(400, Declined), (403, Misconfigured), (429, Unavailable), (500, Uncertain)]
    )
    async def test_an_undocumented_code_is_classified_by_its_status(
        self, provider: Provider, service: HttpService, status: int, kind: type[SendingError]
    ) -> None:
        service.answer(refusal(failure("mj-4711", status=status)))
        with pytest.raises(kind):
            await provider.send(email())

    async def test_a_success_without_an_id_is_uncertain(self, provider: Provider, service: HttpService) -> None:
        service.answer(accepted(0))
        with pytest.raises(Uncertain):
            await provider.send(email())

    async def test_the_sandbox_is_a_field_beside_the_messages(self, service: HttpService) -> None:
        """The response has the id 0, which must not be recorded as a mail's."""
        service.answer(accepted(0))
        provider = connect(service.settings.model_copy(update={"sandbox": True}), context())
        receipt = await provider.send(email())
        await provider.aclose()
        assert receipt.provider_message_id == ""
        assert "sandbox" in receipt.diagnostic
        assert service.recorder.requests[0].json["SandboxMode"] is True

    @pytest.mark.parametrize("name", ["Reply-To", "bcc", "Message-ID", "X-Mailer", "List-Id", "X-MJ-CustomID"])
    async def test_a_forbidden_header_is_refused(self, provider: Provider, service: HttpService, name: str) -> None:
        with pytest.raises(Misconfigured, match=name):
            await provider.send(structs.replace(email(), headers=((name, "value"),)))
        assert not service.recorder.requests

    async def test_an_empty_part_is_left_out(self, provider: Provider, service: HttpService) -> None:
        await provider.send(email(html=""))
        assert "HTMLPart" not in service.recorder.requests[0].json["Messages"][0]
