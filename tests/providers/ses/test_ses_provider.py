"""Amazon SES, by its recorded responses, against moto with authentication on, and beside botocore's own client."""

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from email import message_from_bytes
from email.header import decode_header, make_header
from email.policy import SMTP
from email.utils import getaddresses
from typing import Any

import botocore.session
import httpx
import pytest
from msgspec.structs import replace
from pydantic import ValidationError

from mailroom.address import ascii_form
from mailroom.errors import Declined, Misconfigured, Rejected, SendingError, Unavailable
from mailroom.message import Address
from mailroom.providers import Provider, connect
from mailroom.providers.egress import Egress
from mailroom.providers.refusals import QUOTA_WAIT_SECONDS
from mailroom.providers.ses import ses_provider
from mailroom.providers.ses.aws_auth import AwsAuth
from mailroom.providers.ses.ses_provider import KINDS, Ses, Settings
from tests.http_recorder import Answer, Request, json_answer
from tests.mails import email, templated
from tests.providers.contract import context
from tests.providers.http_contract import HttpProviderContract
from tests.providers.http_service import HttpService, Vendor
from tests.providers.moto_server import moto_server
from tests.providers.oracles import MAILS, client_request, differences, our_request
from tests.providers.templates_contract import TemplatesContract

ID, SECRET, TOKEN = "AKIATESTTESTTESTTEST", "SecretOfTheTests/0123456789+abcdefghijkl", "SessionTokenOfTheTests//0123=="
REGION = "eu-central-1"
OPTIONS = {"region": REGION, "access_key_id": ID, "access_key_secret": SECRET, "session_token": TOKEN}
EXTRAS = {
    "configuration_set_name": "codes",
    "email_address_identity_arn": "arn:aws:ses:eu-central-1:1234:identity/acme.example",
    "feedback_forwarding_email_address": "bounces@acme.example",
    "feedback_forwarding_email_address_identity_arn": "arn:aws:ses:eu-central-1:1234:identity/bounces@acme.example",
}


def refusal(status: int, code: str, message: str = "It went wrong", **headers: str) -> Answer:
    return json_answer(status, {"message": message}, {"x-amzn-ErrorType": code, **headers})


def mail_of(request: Request) -> bytes:
    return base64.b64decode(request.json["Content"]["Raw"]["Data"], validate=True)


VENDOR = Vendor(
    settings=Settings,
    options=OPTIONS,
    secrets=(SECRET, TOKEN),
    accepted=json_answer(200, {"MessageId": "0107019a5e0b7c3d-6d0e4c0e-0000-4000-8000-000000000000-000000"}),
    refusals={
        Rejected: refusal(400, "BadRequestException", "Missing final '@domain'"),
        Misconfigured: refusal(403, "SignatureDoesNotMatch", "The request signature we calculated does not match"),
        Unavailable: refusal(429, "TooManyRequestsException", "Maximum sending rate exceeded."),
    },
    subject=lambda request: str(message_from_bytes(mail_of(request), policy=SMTP)["Subject"]),
    server_error=Unavailable,
    server_fault=refusal(500, "InternalFailure", "Internal failure"),
)


class TestSes(HttpProviderContract, TemplatesContract):
    signed_at = frozenset({"x-amz-date", "authorization"})

    vendor = VENDOR

    async def test_every_header_of_the_mail_is_sent_or_refused(self, provider: Provider, service: HttpService) -> None:
        """They are in the raw bytes, which are not changed."""
        raw = email().raw.replace(b"\r\n", b"\r\nX-Entity-Ref-ID: 1\r\nX-Long: " + b"x" * 990 + b"\r\n", 1)
        await provider.send(replace(email(), raw=raw))
        assert mail_of(service.recorder.requests[0]) == raw

    async def test_a_header_with_a_line_break_is_refused(self, provider: Provider, service: HttpService) -> None:
        """They are in the raw bytes; the fields beside them are not used."""
        await provider.send(replace(email(), headers=(("X-Fine", "a\r\nBcc: eve@evil.example"),)))
        [request] = service.recorder.requests
        assert b"eve@evil.example" not in mail_of(request) + request.body

    async def test_names_in_any_script_are_sent(self, provider: Provider, service: HttpService) -> None:
        for name in ("Ærø & Søn, Inc.", "アクメ"):
            await provider.send(email(sender=Address("no-reply@acme.example", name)))
        found = [message_from_bytes(mail_of(request), policy=SMTP)["From"] for request in service.recorder.requests]
        assert [header.addresses[0].display_name for header in found] == ["Ærø & Søn, Inc.", "アクメ"]

    async def test_the_request_is_the_documented_one(self, service: HttpService) -> None:
        provider = connect(service.settings.model_copy(update=EXTRAS), context())
        receipt = await provider.send(email())
        await provider.aclose()
        assert receipt.provider_message_id == "0107019a5e0b7c3d-6d0e4c0e-0000-4000-8000-000000000000-000000"
        [request] = service.recorder.requests
        assert (request.method, request.target) == ("POST", "/v2/email/outbound-emails")
        assert request.header("x-amz-security-token") == TOKEN
        assert request.json == {
            "Destination": {"ToAddresses": ["ada@reader.example"]},
            "Content": {"Raw": {"Data": base64.b64encode(email().raw).decode()}},
            "EmailTags": [{"Name": "mailroom_id", "Value": email().id}],
            "ConfigurationSetName": "codes",
            "FromEmailAddressIdentityArn": "arn:aws:ses:eu-central-1:1234:identity/acme.example",
            "FeedbackForwardingEmailAddress": "bounces@acme.example",
            "FeedbackForwardingEmailAddressIdentityArn": (
                "arn:aws:ses:eu-central-1:1234:identity/bounces@acme.example"
            ),
        }

    @pytest.mark.parametrize(
        ("code", "kind"),
        [
            *KINDS.items(),
            *((code, Unavailable) for code in ("TooManyRequestsException", "Throttling", "ThrottlingException")),
        ],
    )
    async def test_each_documented_error_has_its_kind(
        self, provider: Provider, service: HttpService, code: str, kind: type[SendingError]
    ) -> None:
        url = "http://internal.amazon.com/coral/com.amazonaws.ses/"
        for answer in (
            refusal(400, f"{code}:{url}"),
            json_answer(400, {"__type": f"com.amazonaws.ses#{code}", "message": "m"}),
        ):
            service.answer(answer)
            with pytest.raises(kind) as refused:
                await provider.send(email())
            assert refused.value.code == code
            throttled = isinstance(refused.value, Unavailable) and refused.value.is_throttled
            assert throttled is ("Throttling" in code or "TooManyRequests" in code)

    @pytest.mark.parametrize(
        ("code", "message"),
        [
            (
                "MessageRejected",
                "Email address is not verified. The following identities failed the check: a@b.example",
            ),
            ("BadRequestException", "User `arn:aws:iam::1:user/x' is not authorized to perform `ses:SendRawEmail'"),
            ("BadRequestException", "Template sign-in does not exist."),
        ],
    )
    async def test_faults_of_the_configuration_are_misconfigured(
        self, provider: Provider, service: HttpService, code: str, message: str
    ) -> None:
        service.answer(refusal(400, code, message))
        with pytest.raises(Misconfigured):
            await provider.send(email())

    async def test_a_mail_with_a_virus_is_declined(self, provider: Provider, service: HttpService) -> None:
        service.answer(refusal(400, "MessageRejected", "Message contains a virus."))
        with pytest.raises(Declined, match="virus"):
            await provider.send(email())

    @pytest.mark.parametrize("code", ["TooManyRequestsException", "MessageRejected"])
    async def test_the_days_quota_is_unavailable(self, provider: Provider, service: HttpService, code: str) -> None:
        """As by SMTP."""
        service.answer(refusal(400, code, "Daily message quota exceeded."))
        with pytest.raises(Unavailable) as refused:
            await provider.send(email())
        assert refused.value.retry_after == QUOTA_WAIT_SECONDS
        assert "quota" in refused.value.hint

    @pytest.mark.parametrize("headers", [(("X-Long", "x" * 991),), tuple((f"X-{n}", "v") for n in range(16))])
    async def test_headers_that_templates_do_not_allow_are_refused(
        self, provider: Provider, service: HttpService, headers: tuple[tuple[str, str], ...]
    ) -> None:
        with pytest.raises(Misconfigured, match="15 headers"):
            await provider.send(replace(templated("sign-in"), headers=headers))
        assert not service.recorder.requests

    async def test_an_expired_session_token_is_misconfigured(self, provider: Provider, service: HttpService) -> None:
        service.answer(refusal(403, "ExpiredTokenException", "The security token included in the request is expired"))
        with pytest.raises(Misconfigured, match="expired"):
            await provider.send(email())

    async def test_an_address_beyond_ascii_is_declined(self, provider: Provider, service: HttpService) -> None:
        with pytest.raises(Declined, match="ASCII"):
            await provider.send(email("jörg@reader.example"))
        assert not service.recorder.requests


@pytest.mark.parametrize("name", MAILS)
async def test_botocores_own_client_sends_the_same(name: str) -> None:
    """Except for times, and for headers about the client and its retries."""
    mail = MAILS[name]

    def send(url: str) -> None:
        client(url, ID, SECRET, TOKEN).send_email(
            Destination={"ToAddresses": [mail.recipient]},
            Content={"Raw": {"Data": mail.raw}},
            EmailTags=[{"Name": "mailroom_id", "Value": mail.id}],
            ConfigurationSetName="codes",
            FeedbackForwardingEmailAddress="bounces@acme.example",
        )

    theirs = await client_request(send, VENDOR.accepted)
    settings = ("configuration_set_name", "feedback_forwarding_email_address")
    ours = await our_request(VENDOR, mail, **{setting: EXTRAS[setting] for setting in settings})
    found = differences(theirs, ours)
    for place in ("x-amz-date", "authorization", "amz-sdk-invocation-id", "amz-sdk-request"):
        found.pop(f"HTTP {place}", None)
    assert found == {}


@pytest.mark.parametrize("name", MAILS)
async def test_botocore_sends_the_same_by_a_template(name: str) -> None:
    """Botocore checks the request against AWS's own model."""
    mail = templated("sign-in", MAILS[name])
    ours = await our_request(VENDOR, mail)
    theirs = await client_request(lambda url: client(url, ID, SECRET, TOKEN).send_email(**ours.json), VENDOR.accepted)
    assert (theirs.target, theirs.json) == (ours.target, ours.json)
    content = ours.json["Content"]["Template"]
    assert json.loads(content["TemplateData"])["application"]["name"] == "Ærø &lt;b&gt;&amp; Søn"
    assert [header["Name"] for header in content["Headers"]] == [name for name, _ in mail.headers]
    [sender] = getaddresses([str(make_header(decode_header(ours.json["FromEmailAddress"])))])
    assert ours.json["FromEmailAddress"].isascii()
    assert sender == (mail.sender.name, ascii_form(mail.sender.email))
    assert len(ours.json.get("ReplyToAddresses", [])) == bool(mail.reply_to)


def client(url: str, key: str, secret: str, token: str | None = None, service: str = "sesv2") -> Any:
    return botocore.session.get_session().create_client(
        service,
        region_name=REGION,
        endpoint_url=url,
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        aws_session_token=token,
    )


@dataclass(frozen=True)
class Aws:
    """moto, authentication on: a verified sender, and a user who may send."""

    url: str
    key: str
    secret: str

    def provider(self, **changes: Any) -> Provider:
        options = {"region": REGION, "access_key_id": self.key, "access_key_secret": self.secret, "endpoint": self.url}
        return connect(Settings.model_validate({**options, **changes}), context())

    def mails(self) -> list[str]:
        """Return what it sent."""
        kept = httpx.get(f"{self.url}/moto-api/data.json", trust_env=False).json()["ses"]["RawMessage"]
        return [mail["raw_data"] for mail in kept]


@pytest.fixture(scope="module")
def aws() -> Iterator[Aws]:
    with moto_server(unauthenticated=4) as url:
        iam = client(url, "test", "test", service="iam")
        iam.create_user(UserName="mailroom")
        policy = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "ses:*", "Resource": "*"}]}'
        iam.put_user_policy(UserName="mailroom", PolicyName="send", PolicyDocument=policy)
        client(url, "test", "test").create_email_identity(EmailIdentity="no-reply@acme.example")
        key = iam.create_access_key(UserName="mailroom")["AccessKey"]
        yield Aws(url, key["AccessKeyId"], key["SecretAccessKey"])


class TestAgainstMoto:
    async def test_a_mail_is_sent_as_its_raw_bytes(self, aws: Aws) -> None:
        provider = aws.provider()
        receipt = await provider.send(email(subject="Good day"))
        await provider.aclose()
        assert receipt.provider_message_id
        assert email(subject="Good day").raw.decode() in aws.mails()

    async def test_a_wrong_secret_is_refused(self, aws: Aws) -> None:
        provider = aws.provider(access_key_secret="WrongSecretOfTheTests/0123456789+abcdefg")
        with pytest.raises(Misconfigured, match="SignatureDoesNotMatch"):
            await provider.send(email(subject="not this one"))
        await provider.aclose()
        assert not any("not this one" in mail for mail in aws.mails())

    async def test_an_unknown_key_is_refused(self, aws: Aws) -> None:
        provider = aws.provider(access_key_id="AKIAUNKNOWNUNKNOWN00")
        with pytest.raises(Misconfigured, match="InvalidClientTokenId"):
            await provider.send(email())
        await provider.aclose()

    @pytest.mark.parametrize("tampered", [False, True])
    async def test_a_tampered_body_is_refused(self, aws: Aws, tampered: bool) -> None:  # noqa: FBT001  # a parameter of the test
        provider = Ses(Settings.model_validate({**OPTIONS, "endpoint": aws.url}), context())
        call = provider.build_request(email())
        await provider.aclose()
        signed = httpx.Request(
            "POST", f"{aws.url}{call.path}", headers={"Content-Type": call.content_type}, content=call.body
        )
        keys = (aws.key, aws.secret, None)
        auth = AwsAuth(keys, region=REGION, service="ses", profile=None, egress=Egress())
        await anext(auth.async_auth_flow(signed))
        body = call.body.replace(b"ada@reader.example", b"eve@reader.example") if tampered else call.body
        async with httpx.AsyncClient(trust_env=False) as wire:
            answer = await wire.post(str(signed.url), headers=signed.headers, content=body)
        assert answer.status_code == (403 if tampered else 200)

    async def test_an_unverified_sender_is_misconfigured(self, aws: Aws) -> None:
        provider = aws.provider()
        with pytest.raises(Misconfigured, match="authority to send") as refused:
            await provider.send(email(sender=Address("no-reply@other.example", "Other")))
        await provider.aclose()
        assert refused.value.code == "MessageRejected"


@pytest.mark.parametrize(
    ("region", "host"),
    [
        ("us-east-1", "https://email.us-east-1.amazonaws.com"),
        ("us-gov-west-1", "https://email.us-gov-west-1.amazonaws.com"),
        ("cn-north-1", "https://email.cn-north-1.amazonaws.com.cn"),
    ],
)
async def test_the_region_decides_the_host(region: str, host: str) -> None:
    provider = Ses(Settings.model_validate({**OPTIONS, "region": region}), context())
    assert provider.base == host
    await provider.aclose()


@pytest.mark.parametrize(
    "wrong",
    [
        {"region": "eu-central-1.evil.example/"},
        {"access_key_secret": None},
        {"credentials": "host"},
        {"profile": "mailroom"},
        {"configuration_set_name": "two words"},
        {"email_address_identity_arn": "acme.example"},
        {"feedback_forwarding_email_address": "nobody"},
    ],
)
def test_invalid_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate({**OPTIONS, **wrong})


def test_the_hosts_credentials_are_used() -> None:
    """Only an AWS host is searched for credentials."""
    with pytest.raises(ValidationError, match="host"):
        Settings.model_validate({"region": REGION})
    assert Settings.model_validate({"region": REGION, "credentials": "host"}).access_key_id is None


def test_without_botocore_the_error_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ses_provider, "find_spec", lambda _name: None)
    with pytest.raises(ValidationError, match="needs botocore: make setup EXTRAS=ses"):
        Settings.model_validate(OPTIONS)
