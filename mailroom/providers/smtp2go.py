"""SMTP2GO: developers.smtp2go.com/reference/send-standard-email."""

from fnmatch import fnmatchcase
from typing import Final, Literal

from pydantic import Field

from mailroom.errors import Declined, Misconfigured, Rejected, SendingError
from mailroom.message import Email, Receipt
from mailroom.providers.base import ProviderContext
from mailroom.providers.http.http_provider import ApiRequest, HttpProvider, json_request
from mailroom.providers.http.http_settings import ApiKey, HttpSettings
from mailroom.providers.http.mail_fields import header_pairs, mailbox_text
from mailroom.providers.http.response import ApiResponse, by_status

HOSTS: Final = {
    "global": "https://api.smtp2go.com",
    "us": "https://us-api.smtp2go.com",
    "eu": "https://eu-api.smtp2go.com",
    "au": "https://au-api.smtp2go.com",
}
"""`global` goes to the nearest of the others."""


class Settings(HttpSettings):
    """SMTP2GO."""

    type: Literal["smtp2go"] = "smtp2go"
    api_key: ApiKey = Field(description="SMTP2GO → Sending → API Keys; the permission `/email/send` is enough")
    region: Literal["global", "us", "eu", "au"] = Field("global", description="region in which the mails are processed")


KINDS: Final[dict[str, type[SendingError]]] = {
    "API_EXCEPTION": Misconfigured,  # several errors: an unknown key, a sender that is not verified
    "ENDPOINT_PERMISSION_DENIED": Misconfigured,
    "INVALID_IN_PAYLOAD": Misconfigured,  # the key has not the form of one
    "NON_VALIDATING_IN_PAYLOAD": Misconfigured,  # a field is not valid; for `to` see `_kind`
    "SENDER_NOT_VERIFIED": Misconfigured,
}
"""By `error_code` without its `E_ApiResponseCodes.`; any other 4xx but 429 means that our configuration is wrong, too.
"""

_PREFIX: Final = "E_ApiResponseCodes."
_SEND: Final = "/email/send"
_FAILURE: Final = ("data", "failures", 0)
"""The first of `failures`: a text, or an object with the error in it."""
_FIELD_ERRORS: Final = "field_validation_errors"


class Smtp2go(HttpProvider[Settings]):
    """Sends by SMTP2GO, whose 200 may be a refusal."""

    def __init__(self, settings: Settings, context: ProviderContext) -> None:
        key = settings.api_key.get_secret_value()
        super().__init__(settings, context, HOSTS[settings.region], {"X-Smtp2go-Api-Key": key})

    def build_request(self, email: Email) -> ApiRequest:
        """Return the request for a mail."""
        headers = header_pairs(email)
        for name, value in headers:
            if "smtp2go" in name.lower() or value != value.strip():
                raise Misconfigured(f"SMTP2GO blocks the header {name}")
        if email.reply_to:  # there is no field for it
            headers.append(("Reply-To", mailbox_text(email.reply_to)))
        headers += [("Message-ID", email.message_id), ("X-Mailroom-ID", email.id)]
        fields = {
            "sender": mailbox_text(email.sender),
            "to": [email.recipient],
            "subject": email.subject,
            "custom_headers": [{"header": name, "value": value} for name, value in headers],
            "text_body": email.text or None,
            "html_body": email.html or None,
        }
        return json_request(f"/v3{_SEND}", fields)

    async def verify(self) -> str:
        """List the key's permissions, see `Verifiable`; every key may (…/reference/view-api-key-permissions)."""
        response = await self.query("/v3/api_keys/permissions", {})
        allowed = response.fields.get("data")
        if not isinstance(allowed, list):
            self.parse_response(response)
            raise response.undocumented()
        if not any(isinstance(pattern, str) and fnmatchcase(_SEND, pattern) for pattern in allowed):
            raise Misconfigured(f"the key may not send: it lacks the permission {_SEND}")
        return "SMTP2GO takes the key, which may send"

    def parse_response(self, response: ApiResponse) -> Receipt:
        """Return the receipt, or raise by `failures` or `error_code`, which stand in `data` or at the root."""
        failure = _first_text(response, _FAILURE, (*_FAILURE, "error"), (*_FAILURE, "message"))
        if response.is_success and (failure or response.text("data", "failed") not in ("", "0")):
            failure = failure or "SMTP2GO counts the mail as failed"
            raise response.error(Misconfigured if "sender" in failure.lower() else Declined, failure, code="failed")
        code = _first_text(response, ("data", "error_code"), ("error_code",)).removeprefix(_PREFIX)
        if response.is_success and not code:
            identifier = response.text("data", "email_id")
            if identifier and response.text("data", "succeeded") == "1":
                return Receipt(identifier, response.text("request_id") or identifier)
            raise response.undocumented()
        if not code:
            raise response.error()
        text = _first_text(response, ("data", _FIELD_ERRORS, "message"), (_FIELD_ERRORS, "message"))
        text = text or _first_text(response, ("data", "error"), ("error",))
        retry_after = response.retry_after("x-ratelimit-reset")  # not documented; its SDK reads it
        raise response.error(_kind(response, code), text, code=code, retry_after=retry_after)


def _first_text(response: ApiResponse, *paths: tuple[str | int, ...]) -> str:
    return next(filter(None, (response.text(*path) for path in paths)), "")


def _kind(response: ApiResponse, code: str) -> type[SendingError]:
    kind = Declined if response.is_success else by_status(response.status)
    if kind is not Declined:
        return kind
    field = _first_text(response, ("data", _FIELD_ERRORS, "fieldname"), (_FIELD_ERRORS, "fieldname"))
    return Rejected if field.startswith("to") else KINDS.get(code, Misconfigured)


connect = Smtp2go
