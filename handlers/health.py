"""`/livez`, `/readyz`, `/metrics`: for the platform and for Prometheus."""

import asyncio
import hmac
from dataclasses import dataclass
from typing import Final

import structlog
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from handlers.auth import AllowedNetworks
from mailroom.clock import Clock
from mailroom.config.model import Settings
from mailroom.errors import OutboxError
from mailroom.metrics import Metrics
from mailroom.outbox import Outbox

_LOOKUP_SECONDS: Final = 2.0
"""A scrape does not wait longer for a busy outbox; it then returns the counters without the outbox's depths."""

log = structlog.get_logger()


@dataclass(slots=True)
class Readiness:
    """Whether new requests should be sent here."""

    started: bool = False
    draining: bool = False


class HealthEndpoints:
    """The endpoints about the server itself."""

    def __init__(
        self, *, settings: Settings, outbox: Outbox, clock: Clock, metrics: Metrics, readiness: Readiness
    ) -> None:
        self._outbox = outbox
        self._clock = clock
        self._metrics = metrics
        self._readiness = readiness
        token = settings.metrics_token
        self._expected = f"Bearer {token.get_secret_value()}".encode() if token else None
        self._networks = AllowedNetworks(settings.connector)

    async def livez(self, _request: Request) -> Response:
        """Respond 200 while the process runs."""
        return PlainTextResponse("alive\n")

    async def readyz(self, _request: Request) -> Response:
        """Respond 503 while starting or draining; not while the outbox fails.

        A server that gets no requests means refused connections, and those leak; a 503 on `/email` does not.
        """
        if self._readiness.started and not self._readiness.draining:
            return PlainTextResponse("ready\n")
        return PlainTextResponse("draining\n" if self._readiness.draining else "starting\n", status_code=503)

    async def metrics(self, request: Request) -> Response:
        """Return the counters, and the current depths of the outbox. Needs `metrics_token` if it is set."""
        given = request.headers.get("authorization", "").encode("latin-1")
        if self._expected and not hmac.compare_digest(given, self._expected):
            log.warning("metrics.refused", caller=self._networks.name_caller(request.scope))
            return PlainTextResponse("Metrics need a token.\n", status_code=401, headers={"www-authenticate": "Bearer"})
        try:
            async with asyncio.timeout(_LOOKUP_SECONDS):
                self._metrics.observe_outbox(
                    await self._outbox.depth(),
                    await self._outbox.held(),
                    await self._outbox.free_bytes(),
                    self._clock.now(),
                )
        except (OutboxError, TimeoutError) as error:
            log.warning("metrics.outbox_timeout", reason=str(error) or "no answer in time")
        return Response(self._metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")
