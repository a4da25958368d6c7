"""The console's preview: the page of `mailroom preview --open`, in the session of the console."""

import asyncio
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Final

from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from handlers.console.pages import Console
from mailroom.clock import Clock
from mailroom.config import template_sources
from mailroom.config.model import Settings
from mailroom.errors import OutboxError
from mailroom.outbox import Outbox
from mailroom.rendering.renderer import TemplateRenderer

if TYPE_CHECKING:
    from handlers.console.preview import Preview

_BASE: Final = "/console/preview"
_REQUESTS: Final = {"": ("page", "GET"), "/state": ("state", "GET"), "/mail": ("mail", "GET"),
                    "/view": ("view", "POST"), "/send": ("send", "POST")}  # fmt: skip
"""Path below the page -> method of `Preview`, HTTP method."""


def preview_routes(
    console: Console,
    settings: Settings,
    renderer: TemplateRenderer,
    *,
    clock: Clock,
    entropy: Callable[[int], bytes],
    outbox: Outbox,
) -> list[Route]:
    """Return the routes of the preview; what it needs is loaded at the first request."""

    @cache
    def preview() -> "Preview":
        from handlers.console.preview import Preview  # noqa: PLC0415 - loads parsers that a server does not need
        from mailroom.lint.rules.rendered import LintContext  # noqa: PLC0415 - likewise
        from mailroom.preview.preview_send import PreviewSender  # noqa: PLC0415 - likewise

        domains = template_sources.sender_domains(settings)
        context = LintContext(renderer, settings.sender, settings.reply_to, domains)
        sender = PreviewSender(
            settings.providers,
            clock=clock,
            entropy=entropy,
            secrets=outbox.secrets,
            catcher=outbox.captured,
            overrides=settings.overrides,
            limit=settings.limits.recipient,
        )
        return Preview(context, sender, base=_BASE, chosen={"language": settings.default_locale})

    def route(path: str, name: str, method: str) -> Route:
        async def respond(request: Request) -> Response:
            try:
                if not await console.is_signed_in(request):
                    return RedirectResponse("/console/login", status_code=303)
            except OutboxError:
                return PlainTextResponse("The outbox cannot be read at the moment. Please try again.", status_code=503)
            response: Response = await getattr(await asyncio.to_thread(preview), name)(request)
            return response

        return Route(_BASE + path, respond, methods=[method])

    return [route(path, name, method) for path, (name, method) in _REQUESTS.items()]
