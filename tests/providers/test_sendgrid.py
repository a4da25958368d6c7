"""SendGrid, by its recorded responses."""

import pytest
from msgspec.structs import replace
from pydantic import ValidationError

from mailroom.errors import Declined, Misconfigured, Rejected, SendingError, Unavailable, Uncertain
from mailroom.message import Address
from mailroom.providers import Provider, connect
from mailroom.providers.sendgrid import SendGrid, Settings
from tests.clock import FakeClock
from tests.http_recorder import Answer, json_answer
from tests.mails import email, templated
from tests.providers.contract import context
from tests.providers.http_contract import HttpProviderContract
from tests.providers.http_service import HttpService, Vendor
from tests.providers.oracles import MAILS, anymail_request, differences, our_request
from tests.providers.templates_contract import TemplatesContract

KEY = "SG.AbCdEfGhIjKlMnOp.0123456789"


def refusal(status: int, message: str, field: str | None = None, **headers: str) -> Answer:
    return json_answer(status, {"errors": [{"message": message, "field": field, "help": None}]}, headers)


VENDOR = Vendor(
    settings=Settings,
    options={"api_key": KEY},
    secrets=(KEY,),
    accepted=Answer(202, b"", {"X-Message-Id": "14c5d75ce93.dfd.64b469"}),
    refusals={
        Rejected: refusal(400, "Does not contain a valid address.", "personalizations.0.to.0.email"),
        Misconfigured: refusal(401, "The provided authorization grant is invalid, expired, or revoked"),
        Unavailable: refusal(429, "too many requests"),
    },
    subject=lambda request: request.json["subject"],
    server_error=Unavailable,
    template="d-0123456789abcdef0123456789abcdef",
    server_fault=refusal(500, "internal error"),
)


@pytest.mark.parametrize("name", MAILS)
async def test_anymail_sends_the_same(name: str) -> None:
    """Except for Reply-To, which anymail writes as a list of one: SendGrid takes either, not both."""
    mail = MAILS[name]
    theirs = await anymail_request(
        "sendgrid", mail, VENDOR.accepted, path="/v3/", api_key=KEY, generate_message_id=False
    )
    found = differences(theirs, await our_request(VENDOR, mail))
    listed = {place: found.pop(place) for place in list(found) if place.startswith("reply_to")}
    assert not found
    assert bool(listed) == bool(mail.reply_to)
    for place, (theirs_, _) in listed.items():
        if place.startswith("reply_to_list[0]"):
            assert listed[place.replace("_list[0]", "")] == (None, theirs_)


async def test_anymail_sends_the_same_by_a_template() -> None:
    """In every field."""
    mail = templated(VENDOR.template)
    theirs = await anymail_request(
        "sendgrid", mail, VENDOR.accepted, path="/v3/", api_key=KEY, generate_message_id=False
    )
    assert differences(theirs, await our_request(VENDOR, mail)) == {}


class TestSendGrid(HttpProviderContract, TemplatesContract):
    vendor = VENDOR

    async def test_the_request_is_the_documented_one(self, provider: Provider, service: HttpService) -> None:
        mail = replace(
            email(sender=Address("no-reply@acme.example", "Acme, Inc.")),
            reply_to=Address("help@acme.example", "Help"),
        )
        receipt = await provider.send(mail)
        assert receipt.provider_message_id == "14c5d75ce93.dfd.64b469"
        [request] = service.recorder.requests
        assert (request.method, request.target) == ("POST", "/v3/mail/send")
        assert request.header("authorization") == f"Bearer {KEY}"
        assert request.json == {
            "personalizations": [{"to": [{"email": "ada@reader.example"}]}],
            "from": {"email": "no-reply@acme.example", "name": "Acme, Inc."},
            "reply_to": {"email": "help@acme.example", "name": "Help"},
            "subject": "Your code",
            "content": [{"type": "text/plain", "value": mail.text}, {"type": "text/html", "value": mail.html}],
            "headers": {"Auto-Submitted": "auto-generated", "Message-ID": mail.message_id},
            "custom_args": {"mailroom_id": mail.id},
        }

    @pytest.mark.parametrize(
        ("answer", "kind"),
        [
            (refusal(401, "Maximum credits exceeded"), Misconfigured),
            (refusal(403, "The from address does not match a verified Sender Identity.", "from"), Misconfigured),
            (refusal(400, "The from email does not contain a valid address.", "from.email"), Misconfigured),
            (refusal(400, "The content value must be a string at least one character in length.", "content"), Declined),
            (refusal(400, "The template_id must be a valid UUID.", "template_id"), Misconfigured),
            (refusal(413, "The payload is too large."), Declined),
            (refusal(503, "service unavailable"), Unavailable),
        ],
    )
    async def test_a_refusal_is_classified_by_its_cause(
        self, provider: Provider, service: HttpService, answer: Answer, kind: type[SendingError]
    ) -> None:
        service.answer(answer)
        with pytest.raises(kind):
            await provider.send(email())

    async def test_the_reset_of_the_rate_limit_is_honoured(self, service: HttpService) -> None:
        """It is a time in Unix seconds."""
        clock = FakeClock()
        service.answer(refusal(429, "too many requests", **{"X-RateLimit-Reset": str(int(clock.now()) + 42)}))
        provider = connect(service.settings, context(clock=clock))
        with pytest.raises(Unavailable) as refused:
            await provider.send(email())
        await provider.aclose()
        assert refused.value.retry_after == 42

    async def test_the_sandbox_has_another_status(self, provider: Provider, service: HttpService) -> None:
        """200 is the documented success in the sandbox only."""
        service.answer(Answer(200, b""))
        with pytest.raises(Uncertain):
            await provider.send(email())
        sandboxed = connect(service.settings.model_copy(update={"sandbox": True}), context())
        assert (await sandboxed.send(email())).diagnostic
        await sandboxed.aclose()
        assert service.recorder.requests[-1].json["mail_settings"] == {"sandbox_mode": {"enable": True}}

    @pytest.mark.parametrize("name", ["Reply-To", "bcc", "Content-Type", "X-SG-ID"])
    async def test_a_forbidden_header_is_refused(self, provider: Provider, service: HttpService, name: str) -> None:
        with pytest.raises(Misconfigured, match=name):
            await provider.send(replace(email(), headers=((name, "value"),)))
        assert not service.recorder.requests

    async def test_a_mail_without_text_has_no_empty_part(self, provider: Provider, service: HttpService) -> None:
        await provider.send(email(text=""))
        assert [part["type"] for part in service.recorder.requests[0].json["content"]] == ["text/html"]


@pytest.mark.parametrize(
    ("region", "host"), [("global", "https://api.sendgrid.com"), ("eu", "https://api.eu.sendgrid.com")]
)
async def test_the_region_decides_the_host(region: str, host: str) -> None:
    provider = SendGrid(Settings.model_validate({"api_key": KEY, "region": region}), context())
    assert provider.base == host
    await provider.aclose()


def test_a_legacy_template_is_refused() -> None:
    """The placeholders would not be filled: legacy templates use another field."""
    with pytest.raises(ValidationError, match="begin with d-"):
        Settings.model_validate({"api_key": KEY, "templates": {"SignIn": "13b8f94f-bcae-4ec6-b752-70d6cb59f932"}})
