"""Mailgun, by its recorded responses."""

import json
from typing import Any

import pytest
from msgspec.structs import replace
from pydantic import ValidationError

from mailroom.errors import Declined, Misconfigured, Rejected, SendingError, Unavailable, Uncertain
from mailroom.message import Address
from mailroom.providers import Provider, connect
from mailroom.providers.http.mail_fields import basic
from mailroom.providers.mailgun import Mailgun, Settings
from tests.http_recorder import Answer, json_answer
from tests.mails import email, templated
from tests.providers.contract import context
from tests.providers.http_contract import HttpProviderContract
from tests.providers.http_service import HttpService, Vendor
from tests.providers.oracles import MAILS, anymail_request, differences, our_request
from tests.providers.templates_contract import TemplatesContract

KEY = "0123456789abcdef0123456789abcdef-01234567-89abcdef"
AUTHORIZATION = basic("api", Settings.model_validate({"domain": "mg.acme.example", "api_key": KEY}).api_key)


def refusal(status: int, message: str, **headers: str) -> Answer:
    return json_answer(status, {"message": message}, headers)


VENDOR = Vendor(
    settings=Settings,
    options={"domain": "mg.acme.example", "api_key": KEY},
    secrets=(KEY, AUTHORIZATION),
    accepted=json_answer(200, {"id": "<20261121120000.1.ABC@mg.acme.example>", "message": "Queued. Thank you."}),
    refusals={
        Rejected: refusal(400, "to parameter is not a valid address. please check documentation"),
        Misconfigured: refusal(404, "Domain not found: mg.acme.example"),
        Unavailable: refusal(429, "Too many requests"),
    },
    subject=lambda request: dict(request.form)["subject"],
    server_error=Uncertain,
    server_fault=refusal(500, "Internal Server Error"),
)


@pytest.mark.parametrize("name", MAILS)
async def test_anymail_sends_the_same(name: str) -> None:
    """In every field, also for names in any script and international domains."""
    mail = MAILS[name]
    theirs = await anymail_request(
        "mailgun", mail, VENDOR.accepted, path="/v3/", api_key=KEY, sender_domain="mg.acme.example"
    )
    assert differences(theirs, await our_request(VENDOR, mail)) == {}


async def test_anymail_sends_the_same_by_a_template() -> None:
    """Except for empty bodies, and the variables: anymail uses the recipient's, which come back in events."""
    mail = templated(VENDOR.template)
    theirs = await anymail_request(
        "mailgun", mail, VENDOR.accepted, path="/v3/", api_key=KEY, sender_domain="mg.acme.example"
    )
    found = differences(theirs, await our_request(VENDOR, mail))
    ours = {place: value for place, (_, value) in found.items() if value is not None}
    assert {place for place in found if place not in ours} == {
        *("subject", "text", "recipient-variables"),
        *(f"v:{name}" for name in mail.variables),
    }
    assert json.loads(ours.pop("t:variables")) == mail.variables
    assert ours == {"t:text": "yes"}


class TestMailgun(HttpProviderContract, TemplatesContract):
    vendor = VENDOR

    async def test_the_request_is_the_documented_one(self, provider: Provider, service: HttpService) -> None:
        mail = replace(
            email(sender=Address("no-reply@acme.example", "Acme, Inc.")),
            reply_to=Address("help@acme.example", "Help"),
        )
        receipt = await provider.send(mail)
        assert receipt.provider_message_id == "<20261121120000.1.ABC@mg.acme.example>"
        [request] = service.recorder.requests
        assert (request.method, request.target) == ("POST", "/v3/mg.acme.example/messages")
        assert request.header("authorization") == AUTHORIZATION
        assert request.form == [
            ("from", '"Acme, Inc." <no-reply@acme.example>'),
            ("to", "ada@reader.example"),
            ("subject", "Your code"),
            ("text", mail.text),
            ("html", mail.html),
            ("h:Auto-Submitted", "auto-generated"),
            ("h:Message-Id", mail.message_id),
            ("h:Reply-To", "Help <help@acme.example>"),
            ("v:mailroom_id", mail.id),
        ]

    async def test_a_200_of_another_service_is_misconfigured(self, provider: Provider, service: HttpService) -> None:
        """Mailgun's root does so, with a wrong domain or host."""
        service.answer(Answer(200, b"Mailgun Magnificent API", {"Content-Type": "text/plain"}))
        with pytest.raises(Misconfigured, match="domain, region and endpoint"):
            await provider.send(email())

    @pytest.mark.parametrize("message", ["", "Mail received", "not Queued"])
    async def test_only_queued_is_a_success(self, provider: Provider, service: HttpService, message: str) -> None:
        service.answer(json_answer(200, {"id": "<1@mg.acme.example>", "message": message}))
        with pytest.raises(Uncertain):
            await provider.send(email())

    @pytest.mark.parametrize(
        ("answer", "kind", "words"),
        [
            (Answer(401, b"Forbidden"), Misconfigured, "Forbidden"),
            (Answer(401, b"Invalid private key"), Misconfigured, "Invalid private key"),
            (
                refusal(403, "Domain mg.acme.example is not allowed to send: account disabled"),
                Misconfigured,
                "disabled",
            ),
            (refusal(400, "from parameter is not a valid address. please check documentation"), Misconfigured, "from"),
            (refusal(400, "Sandbox subdomains are for test purposes only."), Misconfigured, "Sandbox"),
            (refusal(402, "Payment required"), Misconfigured, "Payment"),
            (refusal(400, "template not found"), Misconfigured, "template"),
            (refusal(413, "Message size exceeds 25MB"), Declined, "25MB"),
        ],
    )
    async def test_a_refusal_is_classified_by_its_cause(
        self, provider: Provider, service: HttpService, answer: Answer, kind: type[SendingError], words: str
    ) -> None:
        service.answer(answer)
        with pytest.raises(kind, match=words):
            await provider.send(email())

    async def test_the_request_has_the_sandbox_and_the_tags(self, service: HttpService) -> None:
        changed = service.settings.model_copy(update={"sandbox": True, "tags": ("codes", "acme")})
        provider = connect(changed, context())
        await provider.send(email())
        await provider.aclose()
        assert service.recorder.requests[0].form[-3:] == [
            ("o:tag", "codes"),
            ("o:tag", "acme"),
            ("o:testmode", "yes"),
        ]

    async def test_too_long_headers_are_refused(self, provider: Provider, service: HttpService) -> None:
        with pytest.raises(Misconfigured, match="16 kB"):
            await provider.send(replace(email(), headers=(("X-Long", "x" * 16_384),)))
        large = {"code": "482913", "x": "x" * 16_384}
        with pytest.raises(Misconfigured, match="16 kB"):
            await provider.send(replace(templated("sign-in"), variables=large))
        assert not service.recorder.requests


@pytest.mark.parametrize(("region", "host"), [("us", "https://api.mailgun.net"), ("eu", "https://api.eu.mailgun.net")])
async def test_the_region_decides_the_host(region: str, host: str) -> None:
    settings = Settings.model_validate({"domain": "mg.acme.example", "api_key": KEY, "region": region})
    provider = Mailgun(settings, context())
    assert provider.base == host
    await provider.aclose()


@pytest.mark.parametrize(
    "wrong",
    [
        {"domain": "mg.acme.example/messages"},
        {"domain": "../v3"},
        {"region": "asia"},
        {"tags": ["x" * 129]},
        {"tags": ["ü"]},
    ],
)
def test_invalid_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate({"domain": "mg.acme.example", "api_key": KEY, **wrong})
