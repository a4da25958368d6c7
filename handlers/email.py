"""`POST /email`: what Logto's HTTP email connector calls, one request a mail."""

from typing import Any, Final

import msgspec
from msgspec.structs import replace
from starlette.types import Receive, Scope

from handlers import request_body
from handlers.auth import AUTHORIZED, Authorization
from handlers.code_limits import CodeLimits
from handlers.post_endpoint import PostEndpoint
from handlers.responses import ErrorResponse, RequestError
from mailroom.address import usable
from mailroom.config.model import Settings
from mailroom.errors import LimitExceeded
from mailroom.logto import CODE_TYPES, CONSOLE_TEST_CODE, GENERIC, INVITATION
from mailroom.message import Message, Priority, languages_of, new_id
from mailroom.rendering.sanitize import code

READING_SECONDS: Final = 30.0
"""A code is not sent in the last seconds of its lifetime: nobody could type it in time."""
_FEW_MINUTES: Final = 600
"""Seconds."""
_LONGEST_TYPE: Final = 64
_LONGEST_IP: Final = 45

_NO_CODE: Final = ErrorResponse(400, "The email was not sent because its verification code is missing.")
_NO_ADDRESS: Final = ErrorResponse(400, "The recipient is not an email address that mail can be sent to.")


class Envelope(msgspec.Struct):
    """The fixed outer fields of a request; the payload is any JSON object."""

    to: str
    type: str | None = None
    payload: dict[str, Any] | None = None
    ip: Any = None


class EmailEndpoint(PostEndpoint):
    """Authenticate, parse, enqueue, respond."""

    refused_event = "email.refused"
    not_stored_event = "email.not_stored"

    def __init__(self, *, settings: Settings, limits: CodeLimits, **shared: Any) -> None:
        super().__init__(settings=settings, **shared)
        self._limits = limits
        self._authorization = None if settings.dev else Authorization(settings.connector.authorization)
        self._code_seconds = settings.lifetimes.code.total_seconds() - READING_SECONDS
        self._invitation_seconds = settings.lifetimes.invitation.total_seconds()
        self._decoder = msgspec.json.Decoder(Envelope)

    async def accept(self, scope: Scope, receive: Receive) -> bytes:
        """Store the mail; return its id as JSON."""
        self._networks.check(scope)
        if self._authorization:
            self._authorization.check(scope)
        scope[AUTHORIZED] = True
        content = await request_body.body(scope, receive)
        began = self._clock.monotonic()
        message = self._parse(content)
        try:
            self._limits.check(message)
            if not message.languages:  # as in invitations, and codes of the Management API
                message = replace(message, languages=await self.last_languages(message.recipient))
            stored = await self._acceptor.accept(message, repeat_of=content if _has_code(message) else None)
        except LimitExceeded as error:
            raise RequestError(_too_many(error)) from None
        self._metrics.answered(message.template, self._clock.monotonic() - began, fresh=stored.fresh)
        return b'{"id":"%b"}' % stored.id.encode()

    def _parse(self, content: bytes) -> Message:
        envelope = request_body.decode(content, self._decoder)
        payload = envelope.payload or {}
        request_body.check_depth(content, payload)
        if not usable(envelope.to):
            raise RequestError(_NO_ADDRESS)
        if envelope.type in CODE_TYPES and not code(payload.get("code")):
            raise RequestError(_NO_CODE)
        now = self._clock.now()
        template = _template(envelope.type)
        is_invitation = template == INVITATION
        return Message(
            id=new_id(now, self._entropy(10)),
            template=template,
            priority=Priority.INVITATION if is_invitation else Priority.CODE,
            recipient=envelope.to,
            payload=payload,
            created_at=now,
            expires_at=now + (self._invitation_seconds if is_invitation else self._code_seconds),
            ip=envelope.ip if isinstance(envelope.ip, str) and len(envelope.ip) <= _LONGEST_IP else None,
            languages=languages_of(payload),
        )


def _template(name: str | None) -> str:
    """Return the message's type if it can be the name of a folder of templates, else Generic."""
    if name and len(name) <= _LONGEST_TYPE and name.isascii() and name.isalnum():
        return name
    return GENERIC


def _too_many(error: LimitExceeded) -> ErrorResponse:
    what = " for this address" if error.limit == "recipient" else ""
    when = "in a few minutes" if error.retry_after <= _FEW_MINUTES else "later"
    header = (b"retry-after", b"%d" % error.retry_after)
    return ErrorResponse(429, f"Too many codes were requested{what}. Please try again {when}.", (header,))


def _has_code(message: Message) -> bool:
    """Return whether the same body within a minute is the same request: each real resend has a new code."""
    code = message.payload.get("code")
    return isinstance(code, str) and code not in ("", CONSOLE_TEST_CODE)
