"""Alibaba Cloud Direct Mail, SingleSendMail: alibabacloud.com/help/en/direct-mail/api-dm-2015-11-23-singlesendmail."""

from collections.abc import Mapping
from typing import Annotated, Final, Literal

import msgspec
from pydantic import AfterValidator, Field

from mailroom.address import ascii_form
from mailroom.errors import Declined, Misconfigured, Rejected, SendingError, Unavailable, Uncertain
from mailroom.message import Address, Email, Receipt
from mailroom.providers.aliyun.acs3 import Acs3
from mailroom.providers.base import ProviderContext, TemplatesAtProvider
from mailroom.providers.http.http_provider import ApiRequest, HttpProvider, form_request
from mailroom.providers.http.http_settings import ApiKey, HttpSettings
from mailroom.providers.http.mail_fields import address_text, header_map
from mailroom.providers.http.response import ApiResponse
from mailroom.providers.http.template_variables import flat

LONGEST_ALIAS: Final = 14
"""Characters; "shorter than 15"."""
_TOO_LONG: Final = f"Direct Mail takes display names of {LONGEST_ALIAS} characters"
_MOST_HEADERS: Final = 10


class Settings(TemplatesAtProvider, HttpSettings):
    """Alibaba Cloud Direct Mail."""

    type: Literal["aliyun"] = "aliyun"
    access_key_id: str = Field(
        pattern=r"^[A-Za-z0-9.]{8,128}$", description="AccessKey of a RAM user that may `dm:SingleSendMail`"
    )
    access_key_secret: ApiKey = Field(description="goes with `access_key_id`")
    region: Literal["cn-hangzhou", "ap-southeast-1", "ap-southeast-2", "us-east-1", "eu-central-1"] = Field(
        "cn-hangzhou", description="region in which the sender address was created"
    )
    account_name: Annotated[str, AfterValidator(ascii_form)] | None = Field(
        None, description="the sender address in the console, if not that of `from`"
    )
    from_alias: str | None = Field(
        None,
        max_length=LONGEST_ALIAS,
        description=f"display name, if not that of `from`; at most {LONGEST_ALIAS} characters",
    )
    tag_name: str | None = Field(None, pattern=r"^[\w-]{1,128}$", description="a tag created in the console")

    def inexpressible(self, sender: Address, reply_to: Address | None) -> str:
        """Return a sentence about a display name that is too long, else an empty text."""
        if self.from_alias is None and len(sender.name) > LONGEST_ALIAS:
            return f"{_TOO_LONG}; shorten from's, or set from_alias"
        if reply_to is not None and len(reply_to.name) > LONGEST_ALIAS:
            return f"{_TOO_LONG}; shorten reply_to's"
        return ""


KINDS: Final[dict[str, type[SendingError]]] = {
    "InvalidToAddress": Rejected,
    "InvalidBody": Declined,
    **dict.fromkeys(("InvalidMailAddress", "InvalidFromAlias", "InvalidTag", "InvalidTemplate"), Misconfigured),
    "InvalidSubject": Misconfigured,  # too long for Direct Mail; another provider may take it
    **dict.fromkeys(("InvalidAccessKey", "InvalidTimeStamp", "InvalidAction", "InvalidVersion"), Misconfigured),
    **dict.fromkeys(("InvalidProduct", "Forbidden", "NoPermission", "Inactive", "Missing"), Misconfigured),
    **dict.fromkeys(("IncompleteSignature", "SignatureDoesNotMatch"), Misconfigured),
    # The nonce was used before: something on the network path sent the request twice, and what became of the first
    # is not known.
    "SignatureNonceUsed": Uncertain,
    **dict.fromkeys(("InvalidSendMail.Spam", "Throttling", "ServiceUnavailable"), Unavailable),
    "InternalError": Unavailable,  # in Direct Mail's own format; for a gateway's HTML page see `by_status`
}
"""By the beginning of the `Code` in the body."""

SPAM_WAIT_SECONDS: Final = 60.0
"""Wait after `InvalidSendMail.Spam`, which stands for a rate, for the day's quota and for content alike."""

_NOT_ALLOWED: Final = ("Forbidden.RAM", "NoPermission")
"""The request was signed correctly by a RAM user whose policy does not allow it."""
STATES: Final = {
    "0": "",
    "1": "the account is frozen",
    "2": "the account has bills to pay",
    "4": "the account may not send mail",
    "8": "the account was deleted",
}
"""By the `UserStatus` of DescAccountSummary: what is wrong with the account."""

_STANDARD: Final = frozenset({"message-id", "list-unsubscribe", "list-unsubscribe-post"})
_AUTOMATIC: Final = frozenset({"content-language", "auto-submitted", "x-auto-response-suppress", "x-entity-ref-id"})
"""On every mail of Mailroom's. Direct Mail has no field for them: they are sent under X-User-, where they have no
effect, and the mail does not need them."""


class Aliyun(HttpProvider[Settings]):
    """Sends by Direct Mail."""

    def __init__(self, settings: Settings, context: ProviderContext) -> None:
        region = "" if settings.region == "cn-hangzhou" else f"{settings.region}."
        super().__init__(
            settings,
            context,
            f"https://dm.{region}aliyuncs.com",
            secrets=[settings.access_key_secret.get_secret_value()],
            auth=Acs3(settings.access_key_id, settings.access_key_secret, context.clock),
        )

    def build_request(self, email: Email) -> ApiRequest:
        """Return the request for a mail. Its fields are in the body: a URL holds only 80 kB.

        Raises Misconfigured for a display name that is too long and for headers that Direct Mail has no field for.
        """
        settings = self.settings
        if problem := settings.inexpressible(email.sender, email.reply_to):
            raise Misconfigured(problem)
        alias = email.sender.name if settings.from_alias is None else settings.from_alias
        optional = {
            "FromAlias": alias,
            "ReplyAddress": email.reply_to and address_text(email.reply_to.email),
            "ReplyAddressAlias": email.reply_to and email.reply_to.name,
            "TagName": settings.tag_name,
        }
        fields = {
            "AccountName": settings.account_name or address_text(email.sender.email),
            "AddressType": "1",
            "ToAddress": email.recipient,
            **_content(email),
            "Headers": msgspec.json.encode(_headers(email)).decode(),
            "ReplyToAddress": "false",
            **{name: value for name, value in optional.items() if value},
        }
        return _action_request("SingleSendMail", fields)

    async def verify(self) -> str:
        """Request the account, see `Verifiable`; a key that may only send is right all the same."""
        response = await self.fetch(_action_request("DescAccountSummary", {}))
        code, status = response.text("Code"), response.text("UserStatus")
        if code.startswith(_NOT_ALLOWED):
            return "Direct Mail takes the key; it may not ask for the account, so whether it may send is not known"
        if code or not response.is_success:
            self.parse_response(response)
        if status not in STATES:
            raise response.undocumented()
        if STATES[status]:
            raise Misconfigured(f"Direct Mail takes the key, but {STATES[status]}", code=f"UserStatus {status}")
        return "Direct Mail takes the key"

    def parse_response(self, response: ApiResponse) -> Receipt:
        """Return the receipt, or raise by the body's `Code`."""
        code = response.text("Code")
        if response.is_success and not code:
            return response.receipt("EnvId")
        kind = next((kind for beginning, kind in KINDS.items() if code.startswith(beginning)), None)
        wait = response.retry_after()
        if code.startswith("InvalidSendMail.Spam") and wait is None:
            wait = SPAM_WAIT_SECONDS
        raise response.error(kind, code=code, retry_after=wait, is_throttled=code.startswith("Throttling"))


def _action_request(action: str, fields: Mapping[str, str]) -> ApiRequest:
    return form_request("/", fields.items(), {"x-acs-action": action, "x-acs-version": "2015-11-23"})


def _content(email: Email) -> dict[str, str]:
    """Return the bodies, or the template and its data; Direct Mail requires a subject in both cases."""
    if not email.template_at_provider:
        return {"Subject": email.subject, "HtmlBody": email.html, "TextBody": email.text}
    if not email.subject:
        raise Misconfigured("Direct Mail wants a subject beside its template, and our own template gave none")
    # Texts only; its documentation does not say that Direct Mail escapes them.
    data = {name: str(value) for name, value in flat(email.variables).items()}
    template = {"TemplateData": data, "TemplateId": email.template_at_provider}
    return {"Subject": email.subject, "Template": msgspec.json.encode(template).decode()}


def _headers(email: Email) -> dict[str, str]:
    """Return the headers that Direct Mail can set. Those of X-User-Notify- come back in its events."""
    headers = {"Message-ID": email.message_id, "X-User-Notify-Mailroom-Id": email.id}
    for name, value in header_map(email).items():
        lower = name.lower()
        if lower in _STANDARD or lower.startswith("x-user-"):
            headers[name] = value
        elif lower in _AUTOMATIC:
            headers[f"X-User-{name}"] = value
        else:
            raise Misconfigured(f"Direct Mail has no field for the header {name}; only for X-User-…")
    if len(headers) > _MOST_HEADERS:
        raise Misconfigured(f"Direct Mail takes {_MOST_HEADERS} headers, this mail has {len(headers)}")
    return headers


connect = Aliyun
