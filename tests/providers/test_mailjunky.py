"""MailJunky, by the responses that its SDKs expect."""

import pytest
from mailjunky.configuration import Configuration
from mailjunky.connection import Connection
from mailjunky.resources.emails import Emails
from msgspec.structs import replace

from mailroom.errors import Misconfigured, Rejected, SendingError, Unavailable, Uncertain
from mailroom.message import Address
from mailroom.providers import Provider
from mailroom.providers.http.mail_fields import mailbox_text
from mailroom.providers.mailjunky import MailJunky, Settings
from tests.http_recorder import Answer, json_answer
from tests.mails import email
from tests.providers.contract import context
from tests.providers.http_contract import HttpProviderContract
from tests.providers.http_service import HttpService, Vendor
from tests.providers.oracles import MAILS, client_request, differences, our_request

KEY = "mj_test_0123456789abcdef"


def refusal(status: int, code: str, message: str = "It went wrong") -> Answer:
    return json_answer(status, {"message": message, "code": code})


VENDOR = Vendor(
    settings=Settings,
    options={"api_key": KEY},
    secrets=(KEY,),
    accepted=json_answer(200, {"id": "msg_123", "message_id": "abc@mailjunky.ai", "status": "sent"}),
    refusals={
        Rejected: refusal(422, "validation_error", "`to` is not an email address"),
        Misconfigured: refusal(401, "unauthorized", "Invalid API key"),
        Unavailable: refusal(429, "rate_limited", "Too many requests"),
    },
    subject=lambda request: request.json["subject"],
    server_error=Uncertain,
)


@pytest.mark.parametrize("name", MAILS)
async def test_its_sdk_sends_the_same(name: str) -> None:
    """The SDK gets mailboxes as texts; how they are written is compared with anymail (Postmark, Resend)."""
    mail = MAILS[name]

    def send(url: str) -> None:
        with Connection(Configuration(api_key=KEY, base_url=url)) as connection:
            Emails(connection).send(
                from_=mailbox_text(mail.sender),
                to=mail.recipient,
                subject=mail.subject,
                html=mail.html,
                text=mail.text,
                reply_to=mailbox_text(mail.reply_to) if mail.reply_to else None,
                headers=dict(mail.headers),
                metadata={"mailroom_id": mail.id},
            )

    theirs = await client_request(send, VENDOR.accepted)
    assert differences(theirs, await our_request(VENDOR, mail)) == {}


class TestMailJunky(HttpProviderContract):
    vendor = VENDOR

    async def test_the_request_is_the_documented_one(self, provider: Provider, service: HttpService) -> None:
        """`from`, `to`, `subject`, `html` and `text` are what Logto's own connector sends, name by name."""
        mail = replace(email(), reply_to=Address("help@acme.example"))
        receipt = await provider.send(mail)
        assert (receipt.provider_message_id, receipt.diagnostic) == ("msg_123", "sent")
        [request] = service.recorder.requests
        assert (request.method, request.target) == ("POST", "/api/v1/emails/send")
        assert request.header("authorization") == f"Bearer {KEY}"
        assert request.json == {
            "from": "Acme <no-reply@acme.example>",
            "to": "ada@reader.example",
            "subject": "Your code",
            "html": mail.html,
            "text": mail.text,
            "reply_to": "help@acme.example",
            "headers": {"Auto-Submitted": "auto-generated"},
            "metadata": {"mailroom_id": mail.id},
        }

    @pytest.mark.parametrize(
        ("answer", "kind"),
        [
            (refusal(402, "payment_required"), Misconfigured),
            (refusal(403, "forbidden"), Misconfigured),
            (refusal(404, "not_found"), Misconfigured),
            (refusal(422, "validation_error", "The domain of `from` is not verified"), Misconfigured),
            (refusal(400, "bad_request", "Recipient is suppressed"), Rejected),
            (refusal(503, "maintenance"), Uncertain),
            (json_answer(200, {"id": "msg_1", "status": "failed", "error": "Not now"}), Unavailable),
            (json_answer(200, {"id": "msg_1", "status": "dreaming"}), Uncertain),
            (json_answer(200, {"status": "sent"}), Uncertain),
        ],
    )
    async def test_a_refusal_has_its_kind(
        self, provider: Provider, service: HttpService, answer: Answer, kind: type[SendingError]
    ) -> None:
        service.answer(answer)
        with pytest.raises(kind) as refused:
            await provider.send(email())
        assert refused.value.diagnostic

    async def test_a_queued_mail_was_accepted(self, provider: Provider, service: HttpService) -> None:
        service.answer(json_answer(202, {"message_id": "abc@mailjunky.ai", "status": "queued"}))
        assert (await provider.send(email())).provider_message_id == "abc@mailjunky.ai"

    async def test_an_empty_part_is_left_out(self, provider: Provider, service: HttpService) -> None:
        await provider.send(email(html=""))
        assert "html" not in service.recorder.requests[0].json


async def test_the_host_is_that_of_logtos_connector() -> None:
    provider = MailJunky(Settings.model_validate({"api_key": KEY}), context())
    assert provider.base == "https://mailjunky.ai"
    await provider.aclose()
