"""Alibaba Cloud Direct Mail, SingleSendMail: alibabacloud.com/help/en/direct-mail/api-dm-2015-11-23-singlesendmail."""

from collections.abc import Mapping
from typing import Annotated, Final, Literal
from urllib.parse import urlencode

import msgspec
from pydantic import AfterValidator, Field

from mailroom.address import ascii_form
from mailroom.errors import Declined, Misconfigured, Rejected, SendingError, Unavailable, Uncertain
from mailroom.message import Address, Email, Receipt
from mailroom.providers import ProviderContext, TemplatesAtProvider
from mailroom.providers.aliyun.acs3 import Acs3
from mailroom.providers.http.http_provider import (
    ApiKey,
    ApiRequest,
    ApiResponse,
    HttpProvider,
    HttpSettings,
    header_map,
)
from mailroom.providers.http.mail_fields import address_text
from mailroom.providers.http.template_variables import flat

LONGEST_ALIAS: Final = 14
"""Characters; "shorter than 15"."""
_MOST_HEADERS: Final = 10


class Settings(TemplatesAtProvider, HttpSettings):
    """Alibaba Cloud Direct Mail."""

    type: Literal["aliyun"] = "aliyun"
    access_key_id: str = Field(
        pattern=r"^[A-Za-z0-9.]{8,128}$", description="AccessKey of a RAM user that may `dm:SingleSendMail`"
    )
    access_key_secret: ApiKey = Field(description="goes with `access_key_id`")
    region: Literal["cn-hangzhou", "ap-southeast-1", "ap-southeast-2", "us-east-1", "eu-central-1"] = Field(
        "cn-hangzhou", description="where the sender address was made"
    )
    account_name: Annotated[str, AfterValidator(ascii_form)] | None = Field(
        None, description="the sender address in the console, if not that of `from`"
    )
    from_alias: str | None = Field(
        None,
        max_length=LONGEST_ALIAS,
        description=f"display name, if not that of `from`; {LONGEST_ALIAS} characters",
    )
    tag_name: str | None = Field(None, pattern=r"^[\w-]{1,128}$", description="a tag made in the console")

    def inexpressible(self, sender: Address, reply_to: Address | None) -> str:
        """Return what is wrong with the display names."""
        if self.from_alias is None and len(sender.name) > LONGEST_ALIAS:
            return _TOO_LONG
        return _TOO_LONG_TO_REPLY if reply_to is not None and len(reply_to.name) > LONGEST_ALIAS else ""


_TOO_LONG: Final = f"Direct Mail takes display names of {LONGEST_ALIAS} characters; shorten from's, or set from_alias"
_TOO_LONG_TO_REPLY: Final = f"Direct Mail takes display names of {LONGEST_ALIAS} characters; shorten reply_to's"

KINDS: Final[tuple[tuple[str, type[SendingError]], ...]] = (
    ("InvalidToAddress", Rejected),
    ("InvalidBody", Declined),
    ("InvalidMailAddress", Misconfigured),
    ("InvalidFromAlias", Misconfigured),
    ("InvalidSubject", Misconfigured),  # too long for Direct Mail; another provider may take it
    ("InvalidTag", Misconfigured),
    ("InvalidTemplate", Misconfigured),
    ("InvalidAccessKey", Misconfigured),
    ("InvalidTimeStamp", Misconfigured),
    ("InvalidAction", Misconfigured),
    ("InvalidVersion", Misconfigured),
    ("InvalidProduct", Misconfigured),
    ("Forbidden", Misconfigured),
    ("NoPermission", Misconfigured),
    ("Inactive", Misconfigured),
    ("IncompleteSignature", Misconfigured),
    ("SignatureDoesNotMatch", Misconfigured),
    ("Missing", Misconfigured),
    # Its nonce was seen before: somebody on the way sent it twice, and what became of the first is not known.
    ("SignatureNonceUsed", Uncertain),
    ("InvalidSendMail.Spam", Unavailable),
    ("Throttling", Unavailable),
    ("ServiceUnavailable", Unavailable),
    ("InternalError", Unavailable),  # its own words; a page of a gateway's is another matter, see `by_status`
)
"""By the beginning of the `Code` in the body."""

SPAM_WAIT_SECONDS: Final = 60.0
""""InvalidSendMail.Spam" is said of a rate, of the day's quota and of content alike: worth a few tries, well apart."""

_NOT_ALLOWED: Final = ("Forbidden.RAM", "NoPermission")
"""Said of a request that was signed rightly by a RAM user whose policy does not name it."""
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
"""On every mail of Mailroom's. Direct Mail has no field for them, and a mail may well go without: under X-User- they
are there to be read, and do nothing."""


class Aliyun(HttpProvider):
    """Hands mails to Direct Mail."""

    def __init__(self, settings: Settings, context: ProviderContext) -> None:
        """Read what the settings say; nothing is dialled."""
        place = "" if settings.region == "cn-hangzhou" else f"{settings.region}."
        super().__init__(
            settings,
            context,
            host=f"https://dm.{place}aliyuncs.com",
            auth=Acs3(settings.access_key_id, settings.access_key_secret, context.clock),
        )
        self._settings = settings

    def secrets(self) -> tuple[str, ...]:
        """Return the key that signs, which nobody repeats who was not told it."""
        return (self._settings.access_key_secret.get_secret_value(),)

    def build_request(self, email: Email) -> ApiRequest:
        """Return the request for a mail; all goes in the body, for a URL holds only 80 kB.

        Raises Misconfigured for a display name that is too long and for headers that Direct Mail has no field for.
        """
        settings = self._settings
        if problem := settings.inexpressible(email.sender, email.reply_to):
            raise Misconfigured(problem)
        alias = email.sender.name if settings.from_alias is None else settings.from_alias
        fields = {
            "AccountName": settings.account_name or address_text(email.sender.email),
            "AddressType": "1",
            "ToAddress": email.recipient,
            **_content(email),
            "Headers": msgspec.json.encode(_headers(email)).decode(),
            "ReplyToAddress": "false",
        }
        if alias:
            fields["FromAlias"] = alias
        if email.reply_to:
            fields["ReplyAddress"] = address_text(email.reply_to.email)
            if email.reply_to.name:
                fields["ReplyAddressAlias"] = email.reply_to.name
        if settings.tag_name:
            fields["TagName"] = settings.tag_name
        return _call("SingleSendMail", fields)

    async def verify(self) -> str:
        """Ask for the account, see `Verifiable`; a key that may only send is right all the same."""
        answer = await self.call(_call("DescAccountSummary", {}))
        code, status = answer.text("Code"), answer.text("UserStatus")
        if code.startswith(_NOT_ALLOWED):
            return "Direct Mail takes the key; it may not ask for the account, so whether it may send is not known"
        if code or not answer.is_success:
            self.parse_response(answer)
        if status not in STATES:
            raise answer.not_understood()
        if STATES[status]:
            raise Misconfigured(f"Direct Mail takes the key, but {STATES[status]}", code=f"UserStatus {status}")
        return "Direct Mail takes the key"

    def parse_response(self, response: ApiResponse) -> Receipt:
        """Return the receipt, or raise by the body's `Code`."""
        code = response.text("Code")
        if response.is_success and not code:
            return response.receipt("EnvId")
        kind = next((kind for beginning, kind in KINDS if code.startswith(beginning)), None)
        if kind is None:
            raise self.refusal(response)
        wait = response.retry_after()
        if code.startswith("InvalidSendMail.Spam") and wait is None:
            wait = SPAM_WAIT_SECONDS
        raise response.error(kind, code=code, retry_after=wait)


def _call(action: str, fields: Mapping[str, str]) -> ApiRequest:
    headers = {"x-acs-action": action, "x-acs-version": "2015-11-23"}
    return ApiRequest("/", urlencode(fields).encode(), "application/x-www-form-urlencoded", headers)


def _content(email: Email) -> dict[str, str]:
    """Return the bodies, or the template and what fills it; the subject is ours, for Direct Mail wants one always."""
    if not email.template_at_provider:
        return {"Subject": email.subject, "HtmlBody": email.html, "TextBody": email.text}
    if not email.subject:
        raise Misconfigured("Direct Mail wants a subject beside its template, and our own template gave none")
    # Texts only; that Direct Mail escapes them is nowhere said.
    data = {name: str(value) for name, value in flat(email.variables).items()}
    template = {"TemplateData": data, "TemplateId": email.template_at_provider}
    return {"Subject": email.subject, "Template": msgspec.json.encode(template).decode()}


def _headers(email: Email) -> dict[str, str]:
    """Return the headers that Direct Mail can set. Those of X-User-Notify- come back in its events."""
    written = {"Message-ID": email.message_id, "X-User-Notify-Mailroom-Id": email.id}
    for name, value in header_map(email).items():
        low = name.lower()
        if low in _STANDARD or low.startswith("x-user-"):
            written[name] = value
        elif low in _AUTOMATIC:
            written[f"X-User-{name}"] = value
        else:
            raise Misconfigured(f"Direct Mail has no field for the header {name}; only for X-User-…")
    if len(written) > _MOST_HEADERS:
        raise Misconfigured(f"Direct Mail takes {_MOST_HEADERS} headers, this mail has {len(written)}")
    return written


connect = Aliyun
