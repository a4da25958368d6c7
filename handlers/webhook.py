"""`POST /webhook`: Logto's signed events. Most send nothing and are answered 200 all the same."""

import hmac
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, Final

import msgspec
import structlog
from starlette.types import Receive, Scope, Send

from handlers import request_body
from handlers.auth import AllowedNetworks
from handlers.responses import OUTBOX_UNAVAILABLE, ErrorResponse, RequestError, send_error, send_json
from mailroom import events
from mailroom.clock import Clock, Instant
from mailroom.config.model import Settings
from mailroom.courier import Acceptor
from mailroom.errors import CannotKeep
from mailroom.metrics import EndpointMetrics
from mailroom.outbox import Outbox, PutResult

SIGNATURE: Final = b"logto-signature-sha-256"
_REMEMBERED: Final = timedelta(days=7)
"""How long an event is known again at least, also where any age is accepted."""
_SKEW_SECONDS: Final = 60.0
"""An event from further ahead tells that a clock is wrong, here or at Logto's."""

_CLOSED: Final = ErrorResponse(404, "Webhooks are not set up on this mail server.")
_FORGED: Final = ErrorResponse(401, "The signature does not match.")
_NO_EVENT: Final = ErrorResponse(400, "The request is not an event of Logto.")
_UNDATED: Final = ErrorResponse(400, "The event does not tell when it happened.")
_STALE: Final = ErrorResponse(400, "The event is too old.")
_AHEAD: Final = ErrorResponse(400, "The event has a timestamp in the future.")

log = structlog.get_logger()


class WebhookEndpoint:
    """Verify, parse, enqueue, respond."""

    def __init__(
        self,
        *,
        settings: Settings,
        acceptor: Acceptor,
        outbox: Outbox,
        clock: Clock,
        entropy: Callable[[int], bytes],
        metrics: EndpointMetrics,
    ) -> None:
        self._keys = [key.get_secret_value().strip().encode() for key in settings.webhook.signing_keys]
        self._networks = AllowedNetworks(settings.connector)
        self._max_age = settings.webhook.max_age
        self._rules = settings.webhook.events
        self._lifetime = settings.lifetimes.event
        self._acceptor = acceptor
        self._outbox = outbox
        self._clock = clock
        self._entropy = entropy
        self._metrics = metrics
        self._decoder = msgspec.json.Decoder(dict[str, Any])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        began = self._clock.monotonic()
        try:
            event = await self._verified(scope, receive)
            answer = await self._answer(event, began)
        except RequestError as error:
            caller = self._networks.name_caller(scope)
            log.warning("webhook.refused", status=error.refusal.status, reason=error.refusal.sentence, caller=caller)
            self._metrics.refused(error.refusal.status)
            await send_error(send, error.refusal)
        except CannotKeep as error:
            log.error("webhook.unkept", reason=str(error))  # noqa: TRY400 - the text says it all
            self._metrics.refused(OUTBOX_UNAVAILABLE.status)
            await send_error(send, OUTBOX_UNAVAILABLE)
        except request_body.Disconnected:
            return
        else:
            await send_json(send, msgspec.json.encode(answer))

    async def _verified(self, scope: Scope, receive: Receive) -> dict[str, Any]:
        """Return the event if it is authentic, understood and fresh. Raises Refused or Disconnected."""
        if not self._keys:
            await request_body.discard(receive)
            raise RequestError(_CLOSED)
        content = await request_body.body(scope["headers"], receive)
        if not _is_signed(content, request_body.header(scope["headers"], SIGNATURE) or b"", self._keys):
            raise RequestError(_FORGED)
        event = request_body.decoded(content, self._decoder)
        request_body.check_depth(content, event)
        if not isinstance(event.get("event"), str):
            raise RequestError(_NO_EVENT)
        self._check_age(event)
        return event

    def _check_age(self, event: Mapping[str, Any]) -> None:
        if not self._max_age:
            return
        happened = _happened(event)
        if happened is None:
            raise RequestError(_UNDATED)
        age_seconds = self._clock.wall() - happened
        if age_seconds > self._max_age.total_seconds():
            raise RequestError(_STALE)
        if -age_seconds > self._max_age.total_seconds():
            raise RequestError(_AHEAD)
        if -age_seconds > _SKEW_SECONDS:
            log.warning("webhook.clock_skew", seconds_ahead=round(-age_seconds))

    async def _answer(self, event: Mapping[str, Any], began: float) -> dict[str, str]:
        now = self._clock.now()
        decision = await events.answer(
            event,
            rules=self._rules,
            lifetime=self._lifetime,
            # An event from the future stays fresh for longer.
            remembered_until=max(now, _happened(event) or now) + max(self._max_age, _REMEMBERED).total_seconds(),
            now=now,
            entropy=self._entropy,
            last_languages=self._outbox.languages,
        )
        if isinstance(decision, events.Ignored):
            return {"ignored": decision.reason}
        kept: PutResult = await self._acceptor.accept(decision.message, once=decision.once)
        self._metrics.answered(decision.message.template, self._clock.monotonic() - began, fresh=kept.fresh)
        return {"id": kept.id} if kept.fresh else {"ignored": "this was handled before"}


def _is_signed(content: bytes, signature: bytes, keys: list[bytes]) -> bool:
    """Tell whether the signature is that of one of the keys: hexadecimal HMAC-SHA256 of the very bytes."""
    matches = False
    for key in keys:
        matches |= hmac.compare_digest(hmac.new(key, content, sha256).hexdigest().encode(), signature.lower())
    return matches


def _happened(event: Mapping[str, Any]) -> Instant | None:
    """Return when the event was created: ISO 8601 text on the top level."""
    text = event.get("createdAt")
    try:
        moment = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    if moment is None:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
