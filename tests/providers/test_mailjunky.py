"""MailJunky, by the answers that its SDKs expect."""

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
from tests.providers.http_far_end import HttpFarEnd, Vendor
from tests.providers.oracles import MAILS, asked_by, asked_by_us, differences

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
    """How mailboxes are written is for it to be told; that is compared where anymail writes them (Postmark, Resend)."""
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

    theirs = await asked_by(send, VENDOR.accepted)
    assert differences(theirs, await asked_by_us(VENDOR, mail)) == {}


class TestMailJunky(HttpProviderContract):
    vendor = VENDOR

    async def test_the_request_is_the_documented_one(self, provider: Provider, far_end: HttpFarEnd) -> None:
        """`from`, `to`, `subject`, `html` and `text` are what Logto's own connector sends, name by name."""
        mail = replace(email(), reply_to=Address("help@acme.example"))
        receipt = await provider.send(mail)
        assert (receipt.provider_message_id, receipt.words) == ("msg_123", "sent")
        [request] = far_end.recorder.requests
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
    async def test_a_refusal_is_of_its_kind(
        self, provider: Provider, far_end: HttpFarEnd, answer: Answer, kind: type[SendingError]
    ) -> None:
        far_end.answer(answer)
        with pytest.raises(kind) as refused:
            await provider.send(email())
        assert refused.value.words

    async def test_what_waits_at_mailjunky_was_taken(self, provider: Provider, far_end: HttpFarEnd) -> None:
        far_end.answer(json_answer(202, {"message_id": "abc@mailjunky.ai", "status": "queued"}))
        assert (await provider.send(email())).provider_message_id == "abc@mailjunky.ai"

    async def test_an_empty_part_is_left_out(self, provider: Provider, far_end: HttpFarEnd) -> None:
        await provider.send(email(html=""))
        assert "html" not in far_end.recorder.requests[0].json


async def test_the_host_is_that_of_logtos_connector() -> None:
    provider = MailJunky(Settings.model_validate({"api_key": KEY}), context())
    assert provider.base == "https://mailjunky.ai"
    await provider.aclose()
