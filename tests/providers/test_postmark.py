"""Postmark, by its recorded responses."""

import pytest
from msgspec.structs import replace
from pydantic import ValidationError

from mailroom.errors import Misconfigured, Rejected, SendingError, Unavailable
from mailroom.message import Address
from mailroom.providers import Provider, connect
from mailroom.providers.postmark import KINDS, Settings
from tests.http_recorder import Answer, json_answer
from tests.mails import email, templated
from tests.providers.contract import context
from tests.providers.http_contract import HttpProviderContract
from tests.providers.http_service import HttpService, Vendor
from tests.providers.oracles import MAILS, anymail_request, differences, our_request
from tests.providers.templates_contract import TemplatesContract

TOKEN = "0b1c2d3e-4f50-6172-8394-a5b6c7d8e9f0"


def refusal(code: int, message: str = "It went wrong", status: int = 422) -> Answer:
    return json_answer(status, {"ErrorCode": code, "Message": message})


VENDOR = Vendor(
    settings=Settings,
    options={"server_token": TOKEN},
    secrets=(TOKEN,),
    accepted=json_answer(
        200,
        {
            "To": "ada@reader.example",
            "SubmittedAt": "2026-11-21T12:00:00.0000000Z",
            "MessageID": "b7bc2f4a-e38e-4336-af7d-e6c392c2f817",
            "ErrorCode": 0,
            "Message": "OK",
        },
    ),
    refusals={
        Rejected: refusal(406, "You tried to send to a recipient that has been marked as inactive."),
        Misconfigured: refusal(10, "Request does not contain a valid Server token.", 401),
        Unavailable: refusal(429, "Rate limit exceeded.", 429),
    },
    subject=lambda request: request.json["Subject"],
    server_error=Unavailable,
    server_fault=refusal(500, "Internal Server Error", 500),
)


@pytest.mark.parametrize("name", MAILS)
async def test_anymail_sends_the_same(name: str) -> None:
    """Except for the request to use our Message-ID, by which duplicates after a crash can be recognized."""
    mail = MAILS[name]
    theirs = await anymail_request("postmark", mail, VENDOR.accepted, server_token=TOKEN, message_stream="codes")
    ours = await our_request(VENDOR, mail, message_stream="codes")
    assert differences(theirs, ours) == {"Headers.X-PM-KeepID": (None, "true")}


@pytest.mark.parametrize("template", ["sign-in", "1234567"], ids=["alias", "number"])
async def test_anymail_sends_the_same_by_a_template(template: str) -> None:
    """Except for the usual differences, and a slash that Postmark's own page does not have."""
    mail = templated(template)
    theirs = await anymail_request("postmark", mail, VENDOR.accepted, server_token=TOKEN)
    assert differences(theirs, await our_request(VENDOR, mail)) == {
        "target": (("POST", "/email/withTemplate/"), ("POST", "/email/withTemplate")),
        "Headers.X-PM-KeepID": (None, "true"),
    }


class TestPostmark(HttpProviderContract, TemplatesContract):
    vendor = VENDOR

    async def test_the_request_is_the_documented_one(self, service: HttpService) -> None:
        settings = service.settings.model_copy(update={"message_stream": "codes"})
        provider = connect(settings, context())
        mail = replace(email(sender=Address("no-reply@acme.example", "Acme")), reply_to=Address("help@acme.example"))
        receipt = await provider.send(mail)
        await provider.aclose()
        assert receipt.provider_message_id == "b7bc2f4a-e38e-4336-af7d-e6c392c2f817"
        assert receipt.diagnostic == "OK"
        [request] = service.recorder.requests
        assert (request.method, request.target) == ("POST", "/email")
        assert request.header("x-postmark-server-token") == TOKEN
        assert request.json == {
            "From": "Acme <no-reply@acme.example>",
            "To": "ada@reader.example",
            "ReplyTo": "help@acme.example",
            "Subject": "Your code",
            "HtmlBody": mail.html,
            "TextBody": mail.text,
            "Headers": [
                {"Name": "Auto-Submitted", "Value": "auto-generated"},
                {"Name": "Message-ID", "Value": mail.message_id},
                {"Name": "X-PM-KeepID", "Value": "true"},
            ],
            "Metadata": {"mailroom_id": mail.id},
            "MessageStream": "codes",
        }

    @pytest.mark.parametrize(("code", "kind"), KINDS.items())
    async def test_each_documented_error_has_its_kind(
        self, provider: Provider, service: HttpService, code: str, kind: type[SendingError]
    ) -> None:
        service.answer(refusal(int(code)))
        with pytest.raises(kind) as refused:
            await provider.send(email())
        assert refused.value.code == code

    async def test_an_unknown_error_is_misconfigured(self, provider: Provider, service: HttpService) -> None:
        """Another provider may accept the mail; the recipient's address is not at fault."""
        service.answer(refusal(1235, "The 'MessageStream' provided does not exist on this server."))
        with pytest.raises(Misconfigured):
            await provider.send(email())

    @pytest.mark.parametrize(
        ("message", "kind"),
        [
            ("Invalid 'From' address: 'no-reply@acme'.", Misconfigured),
            ("Error parsing 'Reply-To': Illegal email domain 'acme'.", Misconfigured),
            ("Error parsing 'To': Illegal email address 'ada'.", Rejected),
        ],
    )
    async def test_an_invalid_field_is_classified_by_its_name(
        self, provider: Provider, service: HttpService, message: str, kind: type[SendingError]
    ) -> None:
        service.answer(refusal(300, message))
        with pytest.raises(kind):
            await provider.send(email())

    async def test_a_success_that_will_not_deliver_is_a_refusal(self, provider: Provider, service: HttpService) -> None:
        service.answer(
            json_answer(
                200,
                {
                    "ErrorCode": 0,
                    "MessageID": "b7bc2f4a",
                    "Message": "Message OK, but will not deliver to these inactive addresses: ada@reader.example.",
                },
            )
        )
        with pytest.raises(Rejected):
            await provider.send(email())

    async def test_a_blocked_network_is_misconfigured(self, provider: Provider, service: HttpService) -> None:
        """The firewall responds with an HTML page."""
        service.answer(Answer(403, b"<html><h1>403 Forbidden</h1></html>", {"Content-Type": "text/html"}))
        with pytest.raises(Misconfigured, match="Forbidden"):
            await provider.send(email())

    async def test_the_sandbox_uses_the_public_token(self, service: HttpService) -> None:
        """With a requested and a given token."""
        for change in ({"sandbox": True}, {"sandbox": True, "server_token": None}):
            provider = connect(service.settings.model_copy(update=change), context())
            await provider.send(email())
            await provider.aclose()
        assert [r.header("x-postmark-server-token") for r in service.recorder.requests] == ["POSTMARK_API_TEST"] * 2


def test_without_a_sandbox_a_token_must_be_given() -> None:
    with pytest.raises(ValidationError, match="server_token is missing"):
        Settings.model_validate({})
    assert Settings.model_validate({"sandbox": True}).sandbox
