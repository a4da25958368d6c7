"""A page that previews the operator's templates: one mail in several looks, or all languages or kinds as a gallery.

    app = Preview(context, sender, refreshes=True).app()

`mailroom preview --open` serves it on loopback, and the console below `/console/preview`. Pages of other sites cannot
use it: only the host names of this machine are accepted (the console has its session), and payloads only as JSON, which
no form can post. The page polls `/state` and shows a changed template at once.
"""

import asyncio
import json
import secrets
from collections.abc import Mapping
from html import escape
from typing import Any, Final

import structlog
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from handlers import request_body
from handlers.responses import RequestError
from mailroom.address import usable
from mailroom.errors import LimitExceeded, RenderingError, SendingError
from mailroom.lint import Finding
from mailroom.lint.rules.rendered import LintContext
from mailroom.lint.samples import Sample, common_sample
from mailroom.preview import LOOKS, sample_payload, view
from mailroom.preview.preview_files import environment
from mailroom.preview.preview_send import PreviewSender
from mailroom.rendering.background import submit

_HEADERS: Final = {
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'none'",
}
_MAIL_POLICY: Final = (
    "default-src 'none'; img-src https: data:; style-src 'unsafe-inline'; frame-ancestors 'self'; sandbox"
)
_PLAIN_TEXT: Final = '<pre dir="auto" style="white-space:pre-wrap;padding:16px">{}</pre>'

log = structlog.get_logger()


class Preview:
    """The page, and the requests of its script."""

    def __init__(
        self,
        context: LintContext,
        sender: PreviewSender,
        *,
        base: str = "",
        refreshes: bool = False,
        chosen: Mapping[str, str] | None = None,
    ) -> None:
        """Preview the context's templates below the path `base`.

        `refreshes`: whether the page reads changed templates itself, which a server does anyway. `chosen` selects kind,
        language and sample at first.
        """
        self._context = context
        self._sender = sender
        self._base = base
        self._refreshes = refreshes
        self._chosen = {"kind": "SignIn", "language": "en", "sample": "", **(chosen or {})}
        self._environment = environment()

    def app(self) -> Starlette:
        """Return the page as an app for loopback."""
        return Starlette(
            routes=[
                Route("/", self.page),
                Route("/state", self.state),
                Route("/mail", self.mail),
                Route("/view", self.view, methods=["POST"]),
                Route("/send", self.send, methods=["POST"]),
            ],
            middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=["localhost", "127.0.0.1"])],
        )

    async def page(self, _request: Request) -> Response:
        """Return the page."""
        nonce = secrets.token_urlsafe(16)
        html = self._environment.get_template("page.html").render(
            nonce=nonce,
            base=self._base,
            state=self._describe_state(),
            samples=[one.value for one in Sample],
            looks=LOOKS,
            chosen=self._chosen,
            providers=self._sender.providers,
        )
        policy = (
            f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'unsafe-inline'; img-src https: data:; "
            "connect-src 'self'; frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        return HTMLResponse(html, headers={**_HEADERS, "content-security-policy": policy})

    async def state(self, _request: Request) -> Response:
        """Return the templates' version and the kinds; read changed templates first."""
        if self._refreshes:
            await asyncio.wrap_future(submit(self._context.renderer.refresh))
        return JSONResponse(self._describe_state(), headers=_HEADERS)

    def _describe_state(self) -> dict[str, Any]:
        kinds = {name: list(tags) for name, tags in self._context.inventory.kinds.items()}
        return {"version": self._context.renderer.version, "kinds": kinds}

    async def mail(self, request: Request) -> Response:
        """Return the HTML of one mail as a page of its own, for a frame: `?kind=&language=&sample=&look=`."""
        query = request.query_params
        found = await self._render(query.get("kind", ""), query.get("language", ""), query.get("sample", ""), None)
        look = query.get("look", "")
        text = found.get("text", "This mail cannot be rendered.")
        html = found["looks"][look if look in LOOKS else LOOKS[0]][0] if "looks" in found else ""
        html = html or _PLAIN_TEXT.format(escape(text))
        return HTMLResponse(html, headers={**_HEADERS, "content-security-policy": _MAIL_POLICY})

    async def view(self, request: Request) -> Response:
        """Render one mail: `{"kind", "language", "sample", "payload"}`, the payload as JSON text or null."""
        fields = await _json_fields(request)
        if isinstance(fields, Response):
            return fields
        found = await self._render(fields["kind"], fields["language"], fields["sample"], fields.get("payload"))
        return JSONResponse(found, status_code=found.pop("status", 200), headers=_HEADERS)

    async def send(self, request: Request) -> Response:
        """Send one mail: the fields of `/view`, `to` and `provider`."""
        fields = await _json_fields(request)
        if isinstance(fields, Response):
            return fields
        found = await self._render(fields["kind"], fields["language"], fields["sample"], fields.get("payload"))
        recipient, provider = str(fields.get("to", "")).strip(), str(fields.get("provider", ""))
        if "error" in found:
            return _error(400, found["error"])
        if not usable(recipient) or provider not in self._sender.providers:
            return _error(400, "Enter an address, and choose a provider.")
        payload = json.loads(found["payload"])
        try:
            receipt = await self._sender.send(
                self._context, fields["kind"], fields["language"], payload, recipient=recipient, provider=provider
            )
        except LimitExceeded:
            return _error(429, "Too many mails were sent from this page. Please try again in a few minutes.")
        except (RenderingError, SendingError) as error:
            return _error(502, f"{provider} did not take it: {error}")
        log.info("preview.sent", provider=provider, kind=fields["kind"])
        return JSONResponse({"told": f"Sent by {provider}. {receipt.diagnostic}".strip()}, headers=_HEADERS)

    async def _render(self, kind: str, language: str, sample: str, text: Any) -> dict[str, Any]:
        """Return what the page shows, or `error`. Without a sample, the most common one of the kind is rendered."""
        if language not in self._context.inventory.kinds.get(kind, ()):
            return {"status": 404, "error": "There is no such kind in this language."}
        try:
            chosen = Sample(sample) if sample else common_sample(kind)
        except ValueError:
            return {"status": 400, "error": "There is no such payload."}
        text = sample_payload(self._context, kind, language, chosen) if text is None else text
        try:
            payload = json.loads(text)
        except (ValueError, TypeError, RecursionError) as error:
            return {"error": f"The payload is no JSON: {error}"}
        if not isinstance(payload, dict):
            return {"error": "The payload is a JSON object: {…}"}
        # In the background: parsing the HTML takes a few milliseconds, and codes are sent meanwhile.
        result = await asyncio.wrap_future(submit(lambda: view(self._context, kind, language, chosen, payload)))
        if isinstance(result, Finding):
            return {"payload": text, "error": f"{result.place}: {result.problem}".removeprefix(": ")}
        return {"payload": text, **result.as_json()}


async def _json_fields(request: Request) -> dict[str, Any] | Response:
    """Return the fields of a request of the page's script, or an error response."""
    if request.headers.get("content-type") != "application/json":
        return _error(415, "The preview takes JSON.")
    try:
        fields = json.loads(await request_body.body(request.scope, request.receive))
        names = {name: str(fields[name]) for name in ("kind", "language", "sample")}
    except (ValueError, KeyError, TypeError, RecursionError):
        return _error(400, "This is not a request of the preview's page.")
    except RequestError as error:
        return _error(error.response.status, error.response.sentence)
    return {**fields, **names}


def _error(status: int, sentence: str) -> Response:
    return PlainTextResponse(sentence, status_code=status, headers=_HEADERS)
