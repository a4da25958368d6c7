"""SMTP2GO: developers.smtp2go.com/reference/send-standard-email."""

from fnmatch import fnmatchcase
from typing import Any, Final, Literal

from pydantic import Field

from mailroom.errors import Declined, Misconfigured, Rejected, SendingError
from mailroom.message import Email, Receipt
from mailroom.providers import ProviderContext
from mailroom.providers.http.http_provider import (
    ApiKey,
    ApiRequest,
    ApiResponse,
    HttpProvider,
    HttpSettings,
    by_status,
    header_pairs,
    json_request,
    mailbox_text,
)

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
    region: Literal["global", "us", "eu", "au"] = Field("global", description="where the mails are handled")


KINDS: Final[dict[str, type[SendingError]]] = {
    "API_EXCEPTION": Misconfigured,  # whatever else is wrong: an unknown key, a sender that is not verified
    "ENDPOINT_PERMISSION_DENIED": Misconfigured,
    "INVALID_IN_PAYLOAD": Misconfigured,  # what is no key at all
    "NON_VALIDATING_IN_PAYLOAD": Misconfigured,  # a field is not as it must be; `to` is not ours
    "SENDER_NOT_VERIFIED": Misconfigured,
}
"""By `error_code` without its `E_ApiResponseCodes.`; any other 4xx but 429 is ours to mend, too."""

_PREFIX: Final = "E_ApiResponseCodes."
_SEND: Final = "/email/send"


class Smtp2go(HttpProvider):
    """Hands mails to SMTP2GO, whose 200 may well be a refusal."""

    def __init__(self, settings: Settings, context: ProviderContext) -> None:
        """Read what the settings say; nothing is dialled."""
        super().__init__(
            settings,
            context,
            host=HOSTS[settings.region],
            credentials={"X-Smtp2go-Api-Key": settings.api_key.get_secret_value()},
        )

    def build_request(self, email: Email) -> ApiRequest:
        """Return the request for a mail."""
        headers = header_pairs(email)
        for name, value in headers:
            if "smtp2go" in name.lower() or value != value.strip():
                raise Misconfigured(f"SMTP2GO blocks the header {name}")
        if email.reply_to:  # there is no field for it
            headers.append(("Reply-To", mailbox_text(email.reply_to)))
        headers += [("Message-ID", email.message_id), ("X-Mailroom-ID", email.id)]
        fields: dict[str, Any] = {
            "sender": mailbox_text(email.sender),
            "to": [email.recipient],
            "subject": email.subject,
            "custom_headers": [{"header": name, "value": value} for name, value in headers],
        }
        parts = {"text_body": email.text, "html_body": email.html}
        fields |= {part: content for part, content in parts.items() if content}
        return json_request(f"/v3{_SEND}", fields)

    async def verify(self) -> str:
        """Ask what the key may do, see `Verifiable`; every key may ask (…/reference/view-api-key-permissions)."""
        answer = await self.asked("/v3/api_keys/permissions", {})
        allowed = answer.fields.get("data")
        if not isinstance(allowed, list):
            self.parse_response(answer)
            raise answer.not_understood()
        if not any(isinstance(pattern, str) and fnmatchcase(_SEND, pattern) for pattern in allowed):
            raise Misconfigured(f"the key may not send: it lacks the permission {_SEND}")
        return "SMTP2GO takes the key, which may send"

    def parse_response(self, response: ApiResponse) -> Receipt:
        """Return the receipt, or raise by `failures` or `error_code`, which stand in `data` or at the root."""
        failure = _failure(response)
        if response.is_success and (failure or response.text("data", "failed") not in ("", "0")):
            words = failure or "SMTP2GO counts the mail as failed"
            raise response.error(Misconfigured if "sender" in words.lower() else Declined, words, code="failed")
        code = (response.text("data", "error_code") or response.text("error_code")).removeprefix(_PREFIX)
        if response.is_success and not code:
            identifier = response.text("data", "email_id")
            if identifier and response.text("data", "succeeded") == "1":
                return Receipt(identifier, response.text("request_id") or identifier)
            raise response.not_understood()
        if not code:
            raise self.refusal(response)
        retry_after = response.retry_after("x-ratelimit-reset")  # not documented; its SDK reads it
        raise response.error(_kind(response, code), _words(response), code=code, retry_after=retry_after)


def _failure(answer: ApiResponse) -> str:
    """Return the first of `failures`: a text, or an object with the error in it."""
    place = ("data", "failures", 0)
    return answer.text(*place) or answer.text(*place, "error") or answer.text(*place, "message")


def _words(answer: ApiResponse) -> str:
    """Return what is wrong with a field, else the error in general."""
    for place in (("data", "field_validation_errors", "message"), ("field_validation_errors", "message")):
        if found := answer.text(*place):
            return found
    return answer.text("data", "error") or answer.text("error")


def _kind(answer: ApiResponse, code: str) -> type[SendingError]:
    kind = by_status(answer.status) if not answer.is_success else Declined
    field = answer.text("data", "field_validation_errors", "fieldname") or answer.text(
        "field_validation_errors", "fieldname"
    )
    if kind is not Declined:
        return kind
    return Rejected if field.startswith("to") else KINDS.get(code, Misconfigured)


connect = Smtp2go
