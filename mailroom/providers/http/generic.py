"""Any service that takes mails by a POST: as JSON, as a form, or as the request that Logto would make."""

import json
import re
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import parse_qsl, urlsplit

import msgspec
from pydantic import AfterValidator, Field, SecretStr, model_validator

from mailroom.errors import Misconfigured, Unavailable
from mailroom.logto import format_number
from mailroom.message import Address, Email, Message, Receipt
from mailroom.providers.base import ProviderContext
from mailroom.providers.egress import split_url
from mailroom.providers.http.body_template import FORM, JSON, BodyTemplate
from mailroom.providers.http.http_provider import ApiRequest, HttpProvider
from mailroom.providers.http.http_settings import HttpSettings
from mailroom.providers.http.mail_fields import header_map, mailbox_object
from mailroom.providers.http.response import ApiResponse

_URL: Final = re.compile(r"[!-~]{1,2048}")
_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_HEADER_VALUE: Final = re.compile(r"[!-~](?:[ -~]{0,4094}[!-~])?")
_SET_BY_US: Final = frozenset(
    {"accept-encoding", "connection", "content-length", "host", "idempotency-key", "transfer-encoding"}
)
_SHORTEST_TOKEN: Final = 16
"""Characters of a path's segment that may be a token."""


def _check_url(url: SecretStr) -> SecretStr:
    text = url.get_secret_value()
    parts = split_url(text, ("https", "http"))
    if not _URL.fullmatch(text) or parts.fragment:
        raise ValueError("write it in printable ASCII, without a fragment")
    if "@" in parts.netloc:
        raise ValueError("no credentials go here: set them as a header")
    return url


def _check_headers(headers: dict[str, SecretStr]) -> dict[str, SecretStr]:
    if len({name.lower() for name in headers}) < len(headers):
        raise ValueError("a header stands there twice")
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value.get_secret_value()):
            raise ValueError("names are HTTP's, values are printable ASCII without blanks around")
        if name.lower() in _SET_BY_US:
            raise ValueError(f"{name} is not to be set here")
        if name.lower() == "content-type":
            raise ValueError("say content_type instead")
    return headers


class Settings(HttpSettings):
    """Any service that takes mails by a POST."""

    type: Literal["http"] = "http"
    url: Annotated[SecretStr, AfterValidator(_check_url)] = Field(
        description="URL to post to; a secret, because its path or query may hold a token"
    )
    headers: Annotated[dict[str, SecretStr], AfterValidator(_check_headers)] = Field(
        {}, description='headers to send, never shown: `{ Authorization = "Bearer …" }`'
    )
    body: str | None = Field(
        None, max_length=100_000, description="Jinja template of the body; without it the mail is sent as JSON"
    )
    content_type: Literal["application/json", "application/x-www-form-urlencoded"] = Field(
        JSON, description="the format of `body`"
    )
    forward: bool = Field(
        default=False, description="render no mail: pass on exactly what Logto's HTTP email connector would send"
    )

    @property
    def forwards(self) -> bool:
        """Whether it passes messages on unrendered, see `mailroom.message.unrendered`."""
        return self.forward

    @model_validator(mode="after")
    def _check_body(self) -> Self:
        if self.body is not None and self.forward:
            raise ValueError("body and forward exclude each other: what is forwarded is not written")
        if self.body is None and self.content_type == FORM:
            raise ValueError("content_type: a form needs a body, the template that writes it")
        try:
            self.template()
        except ValueError as error:
            raise ValueError(f"body: {error}") from None
        return self

    def template(self) -> BodyTemplate | None:
        """Return the body's template, if there is one. Raises ValueError for a faulty one."""
        return None if self.body is None else BodyTemplate(self.body, self.content_type)


class Http(HttpProvider[Settings]):
    """Sends by a service of the operator's, with our id as `Idempotency-Key`; any 2xx is a success."""

    def __init__(self, settings: Settings, context: ProviderContext) -> None:
        parts = urlsplit(settings.url.get_secret_value())
        self._path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        # In title case, so that a header of the same name replaces ours instead of being sent beside it.
        headers = {name.title(): value.get_secret_value() for name, value in settings.headers.items()}
        host = f"{parts.scheme}://{parts.netloc}"
        super().__init__(settings, context, host, headers, secrets=_possible_tokens(parts.path, parts.query))
        self._template = settings.template()

    def build_request(self, email: Email) -> ApiRequest:
        """Return the request for a mail, or for the message in it."""
        if self.settings.forward:
            if email.message is None:
                raise Misconfigured("it forwards messages of Logto's, and this mail was made from none")
            body = logto_request(email.message)
        elif self._template is None:
            body = msgspec.json.encode(fields_of(email))
        else:
            try:
                body = self._template.render(fields_of(email))
            except ValueError as error:
                raise Misconfigured(f"the template in body: {error}") from None
        return ApiRequest(self._path, body, self.settings.content_type, {"Idempotency-Key": email.id})

    def parse_response(self, response: ApiResponse) -> Receipt:
        """Return the receipt, with an id if the response has one in a usual place, or raise by the status."""
        if response.is_success:
            names = (response.text(name) for name in ("id", "message_id", "messageId", "MessageID"))
            # The message and nothing else of the body, which may repeat the mail.
            return Receipt(next(filter(None, names), ""), response.text("message") or f"HTTP {response.status}")
        # RFC 9110 §15.6.4: a 503 is sent instead of handling the request.
        raise response.error(Unavailable if response.status == 503 else None)  # noqa: PLR2004 - the status that means so


def fields_of(email: Email) -> dict[str, Any]:
    """Return what is sent as JSON without a template, and what a template can use."""
    return {
        "id": email.id,
        "message_id": email.message_id,
        "from": _mailbox(email.sender),
        "to": email.recipient,
        "reply_to": _mailbox(email.reply_to) if email.reply_to else None,
        "subject": email.subject,
        "html": email.html,
        "text": email.text,
        "headers": header_map(email),
        "language": email.language,
        "template": email.template,
    }


def logto_request(message: Message) -> bytes:
    """Return the body of Logto's HTTP email connector (npm @logto/connector-http-email 0.4), byte for byte."""
    fields = {"to": message.recipient, "type": message.template, "payload": message.payload}
    if message.ip:
        fields["ip"] = message.ip
    return _stringify(fields).encode()


def _stringify(value: Any) -> str:
    """Return a value as JSON.stringify does; Python's `json` differs in numbers only."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{_stringify(key)}:{_stringify(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(_stringify(item) for item in value) + "]"
    return format_number(value) if isinstance(value, float) else json.dumps(value, ensure_ascii=False)


def _mailbox(address: Address) -> dict[str, str]:
    return {"name": "", **mailbox_object(address)}


def _possible_tokens(path: str, query: str) -> list[str]:
    """Return what may be a token in a URL."""
    segments = [segment for segment in path.split("/") if len(segment) >= _SHORTEST_TOKEN]
    return [f"{path}?{query}", *segments, *(value for _, value in parse_qsl(query)), query]


connect = Http
