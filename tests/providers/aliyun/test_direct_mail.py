"""Alibaba Cloud Direct Mail, by its recorded responses."""

import json
from typing import Any
from urllib.parse import urlsplit

import pytest
from alibabacloud_dm20151123.client import Client
from alibabacloud_dm20151123.models import (
    DescAccountSummaryRequest,
    SingleSendMailRequest,
    SingleSendMailRequestTemplate,
)
from alibabacloud_tea_openapi.utils_models import Config
from msgspec.structs import replace
from pydantic import ValidationError

from mailroom.config import load
from mailroom.errors import Misconfigured, Rejected, SendingError, SettingsError, Unavailable
from mailroom.message import Address, Email
from mailroom.providers import Provider, Verifiable, connect
from mailroom.providers.aliyun.acs3 import authorization
from mailroom.providers.aliyun.direct_mail import KINDS, Aliyun, Settings
from tests.http_recorder import Answer, Request, json_answer
from tests.mails import email, templated
from tests.providers.contract import context
from tests.providers.http_contract import HttpProviderContract
from tests.providers.http_service import HttpService, Vendor, service_of
from tests.providers.oracles import client_request, differences, our_request
from tests.providers.templates_contract import TemplatesContract

ID, SECRET = "LTAI5tTestAccessKeyId0", "SecretOfTheTests0123456789abcd"
OPTIONS = {"access_key_id": ID, "access_key_secret": SECRET}


def refusal(status: int, code: str, message: str = "It went wrong", **headers: str) -> Answer:
    fields = {"RequestId": "D6A6D3F5", "HostId": "dm.aliyuncs.com", "Code": code, "Message": message}
    return json_answer(status, fields, headers)


VENDOR = Vendor(
    settings=Settings,
    options=OPTIONS,
    secrets=(SECRET,),
    accepted=json_answer(200, {"EnvId": "600000000123456789", "RequestId": "12D086F6-8F31-4658-84C1-006DED011A85"}),
    refusals={
        Rejected: refusal(400, "InvalidToAddress", "The specified toAddress is wrongly formed."),
        Misconfigured: refusal(404, "InvalidMailAddress.NotFound", "The specified mailAddress does not exist."),
        Unavailable: refusal(400, "Throttling.User", "Request was denied due to user flow control."),
    },
    subject=lambda request: dict(request.form)["Subject"],
    server_error=Unavailable,
    server_fault=refusal(500, "InternalError", "The request processing has failed."),
)

MAILS = {
    "plain": email(),
    "another script": email(
        sender=Address("no-reply@acme.example", "アクメ"), subject="Ваш код 🎉 ~*'()! 验证码", text="Привет\n"
    ),
    "to reply to": replace(email(), reply_to=Address("help@acme.example", "Help; us")),
    "to unsubscribe": replace(
        email(),
        headers=(
            ("List-Unsubscribe", f"<https://mail.acme.example/unsubscribe/{'t' * 400}>"),
            ("List-Unsubscribe-Post", "List-Unsubscribe=One-Click"),
        ),
    ),
}


async def asked_by_the_sdk(mail: Email) -> Request:
    headers = {"Message-ID": mail.message_id, "X-User-Notify-Mailroom-Id": mail.id}
    for name, value in mail.headers:
        headers[name if name.startswith("List-") else f"X-User-{name}"] = value
    mailed = SingleSendMailRequest(
        account_name=mail.sender.email,
        address_type=1,
        to_address=mail.recipient,
        subject=mail.subject,
        html_body=mail.html,
        text_body=mail.text,
        headers=json.dumps(headers, ensure_ascii=False, separators=(",", ":")),
        reply_to_address=False,
        from_alias=mail.sender.name,
        reply_address=mail.reply_to.email if mail.reply_to else None,
        reply_address_alias=mail.reply_to.name if mail.reply_to else None,
    )

    def send(url: str) -> None:
        config = Config(
            access_key_id=ID,
            access_key_secret=SECRET,
            endpoint=urlsplit(url).netloc,
            protocol="http",
            region_id="cn-hangzhou",
        )
        Client(config).single_send_mail(mailed)

    return await client_request(send, VENDOR.accepted)


@pytest.mark.parametrize("name", MAILS)
async def test_the_sdk_sends_the_same(name: str) -> None:
    """Except for times."""
    found = differences(await asked_by_the_sdk(MAILS[name]), await our_request(VENDOR, MAILS[name]))
    moment = {"authorization", "x-acs-date", "x-acs-signature-nonce", "x-acs-content-sha256"}
    found = {place: both for place, both in found.items() if place.removeprefix("HTTP ") not in moment}
    assert found == {
        "HTTP x-acs-credentials-provider": ("static_ak", None),  # tells how the SDK came to its key
        "ReplyToAddress": ("False", "false"),  # Python's spelling; the page says "true" or "false"
    }


@pytest.mark.parametrize("name", MAILS)
async def test_the_sdk_signs_byte_identically(name: str) -> None:
    """We sign its mail again over the same headers: it signs some more of them than we do."""
    request = await asked_by_the_sdk(MAILS[name])
    theirs = request.header("authorization")
    signed = theirs.partition("SignedHeaders=")[2].partition(",")[0].split(";")
    headers = {header: request.header(header) for header in signed}
    assert authorization(request.method, request.target, headers, ID, SECRET) == theirs


async def test_the_sdk_sends_the_same_by_a_template() -> None:
    """Texts have flat names and are escaped: the documentation does not say whether Direct Mail escapes them."""
    mail = templated("415366")
    ours = dict((await our_request(VENDOR, mail)).form)
    data = {
        "code": "482913",
        "locale": "de",
        "uiLocales": "de-AT de",
        "application_name": "Ærø &lt;b&gt;&amp; Søn",
        "application_branding_logoUrl": "https://acme.example/logo.png",
    }
    asked = SingleSendMailRequest(template=SingleSendMailRequestTemplate(data, "415366"), subject=mail.subject)

    def send(url: str) -> None:
        config = Config(access_key_id=ID, access_key_secret=SECRET, endpoint=urlsplit(url).netloc, protocol="http")
        Client(config).single_send_mail(asked)

    theirs = dict((await client_request(send, VENDOR.accepted)).form)
    assert json.loads(theirs.pop("Template")) == json.loads(ours["Template"])
    assert theirs == {"Subject": ours["Subject"]}
    assert not {"HtmlBody", "TextBody"} & ours.keys()


async def test_the_sdk_requests_the_account_likewise() -> None:
    def ask(url: str) -> None:
        config = Config(access_key_id=ID, access_key_secret=SECRET, endpoint=urlsplit(url).netloc, protocol="http")
        Client(config).desc_account_summary(DescAccountSummaryRequest())

    account = json_answer(200, {"UserStatus": 0})
    theirs = await client_request(ask, account)
    async with service_of(VENDOR) as service:
        service.answer(account)
        provider = connect(service.settings, context())
        assert isinstance(provider, Verifiable)
        assert "takes the key" in await provider.verify()
        await provider.aclose()
        [ours] = service.recorder.requests
    for request in (theirs, ours):
        assert (request.method, request.target, request.body) == ("POST", "/", b"")
        assert request.header("x-acs-action") == "DescAccountSummary"
        assert request.header("x-acs-version") == "2015-11-23"


class TestAliyun(HttpProviderContract, TemplatesContract):
    vendor = VENDOR

    async def test_the_same_mail_is_the_same_request(self, provider: Provider, service: HttpService) -> None:
        """Except for the signature, which is valid once."""
        await provider.send(email())
        await provider.send(email())
        first, second = service.recorder.requests
        assert (first.target, first.body) == (second.target, second.body)
        of_the_moment = {"x-acs-date", "x-acs-signature-nonce", "authorization"}
        assert {header for header in first.headers if header[0] not in of_the_moment} <= set(second.headers)
        assert first.header("x-acs-signature-nonce") != second.header("x-acs-signature-nonce")

    async def test_the_request_is_the_documented_one(self, service: HttpService) -> None:
        changed = service.settings.model_copy(update={"tag_name": "codes"})
        provider = connect(changed, context())
        mail = replace(email(), reply_to=Address("help@acme.example", "Help"))
        receipt = await provider.send(mail)
        await provider.aclose()
        assert receipt.provider_message_id == "600000000123456789"
        [request] = service.recorder.requests
        assert (request.method, request.target) == ("POST", "/")
        assert request.header("x-acs-action") == "SingleSendMail"
        assert request.header("x-acs-version") == "2015-11-23"
        fields = dict(request.form)
        assert json.loads(fields.pop("Headers")) == {
            "Message-ID": mail.message_id,
            "X-User-Notify-Mailroom-Id": mail.id,
            "X-User-Auto-Submitted": "auto-generated",
        }
        assert fields == {
            "AccountName": "no-reply@acme.example",
            "AddressType": "1",
            "ToAddress": "ada@reader.example",
            "Subject": "Your code",
            "HtmlBody": mail.html,
            "TextBody": mail.text,
            "ReplyToAddress": "false",
            "FromAlias": "Acme",
            "ReplyAddress": "help@acme.example",
            "ReplyAddressAlias": "Help",
            "TagName": "codes",
        }

    @pytest.mark.parametrize(("beginning", "kind"), KINDS.items())
    async def test_each_documented_error_has_its_kind(
        self, provider: Provider, service: HttpService, beginning: str, kind: type[SendingError]
    ) -> None:
        for code in (beginning, f"{beginning}.Malformed"):
            service.answer(refusal(400, code))
            with pytest.raises(kind) as refused:
                await provider.send(email())
            assert refused.value.code == code

    async def test_a_mail_taken_for_spam_is_tried_again_later(self, provider: Provider, service: HttpService) -> None:
        """The code stands for a rate and for the day's quota too."""
        service.answer(refusal(400, "InvalidSendMail.Spam", "Sendmail rejected by spam filter."))
        with pytest.raises(Unavailable) as refused:
            await provider.send(email())
        assert refused.value.retry_after == 60

    async def test_an_address_known_as_invalid_is_rejected(self, provider: Provider, service: HttpService) -> None:
        service.answer(refusal(400, "InvalidToAddress.Spam", "Sendmail rejected by invalid address."))
        with pytest.raises(Rejected, match="invalid address"):
            await provider.send(email())

    async def test_an_error_with_status_200_is_no_success(self, provider: Provider, service: HttpService) -> None:
        service.answer(json_answer(200, {"EnvId": "1", "Code": "InvalidMailAddressStatus.Malformed", "Message": "m"}))
        with pytest.raises(Misconfigured):
            await provider.send(email())

    async def test_a_key_that_is_repeated_is_masked(self, provider: Provider, service: HttpService) -> None:
        service.answer(refusal(400, "SignatureDoesNotMatch", f"server string to sign is:{SECRET}"))
        with pytest.raises(Misconfigured, match="•••"):
            await provider.send(email())

    @pytest.mark.parametrize("name", ["X-Custom", "Precedence", "Feedback-ID", "To"])
    async def test_a_header_without_a_field_is_refused(
        self, provider: Provider, service: HttpService, name: str
    ) -> None:
        with pytest.raises(Misconfigured, match=name):
            await provider.send(replace(email(), headers=((name, "value"),)))
        assert not service.recorder.requests

    async def test_up_to_ten_custom_headers_are_sent(self, provider: Provider, service: HttpService) -> None:
        own = tuple((f"X-User-{number}", "value") for number in range(8))
        await provider.send(replace(email(), headers=own))
        [request] = service.recorder.requests
        assert len(json.loads(dict(request.form)["Headers"])) == 10
        with pytest.raises(Misconfigured, match="10 headers"):
            await provider.send(replace(email(), headers=(*own, ("X-User-8", "value"))))

    async def test_a_display_name_that_is_too_long_is_refused(self, provider: Provider, service: HttpService) -> None:
        with pytest.raises(Misconfigured, match="from_alias"):
            await provider.send(email(sender=Address("no-reply@acme.example", "Fifteen letters")))
        assert not service.recorder.requests

    async def test_names_in_any_script_are_sent(self, provider: Provider, service: HttpService) -> None:
        for name in ("Ærø & Søn", 'The "Acme" T.', "アクメ", "I" * 14):
            await provider.send(email(sender=Address("no-reply@acme.example", name)))
        assert [dict(request.form)["FromAlias"] for request in service.recorder.requests] == [
            "Ærø & Søn",
            'The "Acme" T.',
            "アクメ",
            "I" * 14,
        ]

    async def test_a_template_without_our_subject_is_refused(self, provider: Provider) -> None:
        with pytest.raises(Misconfigured, match="subject"):
            await provider.send(replace(templated("415366"), subject=""))

    async def test_the_account_and_its_alias_override_the_mails(self, service: HttpService) -> None:
        changed = {**OPTIONS, "account_name": "news@acme.example", "from_alias": "Acme News"}
        settings = Settings.model_validate(
            {**changed, "endpoint": service.recorder.url, "ca_file": service.settings.ca_file}
        )
        provider = connect(settings, context())
        await provider.send(email(sender=Address("no-reply@acme.example", "A name that is much too long")))
        await provider.aclose()
        fields = dict(service.recorder.requests[0].form)
        assert (fields["AccountName"], fields["FromAlias"]) == ("news@acme.example", "Acme News")


@pytest.mark.parametrize(
    ("region", "host"),
    [
        ("cn-hangzhou", "https://dm.aliyuncs.com"),
        ("ap-southeast-1", "https://dm.ap-southeast-1.aliyuncs.com"),
        ("ap-southeast-2", "https://dm.ap-southeast-2.aliyuncs.com"),
        ("us-east-1", "https://dm.us-east-1.aliyuncs.com"),
        ("eu-central-1", "https://dm.eu-central-1.aliyuncs.com"),
    ],
)
async def test_the_region_decides_the_host_as_in_the_sdk(region: str, host: str) -> None:
    provider = Aliyun(Settings.model_validate({**OPTIONS, "region": region}), context())
    assert provider.base == host
    await provider.aclose()
    config = Config(access_key_id=ID, access_key_secret=SECRET, region_id=region)
    assert f"https://{Client(config)._endpoint}" == host


@pytest.mark.parametrize(
    ("general", "own", "said"),
    [
        ({"FROM": "Fifteen letters <a@acme.example>"}, {}, "from_alias"),
        ({}, {"FROM": "Fifteen letters <a@acme.example>"}, "from_alias"),
        ({"REPLY_TO": "Fifteen letters <a@acme.example>"}, {}, "reply_to"),
        ({"FROM": "Fifteen letters <a@acme.example>"}, {"FROM": "Acme <a@acme.example>"}, ""),
        ({"FROM": "Fifteen letters <a@acme.example>"}, {"FROM_ALIAS": "Acme"}, ""),
    ],
)
def test_a_display_name_that_is_too_long_is_refused_at_start(
    general: dict[str, str], own: dict[str, str], said: str
) -> None:
    """Every mail would have it."""
    given = {"FROM": "Acme <no-reply@acme.example>", "SECRET_KEY": "k" * 40, "CONNECTOR__AUTHORIZATION": "a" * 40}
    provider = {"TYPE": "aliyun", "ACCESS_KEY_ID": ID, "ACCESS_KEY_SECRET": SECRET, **own}
    named = {**given, **general, **{f"PROVIDERS__MAIN__{name}": value for name, value in provider.items()}}
    environ = {f"MAILROOM_{name}": value for name, value in named.items()}
    if not said:
        assert load(environ=environ).providers["main"].type == "aliyun"
        return
    with pytest.raises(SettingsError, match=rf"^providers.main: .*{said}"):
        load(environ=environ)


@pytest.mark.parametrize(
    "wrong",
    [
        {"region": "cn-shanghai"},
        {"from_alias": "Fifteen letters"},
        {"account_name": "no-reply"},
        {"tag_name": "two words"},
        {"access_key_id": "a b"},
    ],
)
def test_senders_that_direct_mail_does_not_accept_are_refused_at_start(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate({**OPTIONS, **wrong})
