"""`POST /webhook`: Logto's signed events. Most send no mail; the response is 200 all the same."""

import asyncio
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, Final

import msgspec
import structlog
from starlette.types import Receive, Scope

from handlers import request_body
from handlers.post_endpoint import PostEndpoint
from handlers.responses import ErrorResponse, RequestError
from mailroom import events
from mailroom.clock import Instant
from mailroom.config.model import Settings
from mailroom.notices import NEED_DIRECTORY
from mailroom.outbox import PutResult
from mailroom.outbox.directory import Directory

SIGNATURE: Final = b"logto-signature-sha-256"
_REMEMBERED: Final = timedelta(days=7)
"""Repeats of an event are recognized for at least so long, also where any age is accepted."""
_SKEW_SECONDS: Final = 60.0
"""An event further in the future means that a clock is wrong, ours or Logto's."""
_MOST_AT_ONCE: Final = 16
"""Events that are handled at the same time; the others wait. While 30,000 came over 500 connections the slowest code
took 0.1 s; without this bound 1.5 s, and the events were no faster."""
_WARNING_SECONDS: Final = 3600.0
"""How often to report that mails of events are held."""
_REMEDY: Final = "`mailroom status` counts the mails of events that are held; `mailroom outbox retry` releases them"

_NOT_SET_UP: Final = ErrorResponse(404, "Webhooks are not set up on this mail server.")
_WRONG_SIGNATURE: Final = ErrorResponse(401, "The signature does not match.")
_NO_EVENT: Final = ErrorResponse(400, "The request is not an event of Logto.")
_NO_DATE: Final = ErrorResponse(400, "The event has no valid date.")
_TOO_OLD: Final = ErrorResponse(400, "The event is too old.")
_IN_FUTURE: Final = ErrorResponse(400, "The event has a timestamp in the future.")

log = structlog.get_logger()


class WebhookEndpoint(PostEndpoint):
    """Verify, parse, enqueue, respond."""

    refused_event = "webhook.refused"
    not_stored_event = "webhook.not_stored"

    def __init__(self, *, settings: Settings, **shared: Any) -> None:
        super().__init__(settings=settings, **shared)
        self._keys = [key.get_secret_value().strip().encode() for key in settings.webhook.signing_keys]
        self._max_age = settings.webhook.max_age
        self._rules = settings.webhook.events
        self._lifetime = settings.lifetimes.event
        self._decoder = msgspec.json.Decoder(dict[str, Any])
        self._slots = asyncio.Semaphore(_MOST_AT_ONCE)
        self._warn_at: Instant = 0.0
        self._directory = Directory(self._outbox) if NEED_DIRECTORY & self._rules.keys() else None

    async def accept(self, scope: Scope, receive: Receive) -> bytes:
        """Store the mail that an event sends; return its id, or why there is none, as JSON."""
        began = self._clock.monotonic()
        if not self._keys:
            raise RequestError(_NOT_SET_UP)
        content = await request_body.body(scope, receive)
        async with self._slots:
            event = self._verified(scope, content)
            if self._directory is None:
                return await self._handle(event, began)
            for complete in await self._directory.complete(event):
                response = await self._handle(complete, began)
            await self._directory.learn(event)
            return response

    async def _handle(self, event: Mapping[str, Any], began: float) -> bytes:
        now = self._clock.now()
        decision = await events.decide(
            event,
            rules=self._rules,
            lifetime=self._lifetime,
            # An event from the future stays fresh for longer.
            remembered_until=max(now, _created_at(event) or now) + max(self._max_age, _REMEMBERED).total_seconds(),
            now=now,
            entropy=self._entropy,
            last_languages=self.last_languages,
        )
        if isinstance(decision, events.Ignored):
            return msgspec.json.encode({"ignored": decision.reason})
        stored: PutResult = await self._acceptor.accept(decision.message, once=decision.once, due_at=decision.due_at)
        if stored.is_held and now >= self._warn_at:
            self._warn_at = now + _WARNING_SECONDS
            log.warning("webhook.held", limit="webhook.max_per_hour", remedy=_REMEDY)
        self._metrics.answered(decision.message.template, self._clock.monotonic() - began, fresh=stored.fresh)
        return msgspec.json.encode({"id": stored.id} if stored.fresh else {"ignored": "this was handled before"})

    def _verified(self, scope: Scope, content: bytes) -> dict[str, Any]:
        """Return the event if its signature, form and age are right. Raises RequestError."""
        if not _is_signed(content, request_body.header(scope, SIGNATURE) or b"", self._keys):
            raise RequestError(_WRONG_SIGNATURE)
        event = request_body.decode(content, self._decoder)
        request_body.check_depth(content, event)
        if not isinstance(event.get("event"), str):
            raise RequestError(_NO_EVENT)
        self._check_age(event)
        return event

    def _check_age(self, event: Mapping[str, Any]) -> None:
        if not self._max_age:
            return
        created_at = _created_at(event)
        if created_at is None:
            raise RequestError(_NO_DATE)
        age_seconds = self._clock.wall() - created_at
        if age_seconds > self._max_age.total_seconds():
            raise RequestError(_TOO_OLD)
        if -age_seconds > self._max_age.total_seconds():
            raise RequestError(_IN_FUTURE)
        if -age_seconds > _SKEW_SECONDS:
            log.warning("webhook.clock_skew", seconds_ahead=round(-age_seconds))


def _is_signed(content: bytes, signature: bytes, keys: list[bytes]) -> bool:
    """Return whether the signature is the hexadecimal HMAC-SHA-256 of the body by one of the keys."""
    matches = False
    for key in keys:
        matches |= hmac.compare_digest(hmac.new(key, content, sha256).hexdigest().encode(), signature.lower())
    return matches


def _created_at(event: Mapping[str, Any]) -> Instant | None:
    """Parse `createdAt`: ISO 8601, UTC where it names no zone; None if there is no such time."""
    try:
        moment = datetime.fromisoformat(event["createdAt"])
    except (KeyError, TypeError, ValueError):
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
