"""Amazon SES, API v2: docs.aws.amazon.com/ses/latest/APIReference-V2/API_SendEmail.html."""

import base64
import json
from importlib.util import find_spec
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from mailroom.address import ascii_form
from mailroom.errors import Declined, Misconfigured, SendingError, Unavailable
from mailroom.message import Address, Email, Receipt
from mailroom.providers.base import ProviderContext, TemplatesAtProvider
from mailroom.providers.http.http_provider import ApiRequest, HttpProvider, json_request
from mailroom.providers.http.http_settings import ApiKey, HttpSettings
from mailroom.providers.http.mail_fields import address_text, encoded_words, header_pairs, mailbox_text
from mailroom.providers.http.response import ApiResponse
from mailroom.providers.http.template_variables import escaped

Arn = Annotated[str, Field(pattern=r"^arn:[!-~]{1,2000}$")]

_INSTALL: Final = "make setup EXTRAS=ses, or pip install --require-hashes -r requirements-ses.txt"


class Settings(TemplatesAtProvider, HttpSettings):
    """Amazon SES."""

    type: Literal["ses"] = "ses"
    region: str = Field(
        pattern=r"^[a-z]{2}(-[a-z]+)+-[0-9]$", description="where the sender is verified: `eu-central-1`"
    )
    credentials: Literal["keys", "host"] = Field(
        "keys",
        description="`keys`: the two settings below; `host`: those that AWS's SDKs find: `AWS_ACCESS_KEY_ID` "
        "and the like, an EKS web identity, an ECS task's or EKS pod's role, an EC2 instance's role, or `profile`",
    )
    profile: str | None = Field(
        None,
        pattern=r"^[!-~]{1,200}$",
        description="a profile of `~/.aws/config` and `~/.aws/credentials`, which may name "
        'keys, a role, SSO, a `credential_process`; goes with `credentials = "host"`; also `AWS_PROFILE`',
    )
    access_key_id: str | None = Field(
        None, pattern=r"^\w{16,128}$", description="IAM → Users → Security credentials → Access keys"
    )
    access_key_secret: ApiKey | None = Field(None, description="goes with `access_key_id`")
    session_token: ApiKey | None = Field(None, description="of temporary keys")
    configuration_set_name: str | None = Field(
        None, pattern=r"^[\w-]{1,64}$", description="the configuration set: dedicated addresses, event publishing"
    )
    email_address_identity_arn: Arn | None = Field(
        None, description="the identity of another account that allows us to send for it"
    )
    feedback_forwarding_email_address: Annotated[str, AfterValidator(ascii_form)] | None = Field(
        None, description="address to which SES forwards bounces and complaints"
    )
    feedback_forwarding_email_address_identity_arn: Arn | None = Field(
        None, description="another account's identity for that address"
    )

    @model_validator(mode="after")
    def _check_credentials(self) -> Self:
        if find_spec("botocore") is None:
            raise ValueError(f"Amazon SES needs botocore: {_INSTALL}")
        given = [self.access_key_id is not None, self.access_key_secret is not None]
        if self.credentials == "keys" and not all(given):
            raise ValueError('set access_key_id and access_key_secret, or credentials = "host" on an AWS host')
        if self.credentials == "host" and (any(given) or self.session_token is not None):
            raise ValueError('credentials = "host" takes its keys from the host; leave them out here')
        if self.profile is not None and self.credentials == "keys":
            raise ValueError('profile goes with credentials = "host"')
        return self


KINDS: Final[dict[str, type[SendingError]]] = {
    **dict.fromkeys(("MessageRejected", "BadRequestException", "RequestEntityTooLargeException"), Declined),
    **dict.fromkeys(("MailFromDomainNotVerifiedException", "AccountSuspendedException"), Misconfigured),
    **dict.fromkeys(("SendingPausedException", "NotFoundException", "LimitExceededException"), Misconfigured),
    **dict.fromkeys(("ConfigurationSetDoesNotExist", "OptInRequired", "UnknownOperationException"), Misconfigured),
    **dict.fromkeys(("AccessDenied", "AccessDeniedException", "NotAuthorized"), Misconfigured),
    **dict.fromkeys(("SignatureDoesNotMatch", "InvalidSignatureException", "IncompleteSignature"), Misconfigured),
    **dict.fromkeys(("InvalidClientTokenId", "UnrecognizedClientException", "RequestExpired"), Misconfigured),
    **dict.fromkeys(("MissingAuthenticationToken", "MissingAuthenticationTokenException"), Misconfigured),
    **dict.fromkeys(("RequestTimeoutException", "ServiceUnavailable", "ServiceUnavailableException"), Unavailable),
    # AWS's SDKs repeat requests after these; for a gateway's HTML page see `by_status`.
    **dict.fromkeys(("InternalFailure", "InternalServiceErrorException", "InternalServerError"), Unavailable),
}
"""By the error's type (API_SendEmail.html#API_SendEmail_Errors, CommonErrors.html)."""

_THROTTLED: Final = ("TooManyRequests", "Throttling")
"""How the types of throttling begin; there are several."""
_EXPIRED: Final = frozenset({"ExpiredToken", "ExpiredTokenException"})
_OUR_FAULT: Final = ("not verified", "not authorized", "authority to send", "emplate")
"""Texts about an unverified sender (or, in SES's sandbox, recipient) and about templates, under other types."""
_MOST_HEADERS: Final = 15
_LONGEST_HEADER: Final = 996
"""Characters of name and value together."""


class Ses(HttpProvider[Settings]):
    """Sends the mail's bytes by SES, or the mail that a template stored there makes.

    `Content.Raw`, not `Content.Simple`: the same bytes leave as by SMTP, with all their headers (Simple takes 15, of at
    most 995 characters) and the encodings that were chosen for their text. Either way SES sets a Message-ID and Date of
    its own and signs by DKIM. From and Reply-To are in the bytes; `FromEmailAddress` would replace the one there.
    """

    def __init__(self, settings: Settings, context: ProviderContext) -> None:
        from mailroom.providers.ses.aws_auth import AwsAuth  # noqa: PLC0415 - botocore, an extra, takes 0.3 s

        region, token, keys = settings.region, settings.session_token, None
        if settings.access_key_id is not None and settings.access_key_secret is not None:
            secret = settings.access_key_secret.get_secret_value()
            keys = settings.access_key_id, secret, token.get_secret_value() if token else None
        self._auth = AwsAuth(keys, region=region, service="ses", profile=settings.profile, egress=settings.egress)
        suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
        super().__init__(settings, context, f"https://email.{region}.{suffix}", auth=self._auth)

    def secrets(self) -> tuple[str, ...]:
        """Return the current key: SES repeats a signed request that it refuses, session token included."""
        current = self._auth.current
        return (current.secret_key, current.token or "") if current else ()

    def build_request(self, email: Email) -> ApiRequest:
        """Return the request for a mail. Raises Declined for an address beyond ASCII, which SES does not take."""
        if not email.recipient.isascii():
            raise Declined("SES takes no addresses beyond ASCII", hint="add a provider that does, for such recipients")
        settings = self.settings
        fields = {
            "Destination": {"ToAddresses": [email.recipient]},
            **_content(email),
            "EmailTags": [{"Name": "mailroom_id", "Value": email.id}],
            "ConfigurationSetName": settings.configuration_set_name,
            "FromEmailAddressIdentityArn": settings.email_address_identity_arn,
            "FeedbackForwardingEmailAddress": settings.feedback_forwarding_email_address,
            "FeedbackForwardingEmailAddressIdentityArn": settings.feedback_forwarding_email_address_identity_arn,
        }
        return json_request("/v2/email/outbound-emails", fields)

    async def verify(self) -> str:
        """Request the account, see `Verifiable`; keys that may only send are right all the same."""
        try:
            account = (await self.query("/v2/email/account")).fields
        except Misconfigured as error:
            if not error.code.startswith("AccessDenied"):
                raise
            return "SES takes the keys; they may not ask for the account, so whether they may send is not known"
        if account.get("SendingEnabled") is False:
            raise Misconfigured("SES takes the keys, but sending is paused for this account in this region")
        if account.get("ProductionAccessEnabled") is False:
            return "SES takes the keys; the account is in the sandbox: mails go to verified addresses only"
        return "SES takes the keys"

    def parse_response(self, response: ApiResponse) -> Receipt:
        """Return the receipt, or raise by the error's type."""
        if response.is_success:
            return response.receipt("MessageId")
        code = _error_type(response)
        is_throttled = code.startswith(_THROTTLED)
        kind = Unavailable if is_throttled else KINDS.get(code)
        if code in _EXPIRED:
            # Temporary keys are fetched again for the next attempt; those in the settings only the operator can renew.
            kind = Unavailable if self._auth.forget() else Misconfigured
        elif kind in (Declined, Unavailable) and any(text in response.diagnostic for text in _OUR_FAULT):
            kind = Misconfigured
        raise response.error(kind, code=code, is_throttled=is_throttled)


def _content(email: Email) -> dict[str, Any]:
    """Return the mail's bytes, or the template with sender and headers, without Message-ID: SES sets its own.

    Raises Misconfigured for headers that SES does not take with a template.
    """
    if not email.template_at_provider:
        return {"Content": {"Raw": {"Data": base64.b64encode(email.raw).decode("ascii")}}}
    headers = header_pairs(email)
    if len(headers) > _MOST_HEADERS or any(len(name) + len(value) > _LONGEST_HEADER for name, value in headers):
        raise Misconfigured(f"with a template SES takes {_MOST_HEADERS} headers of {_LONGEST_HEADER} characters")
    template = {
        "TemplateName": email.template_at_provider,
        # SES escapes nothing when it fills the HTML (its guide's page on templates).
        "TemplateData": json.dumps(escaped(email.variables)),
        "Headers": [{"Name": name, "Value": value} for name, value in headers],
    }
    return {
        "FromEmailAddress": _ascii_mailbox(email.sender),
        "Content": {"Template": template},
        "ReplyToAddresses": email.reply_to and [_ascii_mailbox(email.reply_to)],
    }


def _ascii_mailbox(address: Address) -> str:
    if address.name.isascii():
        return mailbox_text(address)
    return f"{encoded_words(address.name)} <{address_text(address.email)}>"


def _error_type(response: ApiResponse) -> str:
    """Return the error's type without the URL that may follow or the namespace that may precede it."""
    given = response.headers.get("x-amzn-errortype", "") or response.text("__type") or response.text("code")
    return given.partition(":")[0].rpartition("#")[2].strip()


connect = Ses
