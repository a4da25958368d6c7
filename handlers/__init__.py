"""What comes in over HTTP: one file a door. This page is the route table."""

from collections.abc import Callable
from typing import Any

from starlette.routing import Route, Router
from starlette.types import Receive, Scope, Send

from handlers.auth import AllowedNetworks
from handlers.email import EmailEndpoint
from handlers.health import HealthEndpoints, Readiness
from handlers.webhook import WebhookEndpoint
from mailroom.clock import Clock
from mailroom.config.model import Settings
from mailroom.courier import Acceptor
from mailroom.metrics import Metrics
from mailroom.outbox import Outbox


class Endpoints(Router):
    """The routes as one app; what is posted goes straight to its door, without a tenth of its work."""

    def __init__(self, routes: list[Route]) -> None:
        super().__init__(routes, redirect_slashes=False)  # Logto would lose its events to a redirect
        self._straight = {
            route.path: route.app for route in routes if route.methods == {"POST"} and not route.param_convertors
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        door = self._straight.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        await (door or super().__call__)(scope, receive, send)


def routes(
    *,
    settings: Settings,
    acceptor: Acceptor,
    outbox: Outbox,
    clock: Clock,
    entropy: Callable[[int], bytes],
    metrics: Metrics,
    standing: Readiness,
) -> list[Route]:
    """Return every path that is served."""
    health = HealthEndpoints(
        outbox=outbox,
        clock=clock,
        metrics=metrics,
        standing=standing,
        token=settings.metrics_token,
        networks=AllowedNetworks(settings.connector),
    )
    table = [
        Route("/livez", health.livez, methods=["GET"]),
        Route("/readyz", health.readyz, methods=["GET"]),
        Route("/metrics", health.metrics, methods=["GET"]),
    ]
    if settings.role == "worker":
        return table
    email = EmailEndpoint(
        settings=settings, acceptor=acceptor, clock=clock, entropy=entropy, metrics=metrics.door("email")
    )
    webhook = WebhookEndpoint(
        settings=settings,
        acceptor=acceptor,
        outbox=outbox,
        clock=clock,
        entropy=entropy,
        metrics=metrics.door("webhook"),
    )
    return [
        *_posted("/email", email),
        *_posted("/webhook", webhook),
        *table,
        *_console(settings, outbox, clock, entropy),
    ]


def _posted(path: str, door: Callable[..., Any]) -> list[Route]:
    """Serve the path with and without a trailing slash: Logto follows a redirect with GET, and the event is lost."""
    return [Route(path, door, methods=["POST"]), Route(f"{path}/", door, methods=["POST"])]


def _console(settings: Settings, outbox: Outbox, clock: Clock, entropy: Callable[[int], bytes]) -> list[Route]:
    """Open the operator's pages where they are asked for: with a password, or in development."""
    if not (settings.dev or settings.console.password):
        return []
    from handlers.console import Console  # noqa: PLC0415 - most servers have none

    console = Console(settings=settings, outbox=outbox, clock=clock, entropy=entropy)
    return [
        *([Route("/", console.welcome, methods=["GET"])] if settings.dev else []),
        Route("/console", console.home, methods=["GET"]),
        Route("/console/login", console.login, methods=["GET", "POST"]),
        Route("/console/logout", console.logout, methods=["POST"]),
        Route("/console/captured", console.list, methods=["GET"]),
        Route("/console/captured/{id}.eml", console.download, methods=["GET"]),
        Route("/console/captured/{id}", console.show, methods=["GET"]),
    ]
