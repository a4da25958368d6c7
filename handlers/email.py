"""`POST /email`: what Logto's HTTP email connector calls. The hot path: plain ASGI, one decode, one wait."""

from collections.abc import Callable
from typing import Any, Final

import msgspec
import structlog
from starlette.types import Receive, Scope, Send

from handlers import request_body
from handlers.auth import AUTHORIZED, AllowedNetworks, Authorization
from handlers.responses import OUTBOX_UNAVAILABLE, ErrorResponse, RequestError, send_error, send_json
from mailroom.address import usable
from mailroom.clock import Clock
from mailroom.config.model import Settings
from mailroom.courier import Acceptor
from mailroom.errors import CannotKeep
from mailroom.logto import CODE_TYPES, CONSOLE_TEST_CODE, GENERIC, INVITATION
from mailroom.message import Message, Priority, languages_of, new_id
from mailroom.metrics import EndpointMetrics
from mailroom.rendering.sanitize import code

READING_SECONDS: Final = 30.0
"""A code that is worth less than this is not sent: nobody could type it in time."""
_LONGEST_TYPE: Final = 64
_LONGEST_IP: Final = 45

_NO_CODE: Final = ErrorResponse(400, "The email was not sent because its verification code is missing.")
_NO_ADDRESS: Final = ErrorResponse(400, "The recipient is not an email address that mail can be sent to.")

log = structlog.get_logger()


class Envelope(msgspec.Struct):
    """The fixed outer fields of a request; the payload stays what it is, any JSON."""

    to: str
    type: str | None = None
    payload: dict[str, Any] | None = None
    ip: Any = None


class EmailEndpoint:
    """Authenticate, parse, enqueue, respond."""

    def __init__(
        self,
        *,
        settings: Settings,
        acceptor: Acceptor,
        clock: Clock,
        entropy: Callable[[int], bytes],
        metrics: EndpointMetrics,
    ) -> None:
        self._acceptor = acceptor
        self._clock = clock
        self._entropy = entropy
        self._metrics = metrics
        self._authorization = None if settings.dev else Authorization(settings.connector.authorization)
        self._networks = AllowedNetworks(settings.connector)
        self._is_restricted = bool(settings.connector.allowed_ips)
        self._code_seconds = settings.lifetimes.code.total_seconds() - READING_SECONDS
        self._invitation_seconds = settings.lifetimes.invitation.total_seconds()
        self._decoder = msgspec.json.Decoder(Envelope)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        try:
            await self._authorize(scope, receive)
            content = await request_body.body(scope["headers"], receive)
            began = self._clock.monotonic()
            message = self._understood(content)
            kept = await self._acceptor.accept(message, repeat_of=content if _has_code(message) else None)
        except RequestError as error:
            caller = self._networks.name_caller(scope)
            log.warning("email.refused", status=error.refusal.status, reason=error.refusal.sentence, caller=caller)
            self._metrics.refused(error.refusal.status)
            await send_error(send, error.refusal)
        except CannotKeep as error:
            log.error("email.unkept", reason=str(error))  # noqa: TRY400 - the text says it all
            self._metrics.refused(OUTBOX_UNAVAILABLE.status)
            await send_error(send, OUTBOX_UNAVAILABLE)
        except request_body.Disconnected:
            return
        else:
            await send_json(send, b'{"id":"%b"}' % kept.id.encode())
            self._metrics.answered(message.template, self._clock.monotonic() - began, fresh=kept.fresh)

    async def _authorize(self, scope: Scope, receive: Receive) -> None:
        try:
            if self._is_restricted:
                self._networks.check(scope)
            if self._authorization:
                self._authorization.check(scope)
        except RequestError:
            await request_body.discard(receive)
            raise
        scope[AUTHORIZED] = True

    def _understood(self, content: bytes) -> Message:
        envelope = request_body.decoded(content, self._decoder)
        payload = envelope.payload or {}
        request_body.check_depth(content, payload)
        if not usable(envelope.to):
            raise RequestError(_NO_ADDRESS)
        if envelope.type in CODE_TYPES and not code(payload.get("code")):
            raise RequestError(_NO_CODE)
        now = self._clock.now()
        template = _template(envelope.type)
        invitation = template == INVITATION
        return Message(
            id=new_id(now, self._entropy(10)),
            template=template,
            priority=Priority.INVITATION if invitation else Priority.CODE,
            recipient=envelope.to,
            payload=payload,
            created_at=now,
            expires_at=now + (self._invitation_seconds if invitation else self._code_seconds),
            ip=envelope.ip if isinstance(envelope.ip, str) and len(envelope.ip) <= _LONGEST_IP else None,
            languages=languages_of(payload),
        )


def _template(name: str | None) -> str:
    """Return the message's type where it can be one; it will name a folder of templates."""
    if name and len(name) <= _LONGEST_TYPE and name.isascii() and name.isalnum():
        return name
    return GENERIC


def _has_code(message: Message) -> bool:
    """Tell whether the same body within a minute is the same request: each real resend has a new code."""
    code = message.payload.get("code")
    return isinstance(code, str) and code not in ("", CONSOLE_TEST_CODE)
