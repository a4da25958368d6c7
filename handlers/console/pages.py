"""The console's pages: a list of the mails that the provider `capture` has stored, and each of them."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any, Final, TypeAlias

import structlog
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response

from handlers.console.console_session import Sessions, Throttled
from mailroom.clock import Clock, Instant
from mailroom.config.model import Settings
from mailroom.errors import CannotKeep, OutboxError
from mailroom.outbox import Outbox

_TEMPLATES: Final = Path(__file__).parents[2] / "templates" / "console"
_SHOWN: Final = 100
"""Mails on the page; the store of `capture` is bounded, too."""
_HOME: Final = "/console/captured"
_HEADERS: Final = {
    "content-security-policy": (
        "default-src 'none'; img-src https: data:; style-src 'unsafe-inline'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    ),
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
}
"""The frame with a mail's own HTML inherits the policy, and its sandbox allows neither scripts nor forms."""
_SIGNED_OUT: Final = "signed-out"
_THROTTLED: Final = (
    "There were too many wrong passwords, so this one was not checked. "
    "Try again in a moment, or in a browser that has signed in before."
)

log = structlog.get_logger()

Page: TypeAlias = Callable[["Console", Request], Awaitable[Response]]


def _behind_login(page: Page) -> Page:
    """Show a page in a session only; respond 503 while the outbox cannot be read."""

    async def guarded(console: "Console", request: Request) -> Response:
        try:
            if not await console.is_signed_in(request):
                return _see("/console/login")
            return await page(console, request)
        except OutboxError as error:
            log.warning("console.outbox_unreadable", reason=str(error))
            return PlainTextResponse("The outbox cannot be read at the moment. Please try again.", status_code=503)

    return guarded


class Console:
    """The operator's pages; in development without a login."""

    def __init__(self, *, settings: Settings, outbox: Outbox, clock: Clock, entropy: Callable[[int], bytes]) -> None:
        self._captured = outbox.captured
        self._sandboxed = [name for name, provider in settings.providers.items() if getattr(provider, "sandbox", False)]
        self._sessions = None if settings.dev else Sessions(settings, outbox=outbox, clock=clock, entropy=entropy)
        self._environment = Environment(
            loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
        )
        self._environment.filters |= {
            "iso": partial(_time, "%Y-%m-%dT%H:%M:%SZ"),
            "clock": partial(_time, "%b %d, %H:%M:%S"),
        }

    async def is_signed_in(self, request: Request) -> bool:
        """Return whether the request may see mails. Raises OutboxError."""
        return self._sessions is None or await self._sessions.holds(request)

    async def welcome(self, _request: Request) -> Response:
        """Show where the mails are."""
        return self._page("welcome.html")

    async def home(self, _request: Request) -> Response:
        """Redirect to the list."""
        return _see(_HOME)

    async def login(self, request: Request) -> Response:
        """Show the form, or begin a session."""
        if self._sessions is None:
            return _see(_HOME)
        if request.method != "POST":
            return self._page("login.html", problem="", signed_out=_SIGNED_OUT in request.query_params)
        if not self._sessions.is_same_origin(request):
            return PlainTextResponse("This form was sent from another site.", status_code=403)
        try:
            if not await self._sessions.accepts(request):
                return self._page("login.html", status=401, problem="That is not the password.", signed_out=False)
        except Throttled as throttled:
            response = self._page("login.html", status=429, problem=_THROTTLED, signed_out=False)
            response.headers["retry-after"] = str(ceil(throttled.seconds))
            return response
        log.info("console.signed_in", caller=self._sessions.name_caller(request))
        response = _see(_HOME)
        self._sessions.begin(request, response)
        return response

    async def logout(self, request: Request) -> Response:
        """End the session."""
        response = _see(f"/console/login?{_SIGNED_OUT}")
        if self._sessions and self._sessions.is_same_origin(request):
            try:
                await self._sessions.end(request, response)
            except CannotKeep as error:
                log.error("console.sign_out_failed", reason=str(error))  # noqa: TRY400 - the text says it all
                return PlainTextResponse("The session could not be ended. Please try again.", status_code=503)
        return response

    @_behind_login
    async def list(self, request: Request) -> Response:
        """List the newest mails."""
        mails = await self._captured.newest(_SHOWN)
        return self._page(
            "list.html",
            mails=mails,
            sandboxed=self._sandboxed,
            base=str(request.base_url).rstrip("/"),
            session=self._sessions is not None,
        )

    @_behind_login
    async def show(self, request: Request) -> Response:
        """Show one mail: rendered, its text, its source."""
        id_ = request.path_params["id"]
        raw = await self._captured.raw(id_)
        if raw is None:
            return self._not_found()
        mail = message_from_bytes(raw, policy=policy.default)
        return self._page(
            "mail.html",
            id=id_,
            headers=[(name, str(mail[name] or "")) for name in ("From", "To", "Reply-To", "Date") if mail[name]],
            subject=str(mail["Subject"] or ""),
            html=_part(mail, "html"),
            text=_part(mail, "plain"),
            source=raw.decode("utf-8", "replace"),
            session=self._sessions is not None,
        )

    @_behind_login
    async def download(self, request: Request) -> Response:
        """Return one mail as a file for mail programs."""
        raw = await self._captured.raw(request.path_params["id"])
        if raw is None:
            return self._not_found()
        headers = {**_HEADERS, "content-disposition": 'attachment; filename="mail.eml"'}
        return Response(raw, media_type="message/rfc822", headers=headers)

    def _not_found(self) -> Response:
        return self._page("gone.html", status=404, session=self._sessions is not None)

    def _page(self, template: str, *, status: int = 200, **values: Any) -> Response:
        page = self._environment.get_template(template).render(values)
        return HTMLResponse(page, status_code=status, headers=_HEADERS)


def _part(mail: EmailMessage, kind: str) -> str:
    part = mail.get_body((kind,))
    return str(part.get_content()) if part else ""


def _time(form: str, moment: Instant) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime(form)


def _see(path: str) -> RedirectResponse:
    return RedirectResponse(path, status_code=303, headers=_HEADERS)
