"""The HTTP endpoints, one module each. This page is the route table."""

from collections.abc import Callable

from starlette.routing import Route, Router
from starlette.types import ASGIApp

from handlers.code_limits import CodeLimits
from handlers.dev_only import LoopbackOnly
from handlers.email import EmailEndpoint
from handlers.health import HealthEndpoints, Readiness
from handlers.webhook import WebhookEndpoint
from mailroom.clock import Clock
from mailroom.config.model import Settings
from mailroom.courier import Acceptor
from mailroom.metrics import Metrics
from mailroom.outbox import Outbox
from mailroom.rendering.renderer import TemplateRenderer


def application(
    *,
    settings: Settings,
    acceptor: Acceptor,
    outbox: Outbox,
    renderer: TemplateRenderer,
    clock: Clock,
    entropy: Callable[[int], bytes],
    metrics: Metrics,
    readiness: Readiness,
    limits: CodeLimits,
) -> ASGIApp:
    """Return all endpoints as one app."""
    health = HealthEndpoints(settings=settings, outbox=outbox, clock=clock, metrics=metrics, readiness=readiness)
    routes = [
        Route("/livez", health.livez, methods=["GET"]),
        Route("/readyz", health.readyz, methods=["GET"]),
        Route("/metrics", health.metrics, methods=["GET"]),
    ]
    if settings.role != "worker":
        email = EmailEndpoint(
            settings=settings,
            acceptor=acceptor,
            outbox=outbox,
            clock=clock,
            entropy=entropy,
            metrics=metrics.endpoint("email"),
            limits=limits,
        )
        webhook = WebhookEndpoint(
            settings=settings,
            acceptor=acceptor,
            outbox=outbox,
            clock=clock,
            entropy=entropy,
            metrics=metrics.endpoint("webhook"),
        )
        routes = [
            # With and without a slash: Logto follows a redirect with GET, and the event is lost.
            Route("/email", email, methods=["POST"]),
            Route("/email/", email, methods=["POST"]),
            Route("/webhook", webhook, methods=["POST"]),
            Route("/webhook/", webhook, methods=["POST"]),
            *routes,
            *_console_routes(settings, outbox, renderer, clock, entropy),
        ]
    # Not `Starlette`, whose layers of middleware cost a tenth of a request.
    router = Router(routes, redirect_slashes=False)
    return LoopbackOnly(router) if settings.dev else router


def _console_routes(
    settings: Settings, outbox: Outbox, renderer: TemplateRenderer, clock: Clock, entropy: Callable[[int], bytes]
) -> list[Route]:
    """Return the operator's pages if there is a password, or in development."""
    if not (settings.dev or settings.console.password):
        return []
    from handlers.console.pages import Console  # noqa: PLC0415 - most servers have none
    from handlers.console.preview_routes import preview_routes  # noqa: PLC0415 - likewise

    console = Console(settings=settings, outbox=outbox, clock=clock, entropy=entropy)
    return [
        *([Route("/", console.welcome, methods=["GET"])] if settings.dev else []),
        Route("/console", console.home, methods=["GET"]),
        Route("/console/login", console.login, methods=["GET", "POST"]),
        Route("/console/logout", console.logout, methods=["POST"]),
        Route("/console/captured", console.list, methods=["GET"]),
        Route("/console/captured/{id}.eml", console.download, methods=["GET"]),
        Route("/console/captured/{id}", console.show, methods=["GET"]),
        *preview_routes(console, settings, renderer, clock=clock, entropy=entropy, outbox=outbox),
    ]
