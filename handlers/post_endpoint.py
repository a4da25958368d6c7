"""What `POST /email` and `POST /webhook` share: errors become responses, log lines and counts."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Final

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from handlers.auth import AllowedNetworks
from handlers.responses import ErrorResponse, RequestError, send_error, send_json
from mailroom.clock import Clock
from mailroom.config.model import Settings
from mailroom.courier import Acceptor
from mailroom.errors import CannotKeep
from mailroom.metrics import EndpointMetrics
from mailroom.outbox import Outbox

_OUTBOX_UNAVAILABLE: Final = ErrorResponse(
    503, "The mail server cannot take messages at the moment. Please try again.", ((b"retry-after", b"5"),)
)

_LOOKUP_SECONDS: Final = 2.0
"""A look-up must not use up the 10 s that Logto waits for the response to an event, nor an end user's patience."""

log = structlog.get_logger()


class PostEndpoint(ABC):
    """An ASGI app: plain, because Starlette's request and response objects cost more than the rest of a request."""

    refused_event: str
    not_stored_event: str
    """Names of its log events."""

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
        self._acceptor = acceptor
        self._outbox = outbox
        self._clock = clock
        self._entropy = entropy
        self._metrics = metrics
        self._networks = AllowedNetworks(settings.connector)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        try:
            content = await self.accept(scope, receive)
        except RequestError as error:
            caller, response = self._networks.name_caller(scope), error.response
            log.warning(self.refused_event, status=response.status, reason=response.sentence, caller=caller)
            self._metrics.refused(response.status)
            await send_error(send, response)
        except CannotKeep as error:
            log.error(self.not_stored_event, reason=str(error))  # noqa: TRY400 - the text says it all
            self._metrics.refused(_OUTBOX_UNAVAILABLE.status)
            await send_error(send, _OUTBOX_UNAVAILABLE)
        except ClientDisconnect:
            return
        else:
            await send_json(send, content)

    async def last_languages(self, recipient: str) -> tuple[str, ...]:
        """Return the languages of the last mail to an address, () if there is none or the look-up fails."""
        try:
            async with asyncio.timeout(_LOOKUP_SECONDS):
                return await self._outbox.languages(recipient)
        except Exception as error:  # noqa: BLE001 - the mail is sent without them
            log.warning("languages.unknown", problem=str(error) or type(error).__name__)
            return ()

    @abstractmethod
    async def accept(self, scope: Scope, receive: Receive) -> bytes:
        """Authenticate, parse, and enqueue a request; return the JSON of its response.

        Raises RequestError, CannotKeep or ClientDisconnect.
        """
